"""`shitu export-det`: a trained detector as a model folder."""

from __future__ import annotations

import os
from pathlib import Path

import click

from shitu.cli.options import print_message, print_result
from shitu.cli.training_options import config_option

EPILOG = """\b
Example:
  shitu export-det -c configs/det/picodet_lcnet_x1_0_320_mainbody.yml -o weights=best.pdparams
"""


@click.command("export-det", epilog=EPILOG)
@config_option
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="The model folder to write.  [default: save_dir/NAME-OF-THE-CONFIG/inference]",
)
def export_det(config_path: str, overrides: tuple[str, ...], output_dir: Path | None) -> None:
    """Write a trained detector as a model folder for `shitu predict`.

    inference.json has the NMS inside, inference_raw.json ends before it, for other engines. Both are compared with the
    network's own output before the folder appears.
    """
    os.environ.setdefault("GLOG_minloglevel", "2")  # Paddle remarks on the NMS
    from shitu.training.det.export import export_detector
    from shitu.training.det.run import use_device
    from shitu.training.det.schema import load_det_config

    config = load_det_config(config_path, (*overrides, "use_gpu=false"))
    use_device(config)
    folder = export_detector(config, output_dir)
    print_result(str(folder))
    print_message(f"Next: shitu predict -o Global.det_inference_model_dir={folder} demo/photos/beach.jpg")
