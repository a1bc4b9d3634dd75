"""`shitu train-det`: the mainbody detector."""

from __future__ import annotations

from typing import Any

import click

from shitu.cli.options import print_json, print_message
from shitu.cli.training_options import config_option, launch_options, run_options, start

EPILOG = """\b
Example:
  shitu train-det -c configs/det/picodet_lcnet_x1_0_320_mainbody.yml --dry-run
"""


@click.command("train-det", epilog=EPILOG)
@config_option
@launch_options
@run_options("save_dir")
def train_det(*, config_path: str, overrides: tuple[str, ...], **how: Any) -> None:
    """Train the mainbody detector.

    Reads PaddleDetection's PicoDet configs, written in one file. Weights, metrics.jsonl and curves.png go to
    save_dir/NAME-OF-THE-CONFIG. Ctrl-C saves and stops; --resume goes on at the same step.
    """
    from shitu.training.det import run
    from shitu.training.det.schema import load_det_config

    config = load_det_config(config_path, overrides)
    best = start(run, config, config.run_dir / "launch", **how)
    if best:
        print_json(best)
        print_message(f"Next: shitu export-det -c {config_path} -o weights={config.run_dir / 'best_model'}")
