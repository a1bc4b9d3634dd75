"""`shitu quantize`: a model's int8 program, and what it costs."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shitu.cli.options import Within
from shitu.cli.out import line, message
from shitu.errors import UsageError

if TYPE_CHECKING:
    from shitu.convert.quantize import Report

SHOWN = 6  # worst layers in the table


@click.command(
    epilog="\b\nExample:\n"
    "  shitu quantize efficientnet_lite0_512 --out output/int8 --images demo/gallery --method minmax\n"
)
@click.argument("model", metavar="NAME|FOLDER")
@click.option("--images", required=True, metavar="LIST|FOLDER", help="Photos to calibrate with, such as those to come: "
              "a list (path<TAB>label, or paths), a folder of photos, a gallery.")  # fmt: skip
@click.option("--image-root", metavar="DIR", help="Where the paths of lists start.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="A copy that gets it.  [default: none]")
@click.option(
    "--method",
    type=click.Choice(["kl", "percentile", "minmax"]),
    default="kl",
    show_default=True,
    help="How ranges are found.",
)
@click.option("--count", type=click.IntRange(1), default=64, show_default=True, help="Photos to calibrate with.")
@click.option("--query", metavar="LIST", help="Labelled photos to measure with; for a detector COCO's JSON.  [default: "
              "those of --images that do not calibrate]")  # fmt: skip
@click.option("--gallery", metavar="LIST", help="What --query is looked up in.  [default: the others of --query]")
@click.option("--max-drop", type=Within(0), help="Points of Recall@1 or AP that may be lost; layers stay in "
              "fp32 until no more are.  [default: 0.5 where photos have labels]")  # fmt: skip
@click.option(
    "--groups",
    type=click.IntRange(2),
    default=24,
    show_default=True,
    help="In how many groups of neighbours layers are tried in fp32: more is finer, and slower.",
)
@click.option(
    "--engine",
    type=click.Choice(["onnxruntime", "openvino"]),
    default="onnxruntime",
    show_default=True,
    help="What shall run it: onnxruntime (and openvino), or openvino alone, which a hard swish does not slow down.",
)
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="JSON with all figures and layers.")
def quantize(*, model: str, out: Path | None, report: Path | None, **asked: Any) -> None:
    """Make an int8 program of a model's fp32 ONNX program, by calibration.

    Global.precision auto takes it where the processor is fast in int8 and it
    agrees with fp32, which model.yaml says: vectors by a cosine of 0.99, boxes by a share of 0.95 with a twin.
    """
    from shitu.convert.folder import in_copy
    from shitu.convert.quantize import Plan, quantize_model, write_report

    if asked["gallery"] and not asked["query"]:
        raise UsageError("--gallery is what --query is looked up in; give both, or neither")
    plan = Plan(**asked, command=shlex.join(["shitu", *sys.argv[1:]]))
    done = in_copy(model, out, lambda folder: quantize_model(folder, plan, message))
    done = replace(done, model=str(out)) if out else done
    line(table(done))
    if report is not None:
        write_report(done, report)
    if not done.reached:
        raise SystemExit(1)


def table(report: Report) -> str:
    """For people: figures, then the layers with most noise."""
    from tabulate import tabulate

    rows: list[tuple[str, str]] = [
        ("model", report.model),
        ("photos", f"{report.calibrated_on} to calibrate, {report.measured_on} to measure, "
                   f"{len(report.unreadable)} unreadable"),
        ("MB", f"{report.bytes_fp32 / 1e6:.1f} in fp32, {report.bytes_int8 / 1e6:.1f} in int8"),
        ("layers in fp32", f"{len(report.left_out)} of {len(report.layers)}"),
        ("agreement", f"{report.agreement:.4f}{'' if report.reached else ', or the loss: not as asked for'}"),
        *((name, f"{fp32:.4f} in fp32, {int8:.4f} in int8") for name, (fp32, int8) in report.figures.items()),
    ]  # fmt: skip
    told = [layer for layer in report.layers if layer.output is not None]
    worst = sorted(told, key=lambda layer: layer.output or 0.0)[:SHOWN]
    cells = [
        [one.name, one.kind, "" if one.weights is None else f"{one.weights:.1f}", f"{one.output:.1f}",
         "fp32" if one.name in report.left_out else "int8"]
        for one in worst
    ]  # fmt: skip
    layers = tabulate(cells, headers=["noisiest layers", "", "dB weights", "dB output", ""], disable_numparse=True)
    return f"{tabulate(rows, tablefmt='plain', disable_numparse=True)}\n\n{layers}"
