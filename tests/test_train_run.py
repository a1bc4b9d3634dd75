"""`shitu train` as a user runs it: real processes, killed, interrupted, several at once."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from shitu.cli import main
from shitu.training.base.checkpoints import load_states
from tests.conftest import DEMO, ROOT, Run

CONFIG = ROOT / "configs" / "train" / "demo_cpu.yaml"
STEPS = 15  # of the config with 3 epochs: 240 images / 48


def arguments(output: Path, *more: str) -> list[str]:
    overrides = [
        f"Global.output_dir={output}",
        "Global.epochs=3",
        "Global.print_batch_step=1",
        "Global.eval_during_train=False",
        f"DataLoader.Train.dataset.image_root={DEMO}",
        f"DataLoader.Train.dataset.cls_label_path={DEMO / 'gallery.txt'}",
        *(each for each in more if not each.startswith("--")),
    ]
    options = [each for each in more if each.startswith("--")]
    return ["train", "-c", str(CONFIG), *(part for each in overrides for part in ("-o", each)), *options]


def records(output: Path) -> list[dict[str, float]]:
    path = output / "RecModel" / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def losses(output: Path) -> list[float]:
    return [record["loss"] for record in records(output) if "loss" in record]


def start(output: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "shitu", *arguments(output, *more)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(output: Path, step: int, process: subprocess.Popen[str]) -> None:
    limit = time.monotonic() + 60
    while len(losses(output)) < step and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.01)


def here(*arguments: str) -> Result:
    """The command line in this process: what needs none of its own is spared the second in which Paddle loads."""
    return CliRunner().invoke(main, arguments)


@pytest.fixture(scope="module", autouse=True)
def one_thread_each() -> Iterator[None]:
    """Networks this small only wait for each other's threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from start to end."""
    output = tmp_path_factory.mktemp("straight")
    process = start(output)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert len(losses(output)) == STEPS
    return output


def test_interrupted_then_killed_and_resumed_it_loses_no_digit(shitu: Run, straight: Path, tmp_path: Path) -> None:
    """Ctrl-C saves; after a kill -9 in the middle of an epoch it goes on from the last of every second step."""
    process = start(tmp_path)
    wait_for(tmp_path, 2, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "and saved; go on with --resume" in said
    assert "Traceback" not in said
    process = start(tmp_path, "Global.save_steps=2", "--resume")
    wait_for(tmp_path, 8, process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    done = shitu(*arguments(tmp_path, "--resume"))
    assert done.returncode == 0, done.stderr
    went_on = re.search(r"going on from \S+ at step (\d+) of 15", done.stderr)
    assert went_on
    assert 6 <= int(went_on[1]) < STEPS
    assert losses(tmp_path) == losses(straight)


def test_an_earlier_run_is_not_overwritten_unasked(straight: Path) -> None:
    before = losses(straight)
    done = here(*arguments(straight))
    assert done.exit_code == 2
    assert "holds an earlier run; go on with it: --resume, start over it: --overwrite" in done.stderr
    assert losses(straight) == before


def test_two_processes_train_as_one(shitu: Run, tmp_path: Path) -> None:
    """Two processes with a batch each, and one that accumulates two batches: the same batches, the same gradients.

    Batch norms see each batch by itself on either side, and their running statistics take no part in training, so
    nothing differs but the order of float additions.
    """
    two, one = tmp_path / "two", tmp_path / "one"
    batch = "DataLoader.Train.sampler.batch_size=24"
    done = shitu(*arguments(two, batch, "Global.epochs=1", "--nproc=2"))
    assert done.returncode == 0, done.stderr
    assert here(*arguments(one, batch, "Global.epochs=1", "Global.update_freq=2")).exit_code == 0
    assert len(losses(two)) == STEPS // 3
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)


def test_processes_stay_in_step_when_the_data_ends_unevenly(shitu: Run, tmp_path: Path) -> None:
    """235 images over 2 processes in batches of 50: the last batches are short, and the last image is alone."""
    uneven = tmp_path / "uneven.txt"
    uneven.write_text("".join((DEMO / "gallery.txt").read_text(encoding="utf-8").splitlines(keepends=True)[:235]))
    sampler = "DataLoader.Train.sampler={name: DistributedBatchSampler, batch_size: 50, shuffle: true}"
    settings = (f"DataLoader.Train.dataset.cls_label_path={uneven}", sampler, "Global.epochs=2")
    evaluated = (
        "Global.eval_during_train=True",
        *(f"DataLoader.Eval.{side}.dataset.image_root={DEMO}" for side in ("Query", "Gallery")),
        *(f"DataLoader.Eval.{side}.dataset.cls_label_path={uneven}" for side in ("Query", "Gallery")),
    )
    done = shitu(*arguments(tmp_path, *settings, *evaluated, "--nproc=2"))
    assert done.returncode == 0, done.stderr
    assert [record["step"] for record in records(tmp_path) if "loss" in record] == [1, 2, 3, 4, 5, 6]
    assert [record["queries"] for record in records(tmp_path) if "recall1" in record] == [234, 234]


def rank_of(pid: int) -> str | None:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    return next((each[18:].decode() for each in environment if each.startswith(b"PADDLE_TRAINER_ID=")), None)


def trainers(output: Path) -> dict[str, int]:
    """rank -> pid of the processes of a run; a data worker is a child of one of them."""
    found = {}
    for entry in sorted((int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()), reverse=True):
        rank = rank_of(entry)
        if rank is not None:
            try:
                words = Path(f"/proc/{entry}/cmdline").read_bytes()
            except OSError:
                continue
            if str(output).encode() in words:
                found[rank] = entry
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes in /proc")
def test_a_dying_process_ends_the_run_with_its_name(tmp_path: Path) -> None:
    process = start(tmp_path, "--nproc=2", "Global.epochs=200")
    wait_for(tmp_path, 2, process)
    os.kill(trainers(tmp_path)["1"], signal.SIGKILL)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "Error: process 1 was killed by SIGKILL, so all were stopped" in said
    assert "go on with --resume" in said


def test_several_processes_are_interrupted_together_and_go_on(shitu: Run, tmp_path: Path) -> None:
    process = start(tmp_path, "--nproc=2", "Global.epochs=200")
    wait_for(tmp_path, 2, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "and saved; go on with --resume" in said
    saved = len(losses(tmp_path))
    done = shitu(*arguments(tmp_path, "--nproc=2", f"Global.max_iters={saved + 3}", "--resume"))
    assert done.returncode == 0, done.stderr
    assert [int(record["step"]) for record in records(tmp_path)] == list(range(1, saved + 4))


def test_the_exported_summary_for_8_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run of the V2 recipe on 8 GPUs would do, worked out by hand for 120,000 images of 10,000 classes."""
    lines = (f"{number:06}.jpg {number % 10_000}\n" for number in range(120_000))
    (tmp_path / "list.txt").write_text("".join(lines))
    overrides = [
        f"DataLoader.Train.dataset.cls_label_path={tmp_path / 'list.txt'}",
        "DataLoader.Train.dataset.check_files=False",
        "DataLoader.Train.sampler.id_list=[]",
        "DataLoader.Train.sampler.ratio=[]",
        "Arch.Head.class_num=10000",
        "Global.eval_during_train=False",  # a dry run would miss the lists
    ]
    config = ROOT / "configs" / "train" / "GeneralRecognitionV2_PPLCNetV2_base.yaml"
    settings = [part for each in overrides for part in ("-o", each)]
    monkeypatch.chdir(tmp_path)
    done = here("train", "-c", str(config), *settings, "--dry-run", "--ranks", "8")
    assert done.exit_code == 0, done.stderr
    assert "120,000 images, 10,000 classes; 12 to 12 images each" in done.stdout
    assert "64 classes x 4 images in each batch" in done.stdout
    # 120,000 / (8 x 256) = 58.6 steps; warm-up 5 epochs of 59 steps to 0.06
    assert "100 epochs of 59 steps" in done.stdout
    assert "0 -> 0.06 in 295 steps" in done.stdout
    assert "linear rule, 2048 / 2048 = 1" in done.stdout
    rates = {match[1]: float(match[2]) for match in re.finditer(r"\s([\d,]+)\s+([\d.e-]+)$", done.stdout, re.MULTILINE)}
    assert rates["295"] == 0.06
    assert rates["0"] == 0
    assert "a card" in done.stdout
    on_four = here("train", "-c", str(config), *settings, "--dry-run", "--ranks", "4")
    assert "linear rule, 1024 / 2048 = 0.5" in on_four.stdout
    assert not (tmp_path / "output").exists()


ONE_CLASS = "a.jpg 0\nb.jpg 0\n"
TRAIN = "DataLoader.Train"
BAD = {
    "no list": ([f"{TRAIN}.dataset.cls_label_path=missing.txt"], "missing.txt"),
    "no images": ([f"{TRAIN}.dataset.image_root=elsewhere"], "240 of 240"),
    "labels are names": ([f"{TRAIN}.dataset.relabel=False"], "is no integer"),
    "P×K too large": ([f"{TRAIN}.sampler.batch_size=300"], "a batch needs 100 classes"),
    "K does not divide": ([f"{TRAIN}.sampler.batch_size=50"], "a multiple of sample_per_id"),
    "head too small": (["Arch.Head.class_num=3"], "80 classes"),
    "another backbone": (["Arch.Backbone.name=ResNet18"], "Arch.Neck.embedding_size"),
    "no such backbone": (["Arch.Backbone.name=PPLCNet_x2_6"], "PPLCNet_x2_5"),
    "unknown key": (["Global.epoch=3"], "did you mean Global.epochs?"),
    "unknown operator": ([f"{TRAIN}.dataset.transform_ops=[{{RandFlip: {{}}}}]"], "RandFlipImage"),
    "no loss": (["Loss.Train=[]"], "Loss"),
    "loss of another name": (["Loss.Train=[{CeLoss: {}}]"], "did you mean CELoss?"),
    "no weights": (["Global.pretrained_model=missing"], "no weights missing"),
    "no checkpoint": (["Global.checkpoints=missing"], "no checkpoint missing.pdstates"),
    "device": (["Global.device=tpu"], "gpu or cpu is wanted"),
    "frozen prefix": (["Arch.freeze_layers=[backbone.sten]"], "backbone.sten"),
    "layers frozen that hold random numbers": (["Arch.freeze_layers=[backbone]"], "no weights to start from"),
    "resume and overwrite": (["--resume", "--overwrite"], "--resume and --overwrite together"),
    "gpus": (["--gpus=a,b"], "--gpus a,b"),
    "gpus that are not there": (["--gpus=97"], "--gpus 97: this Paddle sees "),
    "gpus and nproc": (["--gpus=0,1", "--nproc=2"], "--gpus and --nproc together"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_anything_is_done(case: str, tmp_path: Path) -> None:
    settings, wanted = BAD[case]
    done = here(*arguments(tmp_path / "out", *settings))
    assert done.exit_code == 2, done.output + repr(done.exception)
    assert wanted in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("out/RecModel/*.pdparams"))


def test_one_class_cannot_be_told_from_others(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(ONE_CLASS)
    settings = (f"{TRAIN}.dataset.cls_label_path={tmp_path / 'list.txt'}", f"{TRAIN}.dataset.check_files=False")
    done = here(*arguments(tmp_path, *settings))
    assert done.exit_code == 2
    assert "a batch needs 16 classes (batch_size 48 / sample_per_id 3), but there are 1" in done.stderr


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_what_was_saved(tmp_path: Path) -> None:
    done = here(*arguments(tmp_path, "Optimizer.lr.learning_rate=1e30", "Optimizer.lr.warmup_epoch=1"))
    assert done.exit_code == 1
    assert "the loss is no number any more at step" in done.stderr
    assert "Optimizer.lr.learning_rate" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_checkpoint_of_another_network(straight: Path, tmp_path: Path) -> None:
    checkpoint = f"Global.checkpoints={straight / 'RecModel' / 'latest'}"
    done = here(*arguments(tmp_path, checkpoint, "Arch.Backbone.name=PPLCNet_x0_5"))
    assert done.exit_code == 2
    assert re.search(r"is of another network: \S+ is \[\d.*\], wanted \[\d", done.stderr)


def test_a_bad_image_is_replaced_by_its_own_class(tmp_path: Path) -> None:
    lines = (DEMO / "gallery.txt").read_text(encoding="utf-8").splitlines()
    (tmp_path / "bad.png").write_text("no picture")
    bad = [f"{tmp_path / 'bad.png'}\t{lines[0].split(chr(9))[1]}", *lines[1:]]
    (tmp_path / "list.txt").write_text("\n".join(bad), encoding="utf-8")
    done = here(*arguments(tmp_path, f"{TRAIN}.dataset.cls_label_path={tmp_path / 'list.txt'}"))
    assert done.exit_code == 0, done.stderr
    assert "bad.png" in done.stderr
    assert len(losses(tmp_path)) == STEPS


def test_a_full_disk_ends_the_run_with_a_message(tmp_path: Path) -> None:
    """A limit on the size of files stands for the end of the disk."""
    import resource

    command = [sys.executable, "-m", "shitu", *arguments(tmp_path)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)),
    )
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_evaluation_best_and_curves(tmp_path: Path) -> None:
    sides = [f"DataLoader.Eval.{side}.dataset" for side in ("Query", "Gallery")]
    paths = [
        setting
        for side in sides
        for setting in (f"{side}.image_root={DEMO}", f"{side}.cls_label_path={DEMO / 'gallery.txt'}")
    ]
    done = here(*arguments(tmp_path, "Global.eval_during_train=True", "EMA.decay=0.9", *paths))
    assert done.exit_code == 0, done.stderr
    results = [record for record in records(tmp_path) if "recall1" in record]
    assert len(results) == 3
    best = json.loads(done.stdout)
    assert best["recall1"] == max(record["recall1"] for record in results)
    folder = tmp_path / "RecModel"
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    names = ["best_model", "latest", "epoch_1", "epoch_2", "epoch_3"]
    assert {path.name for path in folder.glob("*.pdparams")} == {f"{name}.pdparams" for name in names}
    wanted = (folder / f"epoch_{best['epoch']}.pdparams").read_bytes()
    assert (folder / "best_model.pdparams").read_bytes() == wanted
    scores = [record["recall1"] for record in results]
    assert load_states(str(folder / "latest"))[1]["scores"] == pytest.approx(scores, abs=1e-6)  # ReduceOnPlateau's
