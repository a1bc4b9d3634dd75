"""`shitu export`: trained weights -> a model folder."""

from __future__ import annotations

import click

from shitu.cli.options import print_json
from shitu.cli.training_options import config_option

EPILOG = """\b
Example:
  shitu export -c configs/train/demo_cpu.yaml -o Global.pretrained_model=output/best_model
"""


@click.command("export", epilog=EPILOG)
@config_option
@click.option("--name", metavar="NAME", help="The model's name.  [default: the config's]")
@click.option("--licence", metavar="TEXT", default="", help="Under what terms the weights may be used.")
@click.option("--onnx", is_flag=True, help="Write inference.onnx, too; needs paddle2onnx and onnxruntime.")
def export(config_path: str, overrides: tuple[str, ...], name: str | None, licence: str, onnx: bool) -> None:
    """Make a model for `shitu predict` of trained weights.

    Takes Global.pretrained_model, joins branches, folds batch norms, leaves out the head, and compares the result with
    the network before it replaces Global.save_inference_dir. Use it by -o Global.rec_inference_model_dir=FOLDER.
    """
    from shitu.training.base.processes import use_device
    from shitu.training.rec.export import export_config
    from shitu.training.rec.schema import load_train_config

    use_device("cpu")
    config = load_train_config(config_path, overrides)
    done = export_config(config, name=name, licence=licence, onnx=onnx)
    record = {"model": str(done.folder), "dimension": done.dimension, "difference": float(f"{done.difference:.1e}")}
    if done.onnx_difference is not None:
        record["onnx_difference"] = float(f"{done.onnx_difference:.1e}")
    print_json(record)
