"""The random operators of a training recipe; each takes its numbers from the generator it is given, and nowhere else.

Names and options are PaddleClas's. An image is (h, w, 3) uint8 RGB, and an operator never writes into the one it gets.
`out` says what becomes of a known (height, width); None stands for sizes that differ from image to image.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log, sqrt

import cv2
import numpy as np
from PIL import Image as PillowImage
from PIL import ImageEnhance

from shitu.errors import ConfigError
from shitu.recognise.preprocess import Crop, Image, Resize, Tensor

Size = tuple[int, int]
Rng = np.random.Generator

BORDERS = {
    "constant": cv2.BORDER_CONSTANT,
    "edge": cv2.BORDER_REPLICATE,
    "reflect": cv2.BORDER_REFLECT_101,
    "symmetric": cv2.BORDER_REFLECT,
}
ROTATIONS = {"nearest": cv2.INTER_NEAREST, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}


class ImageOp(ABC):
    @abstractmethod
    def __call__(self, image: Image, rng: Rng) -> Image: ...

    def out(self, size: Size | None) -> Size | None:
        return size


@dataclass(frozen=True)
class Still(ImageOp):
    """An operator of prediction among the random ones: ResizeImage or CropImage."""

    step: Resize | Crop

    def __call__(self, image: Image, rng: Rng) -> Image:
        return self.step(image)

    def out(self, size: Size | None) -> Size | None:
        if size:
            rows, columns = self.step(np.empty((*size, 3), np.uint8)).shape[:2]  # ConfigError: too small to cut from
            return rows, columns
        return None if isinstance(self.step, Resize) and self.step.short else (self.step.height, self.step.width)


@dataclass(frozen=True)
class ReverseChannels(ImageOp):
    """DecodeImage with to_rgb: False."""

    def __call__(self, image: Image, rng: Rng) -> Image:
        return np.ascontiguousarray(image[..., ::-1])


@dataclass(frozen=True)
class RandFlipImage(ImageOp):
    """In one of two cases. `flip_code` is OpenCV's: 1 left and right, 0 up and down, -1 both."""

    flip_code: int = 1

    def __call__(self, image: Image, rng: Rng) -> Image:
        return cv2.flip(image, self.flip_code) if rng.random() < 0.5 else image  # type: ignore


@dataclass(frozen=True)
class Pad(ImageOp):
    """`padding` pixels more on every side."""

    padding: int
    fill: int = 0
    padding_mode: str = "constant"

    def __call__(self, image: Image, rng: Rng) -> Image:
        each = self.padding
        border = BORDERS[self.padding_mode]
        return cv2.copyMakeBorder(image, each, each, each, each, border, value=(self.fill,) * 3)  # type: ignore

    def out(self, size: Size | None) -> Size | None:
        return (size[0] + 2 * self.padding, size[1] + 2 * self.padding) if size else None


@dataclass(frozen=True)
class RandCropImageV2(ImageOp):
    """A cut of (height, width), every position as likely as any other.

    PaddleClas draws from one position too many, and so cuts a row or column too few in 1 of 22 cases (224 of 244).
    """

    height: int
    width: int

    def __call__(self, image: Image, rng: Rng) -> Image:
        rows, columns = image.shape[:2]
        if rows < self.height or columns < self.width:
            raise ConfigError(
                f"RandCropImageV2 of {self.width}x{self.height} cannot be cut from {columns}x{rows}; "
                "put ResizeImage or a larger Pad before it"
            )
        top = int(rng.integers(rows - self.height + 1))
        left = int(rng.integers(columns - self.width + 1))
        return image[top : top + self.height, left : left + self.width]

    def out(self, size: Size | None) -> Size | None:
        if size and (size[0] < self.height or size[1] < self.width):
            raise ConfigError(
                f"RandCropImageV2 of {self.width}x{self.height} cannot be cut from {size[1]}x{size[0]}, which the "
                "operators before it make; make it smaller, or them larger"
            )
        return self.height, self.width


@dataclass(frozen=True)
class RandCropImage(ImageOp):
    """A cut of a random share of the area and a random width / height, resized to one size.

    The share is limited to what an image has room for at that ratio, as in PaddleClas.
    """

    resize: Resize
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    use_log_aspect: bool = False

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
        return self.resize.height, self.resize.width


@dataclass(frozen=True)
class RandomRotation(ImageOp):
    """By an angle of `degrees` = (low, high) about the centre, with probability `prob`; the corners become black."""

    prob: float
    degrees: tuple[float, float]
    interpolation: str = "nearest"

    def __call__(self, image: Image, rng: Rng) -> Image:
        if rng.random() >= self.prob:
            return image
        rows, columns = image.shape[:2]
        # between the pixels' centres; paddle.vision turns about (w / 2, h / 2), half a pixel beside it
        turn = cv2.getRotationMatrix2D(((columns - 1) / 2, (rows - 1) / 2), rng.uniform(*self.degrees), 1.0)
        return cv2.warpAffine(image, turn, (columns, rows), flags=ROTATIONS[self.interpolation])  # type: ignore


@dataclass(frozen=True)
class ColorJitter(ImageOp):
    """Brightness, contrast, saturation and hue, in random order; each pair the limits of its factor (hue: of turns)."""

    brightness: tuple[float, float] = (1.0, 1.0)
    contrast: tuple[float, float] = (1.0, 1.0)
    saturation: tuple[float, float] = (1.0, 1.0)
    hue: tuple[float, float] = (0.0, 0.0)
    prob: float = 1.0

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
class RandomErasing:
    """Writes over a rectangle of the normalised tensor (Zhong et al. 2017), in place.

    `area` limits its share of the image, `aspect` its height / width. `mode`: const writes `mean`, rand one normal
    number per channel, pixel one per pixel.
    """

    prob: float = 0.5
    area: tuple[float, float] = (0.02, 0.4)
    aspect: tuple[float, float] = (0.3, 1 / 0.3)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    attempt: int = 100
    use_log_aspect: bool = False
    mode: str = "const"

    def __call__(self, tensor: Tensor, rng: Rng) -> None:
        """`tensor`: (3, h, w) float32."""
        if rng.random() >= self.prob:
            return
        rows, columns = tensor.shape[1:]
        for _ in range(self.attempt):
            area = rows * columns * rng.uniform(*self.area)
            aspect = _uniform_ratio(self.aspect, self.use_log_aspect, rng)
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
