"""`shitu train-det`: the mainbody detector."""

from __future__ import annotations

import os
import sys

import click

from shitu.cli.options import print_json, print_message, print_result, progress_bar
from shitu.cli.training_options import cards, config_option, launch_options

EPILOG = """\b
Example:
  shitu train-det -c configs/det/picodet_lcnet_x1_0_320_mainbody.yml --dry-run
"""


@click.command("train-det", epilog=EPILOG)
@config_option
@launch_options
@click.option("--resume", is_flag=True, help="Go on with the run in save_dir; start it where there is none.")
@click.option("--overwrite", is_flag=True, help="Start anew over an earlier run in save_dir.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done: data, batches, learning rate, memory.")
@click.option("--ranks", type=click.IntRange(1), help="With --dry-run: for so many cards.")
def train_det(  # noqa: PLR0917, as many as options
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
    """Train the mainbody detector.

    Reads PaddleDetection's PicoDet configs, written in one file. Weights, metrics.jsonl and curves.png go to
    save_dir/NAME-OF-THE-CONFIG. Ctrl-C saves and stops; --resume goes on at the same step.
    """
    # Paddle reads it when it is imported; a quarter faster on a CPU
    os.environ.setdefault("FLAGS_use_onednn", "1")
    from shitu.train.launch import is_launched, launch
    from shitu.train_det import run
    from shitu.train_det.schema import load_det_config

    config = load_det_config(config_path, overrides)
    count = cards(gpus, nproc, ips)
    if dry_run:
        for line in run.dry_run(config, ranks or count):
            print_result(line)
    elif (gpus or count > 1) and not is_launched():
        launch(sys.argv[1:], gpus=gpus, nproc=nproc, ips=ips, log_dir=config.run_dir / "launch")
    else:
        bar = lambda steps: progress_bar(steps, "training", "steps")  # noqa: E731
        best = run.run_training(config, resume=resume, overwrite=overwrite, progress=bar)
        if best:
            print_json(best)
            print_message(f"Next: shitu export-det -c {config_path} -o weights={config.run_dir / 'best_model'}")
