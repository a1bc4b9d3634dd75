"""`shitu eval`: how well a feature extractor finds the images of a gallery."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from shitu.cli.options import print_json, print_result, progress_bar, record_format
from shitu.cli.training_options import cards, config_option, launch_options
from shitu.errors import UsageError

EPILOG = """\b
Example:
  shitu eval -c configs/train/demo_cpu.yaml -o Global.pretrained_model=output/best_model
"""


@click.command("eval", epilog=EPILOG)
@config_option
@launch_options
@record_format
def evaluate(  # noqa: PLR0917 - a command, called by click with names
    config_path: str, overrides: tuple[str, ...], gpus: str | None, nproc: int | None, ips: str | None, style: str
) -> None:
    """Evaluate a feature extractor: Recall@k, mAP, mINP.

    The weights are those of Global.pretrained_model, the lists those of DataLoader.Eval, the metrics those of
    Metric.Eval. `queries` counts those with an image of their label in the gallery, `left_out` the others.
    """
    from shitu.training.base import processes
    from shitu.training.base.launch import is_launched, launch
    from shitu.training.base.processes import use_device
    from shitu.training.rec.eval_lists import open_eval
    from shitu.training.rec.evaluate import evaluate as measure
    from shitu.training.rec.evaluate import open_network
    from shitu.training.rec.schema import load_train_config

    config = load_train_config(config_path, overrides)
    if (gpus or cards(gpus, nproc, ips) > 1) and not is_launched():
        if style == "table":
            raise UsageError("--format table is printed by one process; leave it out for JSON")
        log_dir = Path(config.Global.output_dir) / "launch_eval"
        launch(sys.argv[1:], gpus=gpus, nproc=nproc, ips=ips, log_dir=log_dir)
        return
    use_device(config.Global.device)
    rank, world = processes.start()
    lists = open_eval(config.DataLoader.Eval, config.source)
    network = open_network(config)
    with progress_bar(lists.image_count // world, "embedding") as bar:
        found = measure(network, lists, config, rank=rank, world=world, progress=bar.update)
    if rank == 0:
        _print(found, style)


def _print(found: dict[str, float], style: str) -> None:
    counts = ("queries", "left_out", "bad_images")
    record = {name: int(value) if name in counts else round(value, 6) for name, value in found.items()}
    if style == "json":
        print_json(record)
        return
    from tabulate import tabulate

    rows = [(name, f"{value:,}" if name in counts else f"{value:.4f}") for name, value in record.items()]
    print_result(tabulate(rows, tablefmt="plain", colalign=("left", "right"), disable_numparse=True))
