"""Image -> network input: resize, crop, normalise, planes first.

Equal to the last bit to the operators of paddleclas 2.6.0 (`deploy/python/preprocess.py`, `det_preprocess.py`) for
8-bit images. Normalising looks 256 values per channel up in a table computed with PaddleClas's own arithmetic,
instead of calculating on every pixel; that is what makes it quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from shitu.errors import ConfigError

Image = NDArray[np.uint8]
Tensor = NDArray[np.float32]
Placed = tuple[
    int, int, int, int
]  # height and width that an image gets, and where its top and left corner comes to lie

CV2_INTERPOLATION = {
    "nearest": cv2.INTER_NEAREST,
    "bilinear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "bicubic": cv2.INTER_CUBIC,
    "cubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}
LONGEST = 100  # times the shorter side; resize_short would blow 1 x 60,000 pixels up to 11 GB


@dataclass(frozen=True)
class Resize:
    """To (height, width), or the shorter side to `short`, or DetResize's way with `keep_ratio`."""

    height: int = 0
    width: int = 0
    short: int = 0
    keep_ratio: bool = False
    interpolation: str | int = cv2.INTER_LINEAR
    by_factor: bool = False  # DetResize gives cv2 the factors, which samples other points than giving it the size

    def __call__(self, image: Image) -> Image:
        rows, columns = image.shape[:2]
        if self.by_factor:
            fy, fx = self.factors(rows, columns)
            if min(rows * fy, columns * fx) > 0.5:
                return cv2.resize(image, None, None, fx=fx, fy=fy, interpolation=self.interpolation)  # type: ignore
            height, width = self.size(rows, columns)
            return cv2.resize(image, (width, height), interpolation=self.interpolation)  # type: ignore
        if self.short:
            most = LONGEST * min(rows, columns)
            image = Crop(min(rows, most), min(columns, most))(image)
        height, width = self.size(*image.shape[:2])
        if isinstance(self.interpolation, str):
            from PIL import Image as PillowImage

            resample = PillowImage.Resampling[self.interpolation.removeprefix("pil:").upper()]
            return np.asarray(PillowImage.fromarray(image).resize((width, height), resample))
        return cv2.resize(image, (width, height), interpolation=self.interpolation)  # type: ignore

    def size(self, rows: int, columns: int) -> tuple[int, int]:
        """(height, width) that an image of `rows` and `columns` gets; at least 1."""
        if self.by_factor:
            fy, fx = self.factors(rows, columns)
        elif self.short:
            fy = fx = float(self.short) / min(columns, rows)
        else:
            return self.height, self.width
        return max(1, round(rows * fy)), max(1, round(columns * fx))

    def placed(self, rows: int, columns: int) -> Placed:
        return *self.size(rows, columns), 0, 0

    def factors(self, rows: int, columns: int) -> tuple[float, float]:
        """(y, x) factors of DetResize."""
        if not self.keep_ratio:
            return self.height / float(rows), self.width / float(columns)
        low, high = min(self.height, self.width), max(self.height, self.width)
        factor = float(low) / float(min(rows, columns))
        if np.round(factor * max(rows, columns)) > high:
            factor = float(high) / float(max(rows, columns))
        return factor, factor

    def describe(self) -> str:
        size = f"short side {self.short}" if self.short else f"{self.height}x{self.width}"
        names = {code: name for name, code in CV2_INTERPOLATION.items()}
        how = self.interpolation if isinstance(self.interpolation, str) else names[self.interpolation]
        return f"resize to {size}, {how}{', keeping the ratio' if self.keep_ratio else ''}"


@dataclass(frozen=True)
class Crop:
    """The middle (height, width) of the image."""

    height: int
    width: int

    def __call__(self, image: Image) -> Image:
        rows, columns = image.shape[:2]
        if rows < self.height or columns < self.width:
            raise ConfigError(
                f"CropImage of {self.width}x{self.height} cannot be cut from {columns}x{rows}; "
                "make ResizeImage's resize_short at least as large"
            )
        top, left = (rows - self.height) // 2, (columns - self.width) // 2
        return image[top : top + self.height, left : left + self.width]

    def placed(self, rows: int, columns: int) -> Placed:
        return rows, columns, -((rows - self.height) // 2), -((columns - self.width) // 2)

    def describe(self) -> str:
        return f"crop the middle {self.height}x{self.width}"


@dataclass(frozen=True)
class Letterbox:
    """As large as fits into (height, width), the rest filled: on both sides, or right and below."""

    height: int
    width: int
    centred: bool = True
    fill: tuple[int, int, int] = (114, 114, 114)
    interpolation: int = cv2.INTER_LINEAR

    def __call__(self, image: Image) -> Image:
        rows, columns, top, left = self.placed(*image.shape[:2])
        canvas = np.full((self.height, self.width, 3), self.fill, np.uint8)
        inside = canvas[top : top + rows, left : left + columns]
        inside[:] = cv2.resize(image, (columns, rows), interpolation=self.interpolation)
        return canvas

    def placed(self, rows: int, columns: int) -> Placed:
        factor = min(self.height / rows, self.width / columns)
        height, width = max(1, round(rows * factor)), max(1, round(columns * factor))
        if not self.centred:
            return height, width, 0, 0
        return height, width, (self.height - height) // 2, (self.width - width) // 2

    def describe(self) -> str:
        filled = "around" if self.centred else "right and below"
        return f"fit into {self.height}x{self.width}, {filled} {self.fill}, cv2 {self.interpolation}"


Step = Resize | Crop | Letterbox


@dataclass(frozen=True, eq=False)
class Preprocessor:
    """Callable: (h, w, 3) uint8 RGB -> (3, H, W) float32. `table` is (3, 256) float32: pixel -> network input, for R, G
    and B; with `bgr` the planes come in the other order.
    """

    geometry: tuple[Step, ...]
    table: Tensor
    stride: int = 0
    bgr: bool = False

    def __call__(self, image: Image) -> Tensor:
        for step in self.geometry:
            image = step(image)
        rows, columns = image.shape[:2]
        tensor = np.empty((3, *self._padded(rows, columns)), np.float32)
        if self.stride:
            tensor[:] = 0.0
        for channel in range(3):
            # channel by channel straight into its plane: six times quicker than a 3-channel LUT and a transpose
            plane, place = cv2.extractChannel(image, channel), 2 - channel if self.bgr else channel
            if self.stride:
                tensor[place, :rows, :columns] = cv2.LUT(plane, self.table[channel])
            else:
                cv2.LUT(plane, self.table[channel], tensor[place])
        return tensor

    def _padded(self, rows: int, columns: int) -> tuple[int, int]:
        if not self.stride:
            return rows, columns
        return -(-rows // self.stride) * self.stride, -(-columns // self.stride) * self.stride

    def scale_factor(self, rows: int, columns: int) -> tuple[float, float]:
        """(y, x) factors of DetResize, which the detector divides its boxes by."""
        resize = self._det_resize()
        return resize.factors(rows, columns) if resize else (1.0, 1.0)

    def resized(self, rows: int, columns: int) -> tuple[int, int]:
        """(height, width) that DetResize leaves, before padding: the detector's im_shape."""
        resize = self._det_resize()
        return resize.size(rows, columns) if resize else (rows, columns)

    def back(self, boxes: Tensor, rows: int, columns: int) -> Tensor:
        """(n, 4) x1, y1, x2, y2 in pixels of the network's input -> in those of the image, of `rows` and `columns`."""
        scale, shift = np.ones(2), np.zeros(2)  # x, y: input = image * scale + shift
        for step in self.geometry:
            height, width, top, left = step.placed(rows, columns)
            factors = np.array([width / columns, height / rows])
            scale, shift = scale * factors, shift * factors + (left, top)
            rows, columns = (height, width) if isinstance(step, Resize) else (step.height, step.width)
        return np.asarray((boxes - np.tile(shift, 2)) / np.tile(scale, 2), np.float32)

    def input_size(self) -> tuple[int, int]:
        """(height, width) of the network's input; for images of one size (`one_size`)."""
        rows, columns = 1, 1
        for step in self.geometry:
            if isinstance(step, Resize):
                rows, columns = step.size(rows, columns)
            else:
                rows, columns = step.height, step.width
        return self._padded(rows, columns)

    def _det_resize(self) -> Resize | None:
        return next((step for step in self.geometry if isinstance(step, Resize) and step.by_factor), None)

    @property
    def one_size(self) -> bool:
        """Whether images of every size come out alike, so that several can run at once."""
        return any(not isinstance(step, Resize) or not (step.short or step.keep_ratio) for step in self.geometry)

    def describe(self) -> str:
        steps = ", ".join(step.describe() for step in self.geometry)
        low, high = (" ".join(f"{value:.3f}" for value in self.table[:, pixel]) for pixel in (0, 255))
        return f"({steps}; black becomes {low}, white {high}{'; B before R' if self.bgr else ''})"


def from_model_yaml(
    *, size: Sequence[int], keep_ratio: bool, interpolation: str, scale: float, mean: Sequence[float],
    std: Sequence[float], detection: bool,
) -> Preprocessor:  # fmt: skip
    """The preprocessing that a model.yaml states; `size` is (height, width)."""
    if interpolation not in CV2_INTERPOLATION:
        raise ConfigError(f"model.yaml: interpolation {interpolation!r}; wanted one of {', '.join(CV2_INTERPOLATION)}")
    resize = Resize(
        height=size[0],
        width=size[1],
        keep_ratio=keep_ratio,
        interpolation=CV2_INTERPOLATION[interpolation],
        by_factor=detection,
    )
    return Preprocessor((resize,), normalising_table(scale, mean, std))


def normalising_table(scale: float, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """NormalizeImage: float32 throughout."""
    pixel = np.arange(256, dtype=np.float32) * np.float32(scale)
    columns = np.asarray(mean, np.float32).reshape(-1, 1), np.asarray(std, np.float32).reshape(-1, 1)
    return np.ascontiguousarray(np.broadcast_to((pixel - columns[0]) / columns[1], (3, 256)), np.float32)
