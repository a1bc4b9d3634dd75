"""`shitu train`, `eval`, `export` for the feature extractor, and `train-det`, `eval-det`, `export-det`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

from shitu.cli import out
from shitu.cli.options import example, format_option, override_option, reading, together
from shitu.errors import UsageError

if TYPE_CHECKING:
    from shitu.training.det.schema import DetConfig
    from shitu.training.rec.schema import TrainConfig

COUNTS = ("queries", "left_out", "bad_images")
config_option = together(
    click.option("-c", "--config", "config_path", metavar="FILE", required=True, help="YAML config."), override_option()
)
# As paddle.distributed.launch has them.
launch_options = together(
    click.option("--gpus", metavar="LIST", help="One process per GPU, e.g. 0,1,2,3,4,5,6,7."),
    click.option("--nproc", type=click.IntRange(1), help="So many processes on the CPU."),
    click.option("--ips", metavar="LIST", help="Several machines, e.g. 10.0.0.1,10.0.0.2; run the same on each."),
)
run_options = together(
    click.option("--resume", is_flag=True, help="Go on with the run that is there; start it where there is none."),
    click.option("--overwrite", is_flag=True, help="Start anew over an earlier run."),
    click.option("--dry-run", is_flag=True, help="Only show what would be done: data, batches, learning rate, memory."),
    click.option("--ranks", type=click.IntRange(1), help="With --dry-run: for so many cards."),
)
show_option = click.option(
    "--show-batches", type=click.IntRange(1, 100), metavar="N", help="Only draw the first N batches, as they are fed."
)
ONNX = click.option(
    "--onnx/--no-onnx",
    default=None,
    help="A program for onnxruntime and openvino, too.  [default: where paddle2onnx is installed]",
)
EXTRACTOR, DETECTOR = "configs/train/demo_cpu.yaml", "configs/det/picodet_lcnet_x1_0_320_mainbody.yml"


def _extractor(config_path: str, overrides: tuple[str, ...]) -> TrainConfig:
    from shitu.training.rec.schema import load_train_config

    return load_train_config(config_path, overrides)


def _detector(config_path: str, overrides: tuple[str, ...]) -> DetConfig:
    from shitu.training.det.schema import load_det_config

    return load_det_config(config_path, overrides)


with_extractor = reading(config_option, "config", _extractor)
with_detector = reading(config_option, "config", _detector)


@click.command("train", epilog=example(f"train -c {EXTRACTOR} -o Global.epochs=1"))
@with_extractor
@launch_options
@run_options
@show_option
@click.option("--find-lr", is_flag=True, help="Only look for a learning rate: 100 steps in which it rises.")
def train(config: TrainConfig, show_batches: int | None, find_lr: bool, **how: Any) -> None:
    """Train the feature extractor.

    Reads PaddleClas's training configs. Weights, metrics.jsonl and curves.png go to Global.output_dir/RecModel.
    Ctrl-C saves and stops; --resume goes on at the same step.
    """
    from shitu.training.rec import run

    if show_batches or find_lr:
        _look(config, show_batches, find_lr=find_lr, **how)
        return

    if best := _start(run, config, Path(config.Global.output_dir) / "launch", **how):
        out.record(best)


@click.command("train-det", epilog=example(f"train-det -c {DETECTOR} --dry-run"))
@with_detector
@launch_options
@run_options
@show_option
def train_det(config: DetConfig, show_batches: int | None, **how: Any) -> None:
    """Train the mainbody detector.

    Reads PaddleDetection's PicoDet configs, with `_BASE_`. Weights, metrics.jsonl and curves.png go to
    save_dir/NAME-OF-THE-CONFIG. Ctrl-C saves and stops; --resume goes on at the same step.
    """
    from shitu.training.det import run

    if show_batches:
        from shitu.training.det.look import show_batches as draw

        _nothing_else(**{name: how[name] for name in ("resume", "overwrite", "dry_run", "ranks")})
        _name(draw(config, show_batches))
        return
    if best := _start(run, config, config.run_dir / "launch", **how):
        out.record(best)
        out.message(f"Next: shitu export-det -c {config.source} -o weights={config.run_dir / 'best_model'}")


def _start(run: ModuleType, config: Any, log_dir: Path, *, dry_run: bool, ranks: int | None, **how: Any) -> Any:
    """Train with `run`'s run_training or show its dry_run. Returns the best evaluation of a run in this process."""
    launching = {name: how.pop(name) for name in ("gpus", "nproc", "ips")}
    if dry_run:
        for line in run.dry_run(config, ranks or _cards(**launching)):
            out.line(line)
        return None
    if _launched(log_dir, **launching):
        return None
    return run.run_training(config, progress=_steps("training"), **how)


def _look(
    config: TrainConfig, batches: int | None, *, find_lr: bool, gpus: Any, nproc: Any, ips: Any, **how: Any
) -> None:
    from shitu.training.rec import look

    places = {"gpus": gpus, "nproc": nproc, "ips": ips}
    _nothing_else(**how, find_lr=find_lr and batches)
    if batches:
        _name(look.show_batches(config, batches, world=_cards(**places)))
    elif not _launched(Path(config.Global.output_dir) / "launch_find_lr", **places):
        found = look.find_lr(config, progress=_steps("looking for a rate"))
        if found:
            out.record(found)


def _nothing_else(**how: Any) -> None:
    """UsageError where one who only wants to look wants something else, too."""
    if others := [f"--{name.replace('_', '-')}" for name, value in how.items() if value]:
        raise UsageError(f"--show-batches and --find-lr only look, and one at a time; leave out {', '.join(others)}")


def _steps(what: str) -> Callable[[int], AbstractContextManager[Any]]:
    return lambda steps: out.progress(steps, what, "steps")


def _name(paths: Sequence[Path]) -> None:
    for path in paths:
        out.line(str(path))


def _launched(log_dir: Path, **launching: Any) -> bool:
    """Whether this command was run by several processes, which these options ask for, and is done."""
    from shitu.training.base.launch import is_launched, launch

    if not (launching["gpus"] or _cards(**launching) > 1) or is_launched():
        return False
    launch(sys.argv[1:], log_dir=log_dir, **launching)
    return True


def _cards(gpus: str | None, nproc: int | None, ips: str | None) -> int:
    """How many processes these options mean, over all machines."""
    here = len(gpus.split(",")) if gpus else nproc or 1
    return here * (len(ips.split(",")) if ips else 1)


@click.command("eval", epilog=example(f"eval -c {EXTRACTOR} -o Global.pretrained_model=output/best_model"))
@with_extractor
@launch_options
@format_option("json")
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="FILE.html", help="A page of the hardest pairs, with pictures."
)
def evaluate(config: TrainConfig, style: str, report: Path | None, **launching: Any) -> None:
    """Evaluate a feature extractor: Recall@k, mAP, mINP.

    The weights are those of Global.pretrained_model, the lists those of DataLoader.Eval, the metrics those of
    Metric.Eval. `queries` counts those with an image of their label in the gallery, `left_out` the others.
    """
    from shitu.training.base import processes
    from shitu.training.base.processes import use_device
    from shitu.training.rec.eval_lists import open_eval
    from shitu.training.rec.evaluate import evaluate as measure
    from shitu.training.rec.evaluate import open_network
    from shitu.training.rec.report import report_of

    if style == "table" and (launching["gpus"] or _cards(**launching) > 1):
        raise UsageError("--format table is printed by one process; leave it out for JSON")
    if _launched(Path(config.Global.output_dir) / "launch_eval", **launching):
        return
    use_device(config.Global.device)
    rank, world = processes.start()
    lists = open_eval(config.DataLoader.Eval, config.source)
    page = report_of(lists, report, config) if report else None
    network = open_network(config)
    with out.progress(lists.image_count // world, "embedding") as bar:
        watched = {"look": page.look} if page else {}
        found = measure(network, lists, config, rank=rank, world=world, progress=bar.update, **watched)
    if rank == 0:
        record = {name: int(value) if name in COUNTS else round(value, 6) for name, value in found.items()}
        rows = [(name, f"{value:,}" if name in COUNTS else f"{value:.4f}") for name, value in record.items()]
        if page:
            page.write(dict(rows))
        out.show(style, record, lambda: out.table(rows, tablefmt="plain", colalign=("left", "right")))


@click.command("eval-det", epilog=example(f"eval-det -c {DETECTOR} -o weights=best.pdparams"))
@with_detector
@click.option("--model", metavar="FOLDER|NAME", help="Measure an exported model instead of `weights`.")
@format_option("table")
def eval_det(config: DetConfig, model: str | None, style: str) -> None:
    """Measure a detector on EvalDataset: COCO's average precision (AP) and recall (AR).

    AP is the mean over IoU 0.5 to 0.95, AP50 and AP75 are at one IoU; small is below 32 x 32 pixels, large above
    96 x 96.
    """
    from shitu.training.det.evaluate import evaluate_config, evaluate_model
    from shitu.training.det.run import use_device

    bar = lambda images: out.progress(images, "evaluating")  # noqa: E731
    if model:
        results = evaluate_model(model, config, bar)
    else:
        use_device(config)
        results = evaluate_config(config, bar)
    values = {name: f"{value:.4f}" if isinstance(value, float) else value for name, value in results.items()}
    lines = [f"{name:<10} {'-' if value is None else value}" for name, value in values.items()]
    out.show(style, results, lambda: "\n".join(lines))


@click.command("export", epilog=example(f"export -c {EXTRACTOR} -o Global.pretrained_model=output/best_model"))
@with_extractor
@click.option("--name", metavar="NAME", help="The model's name.  [default: the config's]")
@click.option("--licence", metavar="TEXT", default="", help="Under what terms the weights may be used.")
@ONNX
def export(config: TrainConfig, **how: Any) -> None:
    """Make a model for `shitu predict` of trained weights.

    Takes Global.pretrained_model, joins branches, folds batch norms, leaves out the head, and compares the result with
    the network before it replaces Global.save_inference_dir. Use it by -o Global.rec_inference_model_dir=FOLDER.
    """
    from shitu.training.base.processes import use_device
    from shitu.training.rec.export import export_config

    use_device("cpu")
    done = export_config(config, **how)
    record = {"model": str(done.folder), "dimension": done.dimension, "difference": float(f"{done.difference:.1e}")}
    out.record({**record, "onnx": done.onnx})


@click.command("export-det", epilog=example(f"export-det -c {DETECTOR} -o weights=best.pdparams"))
@config_option
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="The model folder to write.  [default: save_dir/NAME-OF-THE-CONFIG/inference]",
)
@ONNX
def export_det(config_path: str, overrides: tuple[str, ...], output_dir: Path | None, onnx: bool | None) -> None:
    """Write a trained detector as a model folder for `shitu predict`.

    inference.json has the NMS inside, inference_raw.json ends before it, inference.onnx too, for other engines. They
    are compared with the network's own output, and the last with Paddle's, before the folder appears.
    """
    os.environ.setdefault("GLOG_minloglevel", "2")  # Paddle remarks on the NMS
    from shitu.training.det.export import export_detector
    from shitu.training.det.run import use_device
    from shitu.training.det.schema import load_det_config

    config = load_det_config(config_path, (*overrides, "use_gpu=false"))
    use_device(config)
    folder = export_detector(config, output_dir, onnx=onnx)
    out.line(str(folder))
    out.message(f"Next: shitu predict -o Global.det_inference_model_dir={folder} demo/photos/beach.jpg")
