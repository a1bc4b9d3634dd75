"""`shitu eval-det`: how well a detector finds, in COCO's numbers."""

from __future__ import annotations

import click

from shitu.cli.options import print_json, print_result, progress_bar
from shitu.cli.training_options import config_option

EPILOG = """\b
Example:
  shitu eval-det -c configs/det/picodet_lcnet_x1_0_320_mainbody.yml -o weights=best.pdparams
"""


@click.command("eval-det", epilog=EPILOG)
@config_option
@click.option("--model", metavar="FOLDER|NAME", help="Measure an exported model instead of `weights`.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def eval_det(config_path: str, overrides: tuple[str, ...], model: str | None, form: str) -> None:
    """Measure a detector on EvalDataset: COCO's average precision (AP) and recall (AR).

    AP is the mean over IoU 0.5 to 0.95, AP50 and AP75 are at one IoU; small is below 32 x 32 pixels, large above
    96 x 96.
    """
    from shitu.training.det.evaluate import evaluate_config, evaluate_model
    from shitu.training.det.run import use_device
    from shitu.training.det.schema import load_det_config

    config = load_det_config(config_path, overrides)
    bar = lambda images: progress_bar(images, "evaluating")  # noqa: E731
    if model:
        results = evaluate_model(model, config, bar)
    else:
        use_device(config)
        results = evaluate_config(config, bar)
    if form == "json":
        print_json(results)
        return
    for name, value in results.items():
        shown = "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
        print_result(f"{name:<10} {shown}")
