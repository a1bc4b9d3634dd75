"""`shitu models add`: a network from elsewhere becomes a model folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from shitu.cli import out as say
from shitu.cli.options import example
from shitu.errors import UsageError
from shitu.models.folder import downloads_home, model_folders, model_homes
from shitu.models.model_yaml import HEADS

_NAMELESS = ("model", "inference", "best", "last", "onnx", "weights")  # what exporters call every network
_INTERPOLATIONS = ("bilinear", "bicubic", "area", "nearest", "pil-bilinear", "pil-bicubic", "pil-lanczos")


def _numbers(_: Any, option: click.Parameter, value: str | None) -> Any:
    """Three numbers with commas between."""
    if value is None:
        return None
    try:
        numbers = tuple(float(each) for each in value.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 3 or not all(abs(each) < 1e9 for each in numbers) or (option.name == "std" and not all(numbers)):
        raise click.BadParameter(f"{value}: wanted three numbers with commas between, for R, G and B, no std of 0")
    return numbers


def _size(_: Any, __: Any, value: str | None) -> Any:
    """224, or HEIGHTxWIDTH."""
    found = re.fullmatch(r"(\d{1,4})(?:[x,](\d{1,4}))?", value or "")
    sides = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if value is not None and not min(sides):
        raise click.BadParameter(f"{value}: wanted a size such as 224, or HEIGHTxWIDTH")
    return None if value is None else sides


@click.command(
    "add",
    epilog=example(
        "models add clip.onnx --task recognition --mean 0.481,0.458,0.408 --std 0.269,0.261,0.276",
        "models add yolov8n.onnx --classes bottle,cup",
    ),
)
@click.argument("source", type=click.Path(path_type=Path), metavar="FILE|FOLDER")
@click.option("--name", help="What it is called.  [default: as the file]")
@click.option("--task", type=click.Choice(["recognition", "detection"]), help="Where the file does not tell.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Its folder.  [default: NAME among the "
              "downloaded models, where all commands find it by name]")  # fmt: skip
@click.option("--size", callback=_size, metavar="HxW", help="Of the input, where the file leaves it free.")
@click.option("--mean", callback=_numbers, metavar="R,G,B", help="What is taken from pixels, in shares of white.")
@click.option("--std", callback=_numbers, metavar="R,G,B", help="What they are then divided by.")
@click.option("--scale", type=float, help="What pixels of 0 to 255 are multiplied by before.  [default: 1/255]")
@click.option("--bgr/--rgb", default=None, help="The order of planes.  [default: RGB; of YOLOX, BGR]")
@click.option("--resize", type=click.Choice(["stretch", "crop", "letterbox", "corner"]), help="To the size; crop: the "
              "middle; letterbox: with bars around; corner: with a bar right or below.  [default: letterbox for YOLO, "
              "corner for YOLOX, else stretch]")  # fmt: skip
@click.option("--short", type=click.IntRange(1, 8192), help="For crop: what the shorter side is scaled to before.")
@click.option("--interpolation", type=click.Choice(_INTERPOLATIONS), help="pil-: as torchvision and transformers do, "
              "else as OpenCV.  [default: bilinear]")  # fmt: skip
@click.option("--output", metavar="NAME", help="Which output is the vector, by name or number.")
@click.option(
    "--pool", type=click.Choice(["first", "mean"]), help="Of an output of many vectors: the first or the mean."
)
@click.option(
    "--output-shape", "head", type=click.Choice(HEADS), help="A detector's outputs, where shapes do not tell."
)
@click.option("--activation", type=click.Choice(["sigmoid", "softmax"]), help="Of a DETR's logits.")
@click.option(
    "--labels", metavar="FILE|A,B", help="Names of all classes, in order: a file, a line each, or with commas."
)
@click.option("--classes", metavar="A,B", help="The classes that count as objects.  [default: all]")
@click.option("--nms", type=click.FloatRange(0, 1), help="Overlap (IoU) at which a box goes.  [default: 0.6]")
@click.option("--weights", type=click.Path(path_type=Path), help="A file of weights that the ONNX file points to.")
def add_command(
    *, source: Path, name: str | None, out: Path | None, labels: str | None, classes: str | None, **said: Any
) -> None:
    """Make a model folder of an ONNX file, or of a program of Paddle's.

    Any network that makes a vector of an image, and detectors with outputs as YOLO (v5, v8, v11, X, with or without
    NMS), DETR or PicoDet have them. The file is asked for what it can tell; what it cannot is said here, once. The
    folder appears when photos went through well. docs/models.md has the commands for CLIP, DINOv2, timm and YOLO.
    """
    from shitu.convert.add import add_model
    from shitu.convert.add_source import Asked

    bundled = {path.name for path in model_folders(model_homes()[0])}
    name = name or (out.name if out else _name_of(source))
    if not re.fullmatch(r"[^\s./\\:][^/\\:]*", name):
        raise UsageError(f"--name {name!r}: wanted a name that a folder can have")
    if out is None and name in bundled:
        raise UsageError(
            f"{name} is the name of a bundled model, which would be found in its stead; choose another --name"
        )
    asked = Asked(**said, labels=_labels(labels), classes=_words(classes))
    model = add_model(source, out or downloads_home() / name, name, asked, say.message)
    found_by = model.path if out or Path(name).exists() else name  # a folder that is here would be taken for the name
    key = "det" if model.card.task == "detection" else "rec"
    say.line(f"{model.path}: {model.card.task}; use it by -o Global.{key}_inference_model_dir={found_by}")


def _name_of(source: Path) -> str:
    """The file's, or the folder's where every exporter calls its file so."""
    path = source.resolve()
    names = (path.name if source.is_dir() else path.stem, *(each.name for each in path.parents))
    return next((name for name in names if name not in _NAMELESS), "")


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word for each in (text or "").split(",") if (word := each.strip()))


def _labels(text: str | None) -> tuple[str, ...]:
    """Of a file, or as they stand there."""
    if text is None or not Path(text).is_file():
        return _words(text)
    from shitu.config.read_yaml import read_text

    return tuple(word for line in read_text(Path(text)).splitlines() if (word := line.strip()))
