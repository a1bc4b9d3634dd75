"""`shitu train`: the feature extractor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from shitu.cli.options import print_json
from shitu.cli.training_options import config_option, launch_options, run_options, start

EPILOG = """\b
Example:
  shitu train -c configs/train/demo_cpu.yaml -o Global.epochs=1
"""


@click.command("train", epilog=EPILOG)
@config_option
@launch_options
@run_options("Global.output_dir")
def train(*, config_path: str, overrides: tuple[str, ...], **how: Any) -> None:
    """Train the feature extractor.

    Reads PaddleClas's training configs. Weights, metrics.jsonl and curves.png go to Global.output_dir/RecModel.
    Ctrl-C saves and stops; --resume goes on at the same step.
    """
    from shitu.training.rec import run
    from shitu.training.rec.schema import load_train_config

    config = load_train_config(config_path, overrides)
    best = start(run, config, Path(config.Global.output_dir) / "launch", **how)
    if best:
        print_json(best)
