"""Which kind of outputs a network has, told from their shapes: a detector's head, an extractor's vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.convert.add_source import Asked, Facts
from shitu.errors import ModelError, UsageError
from shitu.recognise.heads import YOLOX_STRIDES, cells

Outputs = Sequence[NDArray[Any]]
PADDLE, RAW = "paddle", "paddle raw"  # boxes in the photo's pixels: after Paddle's NMS, and before it
ONE_CLASS = ("foreground",)
_PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_OF_PADDLE = {**_IMAGENET, "resize": PADDLE}
# What networks with these heads are trained with: Ultralytics' LetterBox; YOLOX's preproc, 0 to 255 in B, G, R;
# PaddleDetection's PicoDet configs. A DETR's is the user's to say, since they differ.
_USUAL: dict[str, Mapping[str, Any]] = {
    "yolo8": {**_PLAIN, "resize": "letterbox"},
    "yolo5": {**_PLAIN, "resize": "letterbox"},
    "rows": {**_PLAIN, "resize": "letterbox"},
    "yolox": {**_PLAIN, "resize": "corner", "bgr": True, "scale": 1.0},
    "picodet": {**_IMAGENET, "interpolation": "bicubic"},
    PADDLE: _OF_PADDLE,
    RAW: _OF_PADDLE,
    "detr": {},
}
_FAR = 8.0  # pixels; offsets within cells are smaller on average, middles of decoded boxes larger


@dataclass(frozen=True)
class Reading:
    """`kind` of outputs, what the card says of them, and the usual preprocessing of such networks."""

    kind: str
    card: Mapping[str, Any]
    usual: Mapping[str, Any]


@dataclass(frozen=True)
class _Guess:
    """A head, and how many classes it would have."""

    kind: str
    classes: int | None
    activation: str = "sigmoid"

    def __str__(self) -> str:
        by = f" --activation {self.activation}" if self.kind == "detr" else ""
        return f"--output-shape {self.kind}{by}" + (f" ({self.classes} classes)" if self.classes else "")


def extractor_reading(outputs: Outputs, told: Facts, asked: Asked) -> Reading:
    """Raises UsageError where several outputs could be the vector, ModelError where none could."""
    shapes = [each.shape[1:] for each in outputs]
    names = told.outputs or tuple(map(str, range(len(outputs))))
    listed = ", ".join(f"{name} {[1, *shape]}" for name, shape in zip(names, shapes, strict=True))
    if asked.output is not None:
        number = _number(asked.output, names, listed)
    else:
        flat = [at for at, shape in enumerate(shapes) if shape and np.prod(shape) == shape[0] > 1]
        if len(flat) > 1:
            raise UsageError(f"several outputs could be the vector: {listed}; name one: --output")
        if not flat and len(outputs) > 1:
            raise UsageError(f"no output is a vector: {listed}; name one, --output, and what to take of it, --pool")
        number = flat[0] if flat else 0
    shape, pool = shapes[number], asked.pool or "none"
    if len(shape) == 2 and shape[0] > 1 and pool == "none":
        raise UsageError(
            f"output {names[number]} has {shape[0]} vectors of {shape[1]} for an image; say which: --pool first (a "
            "class token) or --pool mean"
        )
    if pool == "none" and (not shape or np.prod(shape) != shape[0] or shape[0] < 2):
        raise ModelError(
            f"output {names[number]} of shape {[1, *shape]} is no vector; export the network with its pooling"
        )
    if pool != "none" and len(shape) != 2:
        raise UsageError(f"--pool {pool} wants an output of shape [1, tokens, d], not {[1, *shape]}; leave it out")
    dimension = int(shape[0] if pool == "none" else shape[1])
    feature = {"output": number, "pool": pool} if number or pool != "none" else {}
    return Reading("vector", {"dimension": dimension, "feature": feature}, {})


def _number(wanted: str, names: Sequence[str], listed: str) -> int:
    if wanted in names:
        return names.index(wanted)
    if wanted.isdecimal() and int(wanted) < len(names):
        return int(wanted)
    raise UsageError(f"--output {wanted}: there is no such output; there are {listed}")


def detector_reading(outputs: Outputs, told: Facts, asked: Asked) -> Reading:
    """Raises UsageError where the shapes leave open what they are, or classes have no names."""
    shapes = ", ".join(str(list(each.shape)) for each in outputs)
    guesses = [guess for guess in _guesses(outputs, told) if asked.head in (None, guess.kind)]
    if asked.activation:
        guesses = [guess for guess in guesses if guess.kind != "detr" or guess.activation == asked.activation]
    if not guesses:
        wanted = f"--output-shape {asked.head}" if asked.head else "no head that is known here (docs/models.md)"
        raise ModelError(f"outputs of shape {shapes} are those of {wanted}".replace("are those of --", "are not of --"))
    if asked.labels:
        named = [guess for guess in guesses if guess.classes in (None, len(asked.labels))]
        if not named:
            counts = " or ".join(sorted({str(guess.classes) for guess in guesses}))
            raise UsageError(f"outputs of shape {shapes} have {counts} classes, and {len(asked.labels)} are named")
        guesses = named
    if len(guesses) > 1:
        raise UsageError(
            f"outputs of shape {shapes} may be several things; say which: {'; or '.join(map(str, guesses))}"
        )
    guess = guesses[0]
    labels = asked.labels or (ONE_CLASS if guess.classes in (1, None) and guess.kind != "rows" else ())
    if not labels:
        count = f"{guess.classes} classes" if guess.classes else "classes"
        raise UsageError(f"the network tells {count} apart, and the file has no names for them; give them: --labels")
    if unknown := [each for each in asked.classes if each not in labels]:
        raise UsageError(f"--classes {unknown[0]}: no such class; there are {', '.join(labels[:100])}")
    card: dict[str, Any] = {"labels": list(labels)}
    if guess.kind not in (PADDLE, RAW):
        extra = {"activation": guess.activation} if guess.kind == "detr" else {}
        card["head"] = {"kind": guess.kind, **extra, **({"classes": list(asked.classes)} if asked.classes else {})}
    elif asked.classes:
        raise UsageError("--classes is for networks from elsewhere; of Paddle's detectors all classes are told")
    return Reading(guess.kind, card, _USUAL[guess.kind])


def _guesses(outputs: Outputs, told: Facts) -> list[_Guess]:
    shapes = [each.shape for each in outputs]
    if told.paddle and shapes[0][1:] == (6,):
        return [_Guess(PADDLE, None)]
    if any(len(shape) != 3 or shape[0] != 1 for shape in shapes):
        return []
    if told.paddle and len(shapes) == 2 and shapes[0][2] == 4 and shapes[1][2] == shapes[0][1]:
        return [_Guess(RAW, shapes[1][1])]
    return _of_one(outputs[0], told) if len(shapes) == 1 else _of_several(shapes)


def _of_several(shapes: Sequence[tuple[int, ...]]) -> list[_Guess]:
    """Scores and sides of levels, or logits and boxes."""
    half, odd = divmod(len(shapes), 2)
    pairs = list(zip(shapes[:half], shapes[half:], strict=True)) if half > 1 and not odd else []
    if pairs and all(one[1] == other[1] and other[2] % 4 == 0 and one[2] == shapes[0][2] for one, other in pairs):
        return [_Guess("picodet", shapes[0][2])]
    logits, boxes = (shapes[1], shapes[0]) if shapes[0][2] == 4 != shapes[1][2] else (shapes[0], shapes[1])
    if boxes[2] != 4 or logits[1] != boxes[1]:
        return []
    return [each for each in (_Guess("detr", logits[2]), _Guess("detr", logits[2] - 1, "softmax")) if each.classes]


def _of_one(output: NDArray[Any], told: Facts) -> list[_Guess]:
    """Of (1, boxes, numbers) or (1, numbers, boxes): how many boxes there are tells the YOLOs from each other."""
    rows, columns = output.shape[1:]
    if columns > rows:
        return [_Guess("yolo8", rows - 4)] if rows > 4 else []
    if columns < 5 or rows <= 1:
        return []
    if np.abs(output[0, :, :4]).max() <= 2 and rows < 1000:
        raise ModelError(
            f"output of shape {list(output.shape)}: its boxes are shares of the input, as Ultralytics exports RT-DETR; "
            "wanted logits and boxes apart, as Hugging Face's export has them"
        )
    grid = sum(len(cells(told.size, stride)) for stride in YOLOX_STRIDES)
    five, four = _Guess("yolo5", columns - 5), _Guess("yolo8", columns - 4)
    if rows == 3 * grid:
        guesses = [five]
    elif rows == grid:
        decoded = float(np.abs(output[0, :, 0]).mean()) > _FAR
        guesses = [five if decoded else _Guess("yolox", columns - 5), four]
    else:
        guesses = [_Guess("rows", None)] if columns == 6 else [five, four]
    return [guess for guess in guesses if guess.classes is None or guess.classes > 0]
