"""The random operators of a training recipe; each takes its numbers from the generator it is given, and nowhere else.

Each is the section that it is in a configuration, with the names, keys and defaults of PaddleClas. An image is
(h, w, 3) uint8 RGB, and an operator never writes into the one it gets. `out` says what becomes of a known
(height, width); None stands for sizes that differ from image to image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import exp, log, sqrt
from typing import Any, Literal

import cv2
import numpy as np
from PIL import Image as PillowImage
from PIL import ImageEnhance

from shitu.config.keys import Choice, Flag, Several, Text, UnwantedError, Whole
from shitu.config.values import BadValueError, Section, within
from shitu.errors import ConfigError
from shitu.recognise.preprocess import CV2_INTERPOLATION, Image, Resize, Step, Tensor
from shitu.recognise.transform_ops import compile_ops
from shitu.training.rec.augment_keys import Angles, Factors, Fraction, HeightWidth, Ratios, Shares, Size, Turns

Rng = np.random.Generator

BORDERS = {
    "constant": cv2.BORDER_CONSTANT,
    "edge": cv2.BORDER_REPLICATE,
    "reflect": cv2.BORDER_REFLECT_101,
    "symmetric": cv2.BORDER_REFLECT,
}


@dataclass(frozen=True)
class ImageOp(Section):
    def __call__(self, image: Image, rng: Rng) -> Image:
        raise NotImplementedError

    def out(self, size: Size | None) -> Size | None:
        return size


@dataclass(frozen=True)
class Still(ImageOp):
    """An operator of prediction among the random ones: ResizeImage or CropImage."""

    step: Step

    def __call__(self, image: Image, rng: Rng) -> Image:
        return self.step(image)

    def out(self, size: Size | None) -> Size | None:
        if size:
            rows, columns = self.step(np.empty((*size, 3), np.uint8)).shape[:2]  # ConfigError: too small to cut from
            return rows, columns
        return None if isinstance(self.step, Resize) and self.step.short else (self.step.height, self.step.width)


@dataclass(frozen=True)
class DecodeImage(ImageOp):
    """The image comes decoded; what is left to do is to_rgb: False."""

    to_rgb: Flag = True
    channel_first: Flag = False
    backend: Any = None
    to_np: Any = None

    def check(self) -> None:
        if self.channel_first:
            raise BadValueError("channel_first", True, "false is wanted: the operators work on (height, width, 3)")

    def __call__(self, image: Image, rng: Rng) -> Image:
        return image if self.to_rgb else np.ascontiguousarray(image[..., ::-1])


@dataclass(frozen=True)
class RandFlipImage(ImageOp):
    """In one of two cases. `flip_code` is OpenCV's: 1 left and right, 0 up and down, -1 both."""

    flip_code: Whole = within(1, -1, 1)

    def __call__(self, image: Image, rng: Rng) -> Image:
        return cv2.flip(image, self.flip_code) if rng.random() < 0.5 else image  # type: ignore


@dataclass(frozen=True)
class Pad(ImageOp):
    """`padding` pixels more on every side, of grey `fill` where the mode is constant; both backends do the same."""

    padding: Whole = within(0, 0)
    fill: Whole = within(0, 0, 255)
    padding_mode: Choice[Literal["constant", "edge", "reflect", "symmetric"]] = "constant"
    backend: Choice[Literal["cv2", "pil"]] = "cv2"

    def __call__(self, image: Image, rng: Rng) -> Image:
        each = self.padding
        border = BORDERS[self.padding_mode]
        return cv2.copyMakeBorder(image, each, each, each, each, border, value=(self.fill,) * 3)  # type: ignore

    def out(self, size: Size | None) -> Size | None:
        return (size[0] + 2 * self.padding, size[1] + 2 * self.padding) if size else None


@dataclass(frozen=True)
class RandCropImageV2(ImageOp):
    """A cut of `size`, (height, width), every position as likely as any other.

    PaddleClas draws from one position too many, and so cuts a row or column too few in 1 of 22 cases (224 of 244).
    """

    size: HeightWidth = (0, 0)

    def check(self) -> None:
        _check_size(self.size)

    def __call__(self, image: Image, rng: Rng) -> Image:
        height, width = self.size
        self._check(image.shape[:2], "put ResizeImage or a larger Pad before it")
        top = int(rng.integers(image.shape[0] - height + 1))
        left = int(rng.integers(image.shape[1] - width + 1))
        return image[top : top + height, left : left + width]

    def out(self, size: Size | None) -> Size | None:
        if size:
            self._check(size, "which the operators before it make; make it smaller, or them larger")
        return self.size

    def _check(self, size: Sequence[int], advice: str) -> None:
        (height, width), (rows, columns) = self.size, size
        if rows < height or columns < width:
            raise ConfigError(f"RandCropImageV2 of {width}x{height} cannot be cut from {columns}x{rows}; {advice}")


@dataclass(frozen=True)
class RandCropImage(ImageOp):
    """A cut of a random share of the area and a random width / height, resized to one size as ResizeImage does it.

    The share is limited to what an image has room for at that ratio, as in PaddleClas.
    """

    size: HeightWidth = (0, 0)
    scale: Shares = (0.08, 1.0)
    ratio: Ratios = (3 / 4, 4 / 3)
    use_log_aspect: Flag = False
    interpolation: Text = "bilinear"
    backend: Text = "cv2"

    def check(self) -> None:
        _check_size(self.size)
        try:
            self.resize  # noqa: B018
        except ConfigError as error:
            raise UnwantedError(str(error)) from None

    @cached_property
    def resize(self) -> Step:
        options = {"size": self.size[::-1], "interpolation": self.interpolation, "backend": self.backend}
        return compile_ops([{"ResizeImage": options}, {"ToCHWImage": None}], "RandCropImage").geometry[0]

    def __call__(self, image: Image, rng: Rng) -> Image:
        height, width = self.cut(image.shape[0], image.shape[1], rng)
        top = int(rng.integers(image.shape[0] - height + 1))
        left = int(rng.integers(image.shape[1] - width + 1))
        return self.resize(image[top : top + height, left : left + width])

    def cut(self, rows: int, columns: int, rng: Rng) -> Size:
        """(height, width) of one cut out of an image of that size, in pixels."""
        aspect = _uniform_ratio(self.ratio, self.use_log_aspect, rng)
        room = min(columns / rows / aspect, rows / columns * aspect)
        area = rows * columns * rng.uniform(min(self.scale[0], room), min(self.scale[1], room))
        # a share of all there is may be a hair more after rounding
        height = min(rows, max(1, int(sqrt(area / aspect) + 1e-6)))
        return height, min(columns, max(1, int(sqrt(area * aspect) + 1e-6)))

    def out(self, size: Size | None) -> Size | None:
        return self.size


@dataclass(frozen=True)
class RandomRotation(ImageOp):
    """By an angle of `degrees` = (low, high) about the centre, with probability `prob`; the corners become black."""

    prob: Fraction = within(0.5, 0, 1)
    degrees: Angles = ()
    interpolation: Choice[Literal["nearest", "bilinear", "bicubic"]] = "nearest"

    def check(self) -> None:
        if not self.degrees:
            raise BadValueError("degrees", None, "the largest angle, or [lowest, highest], is wanted")

    def __call__(self, image: Image, rng: Rng) -> Image:
        if rng.random() >= self.prob:
            return image
        rows, columns = image.shape[:2]
        # between the pixels' centres; paddle.vision turns about (w / 2, h / 2), half a pixel beside it
        turn = cv2.getRotationMatrix2D(
            ((columns - 1) / 2, (rows - 1) / 2), rng.uniform(self.degrees[0], self.degrees[1]), 1.0
        )
        return cv2.warpAffine(image, turn, (columns, rows), flags=CV2_INTERPOLATION[self.interpolation])  # type: ignore


@dataclass(frozen=True)
class ColorJitter(ImageOp):
    """Brightness, contrast, saturation and hue, in random order; each pair the limits of its factor (hue: of turns)."""

    brightness: Factors = (1.0, 1.0)
    contrast: Factors = (1.0, 1.0)
    saturation: Factors = (1.0, 1.0)
    hue: Turns = (0.0, 0.0)
    prob: Fraction = within(1.0, 0)  # PaddleClas's default is 2: always

    def __call__(self, image: Image, rng: Rng) -> Image:
        if rng.random() >= self.prob:
            return image
        picture = PillowImage.fromarray(image)
        for name in rng.permutation(list(_JITTER)).tolist():
            limits, (neutral, change) = getattr(self, name), _JITTER[name]
            if limits != (neutral, neutral):
                picture = change(picture, rng.uniform(*limits))
        return np.asarray(picture)


def turn_hue(picture: PillowImage.Image, turns: float) -> PillowImage.Image:
    """The hue moved by `turns`, -0.5 to 0.5 of the colour circle."""
    hue, saturation, value = picture.convert("HSV").split()
    moved = (np.asarray(hue).astype(np.int16) + round(turns * 255)) % 256
    planes = (PillowImage.fromarray(moved.astype(np.uint8)), saturation, value)
    return PillowImage.merge("HSV", planes).convert("RGB")


# option -> the value that changes nothing, and what does the change
_JITTER: dict[str, tuple[float, Callable[[PillowImage.Image, float], PillowImage.Image]]] = {
    "brightness": (1.0, lambda picture, factor: ImageEnhance.Brightness(picture).enhance(factor)),
    "contrast": (1.0, lambda picture, factor: ImageEnhance.Contrast(picture).enhance(factor)),
    "saturation": (1.0, lambda picture, factor: ImageEnhance.Color(picture).enhance(factor)),
    "hue": (0.0, turn_hue),
}


@dataclass(frozen=True)
class RandomErasing(Section):
    """Writes over a rectangle of the normalised tensor (Zhong et al. 2017), in place, with probability EPSILON.

    Its share of the image is between sl and sh, its height / width between r1 and 1 / r1. `mode`: const writes `mean`,
    rand one normal number per channel, pixel one per pixel.
    """

    EPSILON: Fraction = within(0.5, 0, 1)
    sl: Fraction = within(0.02, 0, 1)
    sh: Fraction = within(0.4, 0, 1)
    r1: Fraction = within(0.3, 1e-3, 1)
    mean: Several[Fraction] = (0.0, 0.0, 0.0)
    attempt: Whole = within(100, 1)
    use_log_aspect: Flag = False
    mode: Choice[Literal["const", "rand", "pixel"]] = "const"

    def check(self) -> None:
        if self.sl > self.sh:
            raise BadValueError("sl", self.sl, f"at most sh ({self.sh:g}) is wanted")
        if len(self.mean) != 3:
            raise BadValueError("mean", list(self.mean), "three numbers are wanted")

    def __call__(self, tensor: Tensor, rng: Rng) -> None:
        """`tensor`: (3, h, w) float32."""
        if rng.random() >= self.EPSILON:
            return
        rows, columns = tensor.shape[1:]
        for _ in range(self.attempt):
            area = rows * columns * rng.uniform(self.sl, self.sh)
            aspect = _uniform_ratio((self.r1, 1 / self.r1), self.use_log_aspect, rng)
            height, width = max(1, round(sqrt(area * aspect))), max(1, round(sqrt(area / aspect)))
            if height < rows and width < columns:
                top, left = int(rng.integers(rows - height + 1)), int(rng.integers(columns - width + 1))
                tensor[:, top : top + height, left : left + width] = self._filling(height, width, rng)
                return

    def _filling(self, height: int, width: int, rng: Rng) -> Tensor:
        if self.mode == "const":
            return np.asarray(self.mean, np.float32).reshape(3, 1, 1)
        shape = (3, height, width) if self.mode == "pixel" else (3, 1, 1)
        return rng.standard_normal(shape, dtype=np.float32)


def _uniform_ratio(limits: tuple[float, float], logarithmic: bool, rng: Rng) -> float:
    if logarithmic:
        return exp(rng.uniform(log(limits[0]), log(limits[1])))
    return rng.uniform(*limits)


def _check_size(size: Size) -> None:
    if not all(size):
        raise BadValueError("size", None, "a whole number above 0, or [width, height], is wanted")
