"""`shitu train`: the feature extractor."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from shitu.cli.options import print_json, print_result, progress_bar
from shitu.cli.training_options import cards, config_option, launch_options

EPILOG = """\b
Example:
  shitu train -c configs/train/demo_cpu.yaml -o Global.epochs=1
"""


@click.command("train", epilog=EPILOG)
@config_option
@launch_options
@click.option("--resume", is_flag=True, help="Go on with the run in Global.output_dir; start it where there is none.")
@click.option("--overwrite", is_flag=True, help="Start anew over an earlier run in Global.output_dir.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done: data, batches, learning rate, memory.")
@click.option("--ranks", type=click.IntRange(1), help="With --dry-run: for so many cards.")
def train(
    *,
    config_path: str,
    overrides: tuple[str, ...],
    gpus: str | None,
    nproc: int | None,
    ips: str | None,
    resume: bool,
    overwrite: bool,
    dry_run: bool,
    ranks: int | None,
) -> None:
    """Train the feature extractor.

    Reads PaddleClas's training configs. Weights, metrics.jsonl and curves.png go to Global.output_dir/RecModel.
    Ctrl-C saves and stops; --resume goes on at the same step.
    """
    from shitu.train import run
    from shitu.train.launch import is_launched, launch
    from shitu.train.schema import load_train_config

    config = load_train_config(config_path, overrides)
    count = cards(gpus, nproc, ips)
    if dry_run:
        for line in run.dry_run(config, ranks or count):
            print_result(line)
    elif (gpus or count > 1) and not is_launched():
        launch(sys.argv[1:], gpus=gpus, nproc=nproc, ips=ips, log_dir=Path(config.Global.output_dir) / "launch")
    else:
        bar = lambda steps: progress_bar(steps, "training", "steps")  # noqa: E731
        best = run.run_training(config, resume=resume, overwrite=overwrite, progress=bar)
        if best:
            print_json(best)
