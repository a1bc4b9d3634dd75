"""`shitu train` on a GPU build of Paddle: miniatures by the command line, and a table of what passed. See README.md.

Needs no more than shitu with its extra `train`, and a checkout (the demo's drawings, tests/train_det_set.py).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent.parent
DEMO = ROOT / "demo"
SMALL, REAL = ROOT / "configs/train/demo_cpu.yaml", ROOT / "configs/train/GeneralRecognitionV2_PPLCNetV2_base.yaml"
STEPS = 6
NO_DROPOUT = "Arch.Backbone.dropout_prob=0"
LIMIT = 600  # seconds for one command


class FailedError(Exception):
    """What was seen, and what was wanted."""


class LeftOutError(Exception):
    """Why a check could not be made here."""


@dataclass(frozen=True)
class Machine:
    gpu: bool
    cards: int
    output: Path

    @property
    def close(self) -> float:
        """How far losses may differ that a CPU repeats to the last bit: GPUs add in any order, and may use TF32."""
        return 5e-3 if self.gpu else 0.0


def shitu(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Raises FailedError where the command ends otherwise."""
    command = [sys.executable, "-m", "shitu", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT, cwd=ROOT)
    if done.returncode != status:
        said = " / ".join(done.stderr.strip().splitlines()[-4:])
        raise FailedError(f"`shitu {arguments[0]}` ended with {done.returncode}: {said}")
    return done


def train(machine: Machine, name: str, *more: str, cpu: bool = False) -> Path:
    """STEPS steps of the demo's config into output/NAME; `more` holds overrides, and options that begin with --.

    Without dropout and at a constant rate, so that runs of other lengths, cards and devices are comparable.
    """
    folder = machine.output / name
    sides = ("Train", "Eval.Query", "Eval.Gallery")
    overrides = [
        *(f"Global.output_dir={folder}", f"Global.device={'gpu' if machine.gpu and not cpu else 'cpu'}"),
        *(f"Global.max_iters={STEPS}", "Global.print_batch_step=1", NO_DROPOUT),
        *("Optimizer.lr={name: Constant, learning_rate: 0.02}", "EMA.decay=0.5"),
        *(f"DataLoader.{side}.dataset.image_root={DEMO}" for side in sides),
        *(f"DataLoader.{side}.dataset.cls_label_path={DEMO / 'gallery.txt'}" for side in sides),
        *(each for each in more if not each.startswith("--")),
    ]
    start = machine.output / "start" / "RecModel" / "latest"
    if name != "start":  # the same weights on every device: random ones differ
        if not start.with_suffix(".pdparams").exists():
            train(machine, "start", "Global.max_iters=1", "Global.eval_during_train=False", cpu=True)
        overrides.append(f"Global.pretrained_model={start}")
    options = [each for each in more if each.startswith("--")]
    settings = [part for each in overrides for part in ("-o", each)]
    fresh = [] if "--resume" in options else ["--overwrite"]
    shitu("train", "-c", str(SMALL), *settings, *options, *fresh)
    return folder / "RecModel"


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def losses(folder: Path) -> list[float]:
    found = [record["loss"] for record in records(folder) if "loss" in record]
    if any(value is None for value in found):
        raise FailedError(f"losses {found}")
    return found


def compare(found: Sequence[float], wanted: Sequence[float], rtol: float) -> str:
    """How far apart; raises FailedError where that is more than `rtol` of what was wanted."""
    if len(found) != len(wanted):
        raise FailedError(f"{len(found)} losses for {len(wanted)}")
    apart = max(abs(one - other) / abs(other) for one, other in zip(found, wanted, strict=True))
    if apart > rtol:
        raise FailedError(f"{apart:.1e} apart, at most {rtol:.0e} wanted: {found} for {wanted}")
    return f"{apart:.0e} apart" if apart else "equal to the last bit"


def weights(folder: Path, name: str) -> dict[str, np.ndarray]:
    import paddle

    return {key: np.asarray(value) for key, value in paddle.load(str(folder / f"{name}.pdparams")).items()}


# --- the checks ----------------------------------------------------------------------------------------------------


def fp32(machine: Machine) -> str:
    """Losses of the first steps against those of the CPU; later ones drift."""
    here = losses(train(machine, "fp32"))
    if not machine.gpu:
        return f"losses {here[0]:.3f} to {here[-1]:.3f}"
    there = losses(train(machine, "fp32_cpu", "Global.max_iters=2", cpu=True))
    return f"the CPU's first two: {compare(here[:2], there, 5e-3)}"


def resume(machine: Machine) -> str:
    """Three steps and then the other three, against six."""
    straight = losses(train(machine, "straight"))
    train(machine, "resumed", "Global.max_iters=3")
    return compare(losses(train(machine, "resumed", "--resume")), straight, machine.close)


def amp(level: str, dtype: str) -> Callable[[Machine], str]:
    def check(machine: Machine) -> str:
        """Trained, resumed and exported; near float32 at first; a moving average that moves."""
        straight = losses(train(machine, "straight"))
        name = f"amp_{level}_{dtype}"
        section = f"AMP={{level: {level}, dtype: {dtype}, scale_loss: 128.0, use_dynamic_loss_scaling: true}}"
        train(machine, name, section, "Global.max_iters=3")
        folder = train(machine, name, section, "--resume")
        apart = compare(losses(folder)[:1], straight[:1], 3e-2 if machine.gpu else 0.0)
        start, end = weights(machine.output / "start" / "RecModel", "latest"), weights(folder, "latest")
        learning = [key for key in start if key in end and not key.endswith(("_mean", "_variance"))]
        moved = max(float(np.abs(end[key].astype(np.float32) - start[key]).max()) for key in learning)
        if not 0 < moved < 10:
            raise FailedError(f"the average's weights moved by {moved}")
        if not (folder / "inference" / "model.yaml").exists():
            raise FailedError("no model was exported")
        return f"float32's first loss: {apart}" if machine.gpu else "a warning, then float32: the CPU has no AMP"

    return check


def recompute(machine: Machine) -> str:
    """Gradient checkpointing: the same losses, and less memory where there is a GPU."""
    straight = train(machine, "straight")
    folder = train(machine, "recompute", "Arch.recompute=True")
    said = compare(losses(folder), losses(straight), machine.close)
    peaks = [max(record.get("gpu_gb", 0.0) for record in records(each)) for each in (straight, folder)]
    return f"{said}; {peaks[0]} GB, recomputing {peaks[1]} GB" if machine.gpu else said


def evaluate(machine: Machine) -> str:
    """What the run said of its best weights, against `shitu eval` of them here and on the CPU."""
    folder = train(machine, "fp32")
    told = max((record for record in records(folder) if "recall1" in record), key=lambda each: float(each["recall1"]))
    found = []
    for device in dict.fromkeys(("gpu" if machine.gpu else "cpu", "cpu")):
        settings = [f"Global.pretrained_model={folder / 'best_model'}", f"Global.device={device}", NO_DROPOUT]
        settings += [
            f"DataLoader.Eval.{side}.dataset.{key}={value}"
            for side in ("Query", "Gallery")
            for key, value in (("image_root", DEMO), ("cls_label_path", DEMO / "gallery.txt"))
        ]
        options = [part for each in settings for part in ("-o", each)]
        found.append(json.loads(shitu("eval", "-c", str(SMALL), *options).stdout)["mAP"])
    if max(abs(each - told["mAP"]) for each in found) > max(machine.close, 1e-6):
        raise FailedError(f"mAP {told['mAP']} in the run, {found} by shitu eval")
    return f"mAP {told['mAP']:.4f} in the run, {', '.join(f'{each:.4f}' for each in found)} after it"


def several(name: str, *more: str, wanted: bool) -> Callable[[Machine], str]:
    def check(machine: Machine) -> str:
        """Two processes with a batch each, against one that accumulates two."""
        if machine.gpu and machine.cards < 2:
            raise LeftOutError("one card")
        if not (machine.gpu or wanted):
            raise LeftOutError("needs GPUs")
        batch = "DataLoader.Train.sampler.batch_size=24"
        two = losses(train(machine, name, batch, *more, "--gpus=0,1" if machine.gpu else "--nproc=2"))
        if not wanted:
            return f"losses {two[0]:.3f} to {two[-1]:.3f}"
        return compare(two, losses(train(machine, f"{name}_one", batch, *more, "Global.update_freq=2")), 5e-3)

    return check


def detector(machine: Machine) -> str:
    """PicoDet on 16 small scenes: trained, resumed, exported."""
    sys.path.insert(0, str(ROOT))
    from tests.train_det_set import CONFIG, small, write_coco_set

    data = machine.output / "coco"
    for name, images in (("train", 16), ("val", 4)):
        write_coco_set(data, images=images, name=name)
    overrides = small(data, machine.output / "det", epoch=1, use_gpu=machine.gpu)
    settings = [part for each in overrides for part in ("-o", each)]
    shitu("train-det", "-c", str(CONFIG), *settings, "--overwrite")
    shitu("train-det", "-c", str(CONFIG), *settings, "-o", "epoch=2", "--resume")
    folder = machine.output / "det" / CONFIG.stem
    shitu("export-det", "-c", str(CONFIG), *settings, "-o", f"weights={folder / 'best_model'}", "--no-onnx")
    found = losses(folder)
    return f"losses {found[0]:.3f} to {found[-1]:.3f} in {len(found)} steps"


def speed(*more: str, gpu_only: bool = False) -> Callable[[Machine], str]:
    def check(machine: Machine) -> str:
        """PP-ShiTuV2's recipe on one card, on the demo's drawings; a CPU takes 2 steps of 8, for 100 classes."""
        if gpu_only and not machine.gpu:
            raise LeftOutError("needs a GPU")
        lines = (DEMO / "gallery.txt").read_text(encoding="utf-8").splitlines()
        batch, classes, steps = (256, 192_612, 40) if machine.gpu else (8, 100, 2)
        listed = machine.output / "speed.txt"
        paths = [line.split("\t")[0] for line in lines]
        numbers = np.arange(batch * steps)
        text = "".join(f"{DEMO / paths[n % len(paths)]}\t{n // 4 % classes}\n" for n in numbers)
        listed.write_text(text, encoding="utf-8")
        overrides = [
            *(f"Global.output_dir={machine.output / 'speed'}", f"Global.device={'gpu' if machine.gpu else 'cpu'}"),
            *(f"Global.max_iters={steps}", "Global.eval_during_train=False", f"Global.print_batch_step={steps // 2}"),
            *(
                f"Arch.Head.class_num={classes}",
                "Arch.Backbone.pretrained=null",
                "DataLoader.Train.dataset.image_root=/",
            ),
            *(f"DataLoader.Train.dataset.cls_label_path={listed}"),
            "DataLoader.Train.dataset.delimiter='\t'",
            *(f"DataLoader.Train.sampler.batch_size={batch}", "DataLoader.Train.sampler.id_list=[]"),
            *("DataLoader.Train.sampler.ratio=[]", f"DataLoader.Train.loader.num_workers={16 if machine.gpu else 0}"),
            *more,
        ]
        settings = [part for each in overrides for part in ("-o", each)]
        shitu("train", "-c", str(REAL), *settings, "--overwrite")
        last = records(machine.output / "speed" / "RecModel")[-1]
        memory = f", {last['gpu_gb']} GB" if "gpu_gb" in last else ""
        wait = f"{100 * last['data_wait']:.0f} % of it waiting for data"
        return f"{last['images_per_s']} images/s, {wait}{memory}, {classes:,} classes, batch {batch}"

    return check


CHECKS: dict[str, Callable[[Machine], str]] = {
    "fp32": fp32,
    "resume": resume,
    **{f"amp-{level}-{kind}": amp(level, kind) for level in ("O1", "O2") for kind in ("float16", "bfloat16")},
    "recompute": recompute,
    "eval": evaluate,
    "two-processes": several("two", wanted=True),
    "two-processes-O2": several("two_O2", "AMP={level: O2, dtype: float16}", wanted=False),
    "two-processes-sync-bn": several("two_sync", "Arch.use_sync_bn=True", wanted=False),
    "detector": detector,
    "speed-fp32": speed(),
    "speed-O1": speed("AMP={level: O1, dtype: float16}", gpu_only=True),
    "speed-O1-recompute": speed("AMP={level: O1, dtype: float16}", "Arch.recompute=True", gpu_only=True),
}


def made(check: Callable[[Machine], str], machine: Machine) -> tuple[str, str]:
    """passed, FAILED or left out, and what was seen."""
    try:
        return "passed", check(machine)
    except LeftOutError as error:
        return "left out", str(error)
    except FailedError as error:
        return "FAILED", str(error)
    except subprocess.TimeoutExpired as error:
        return "FAILED", f"not done after {error.timeout:.0f} s"
    except (OSError, KeyError, IndexError, ValueError) as error:
        return "FAILED", repr(error)


def machine_of(output: Path, *, cpu: bool) -> tuple[Machine, str]:
    import paddle

    cards = paddle.device.cuda.device_count() if paddle.device.is_compiled_with_cuda() else 0
    if not (cpu or cards):
        raise SystemExit("this Paddle sees no GPU; docs/training.md says how it comes in, --cpu does what a CPU can")
    name = "the CPU" if cpu else f"{cards} x {paddle.device.cuda.get_device_name(0)}, CUDA {paddle.version.cuda()}"
    return Machine(gpu=not cpu, cards=cards, output=output.resolve()), f"Paddle {paddle.__version__} on {name}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("output/gpu_training"))
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=list(CHECKS), metavar="CHECK")
    parser.add_argument("--list", action="store_true")
    wanted = parser.parse_args()
    if wanted.list:
        print(*CHECKS, sep="\n")
        return 0
    wanted.output.mkdir(parents=True, exist_ok=True)
    machine, where = machine_of(wanted.output, cpu=wanted.cpu)
    print(where, flush=True)
    results = {}
    for name in wanted.only:
        began = time.monotonic()
        results[name] = made(CHECKS[name], machine)
        print(f"{name:<22}{results[name][0]:<9}{time.monotonic() - began:4.0f} s  {results[name][1]}", flush=True)
    print(json.dumps({"where": where, **{name: list(result) for name, result in results.items()}}))
    return int(any(result == "FAILED" for result, _ in results.values()))


if __name__ == "__main__":
    raise SystemExit(main())
