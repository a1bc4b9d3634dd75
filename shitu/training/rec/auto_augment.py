"""AutoAugment's ImageNet policy, RandAugment, and timm's rand-m..: one table of operations, three ways to draw from it.

Sources: Cubuk et al. 2019, arXiv 1805.09501 (table 9) and 1909.13719; timm's auto_augment. An operation's strength runs
from 0 (next to nothing) to 1; its ranges are the paper's, its 1 +- 0.9 for colours is PaddleClas's and torchvision's.
Unlike in PaddleClas's RandAugment, a larger magnitude posterizes and solarizes more, not less.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageEnhance, ImageOps

from shitu.config.keys import Text, Whole
from shitu.config.values import BadValueError, not_a_key, within
from shitu.recognise.preprocess import Image
from shitu.training.rec.augment import ImageOp, Rng
from shitu.training.rec.augment_keys import Fraction

Picture = PillowImage.Image
GREY = (128, 128, 128)


def _affine(picture: Picture, matrix: tuple[float, ...]) -> Picture:
    kind, resample = PillowImage.Transform.AFFINE, PillowImage.Resampling.BICUBIC
    return picture.transform(picture.size, kind, matrix, resample, fillcolor=GREY)


def _solarize_add(picture: Picture, strength: float) -> Picture:
    added = round(110 * strength)
    return picture.point([min(255, each + added) if each < 128 else each for each in range(256)] * 3)


def _posterize(picture: Picture, bits: int) -> Picture:
    """Also to no bit at all, which Pillow refuses."""
    return picture.point([each & 0xFF << (8 - bits) & 0xFF for each in range(256)] * 3)


Operation = Callable[[Picture, float, int], Picture]  # (picture, strength 0..1, sign -1 or 1) -> picture


def _enhanced(kind: Callable[[Picture], ImageEnhance._Enhance]) -> Operation:
    return lambda picture, strength, sign: kind(picture).enhance(1 + sign * 0.9 * strength)


OPERATIONS: dict[str, Operation] = {
    "shear_x": lambda picture, strength, sign: _affine(picture, (1, sign * 0.3 * strength, 0, 0, 1, 0)),
    "shear_y": lambda picture, strength, sign: _affine(picture, (1, 0, 0, sign * 0.3 * strength, 1, 0)),
    "translate_x": lambda picture, strength, sign: _affine(
        picture, (1, 0, sign * 150 / 331 * strength * picture.width, 0, 1, 0)
    ),
    "translate_y": lambda picture, strength, sign: _affine(
        picture, (1, 0, 0, 0, 1, sign * 150 / 331 * strength * picture.height)
    ),
    "rotate": lambda picture, strength, sign: picture.rotate(
        sign * 30 * strength, PillowImage.Resampling.BICUBIC, fillcolor=GREY
    ),
    "color": _enhanced(ImageEnhance.Color),
    "contrast": _enhanced(ImageEnhance.Contrast),
    "brightness": _enhanced(ImageEnhance.Brightness),
    "sharpness": _enhanced(ImageEnhance.Sharpness),
    "posterize": lambda picture, strength, _: ImageOps.posterize(picture, 8 - round(4 * strength)),
    # timm's for inc1: 4 bits to none
    "posterize_further": lambda picture, strength, _: _posterize(picture, 4 - int(4 * strength)),
    "solarize": lambda picture, strength, _: ImageOps.solarize(picture, round(256 * (1 - strength))),
    "solarize_add": lambda picture, strength, _: _solarize_add(picture, strength),
    "autocontrast": lambda picture, *_: ImageOps.autocontrast(picture),
    "equalize": lambda picture, *_: ImageOps.equalize(picture),
    "invert": lambda picture, *_: ImageOps.invert(picture),
}
RAND_AUGMENT = tuple(name for name in OPERATIONS if name not in ("solarize_add", "posterize_further"))
TIMM = tuple(name for name in OPERATIONS if name != "posterize")

# Sub-policies of two (operation, probability, magnitude 0..9); those that stand twice are so in the paper.
IMAGENET_POLICY = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 5)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 4), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 7)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 2)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 8), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 2)),
    (("equalize", 0.0, 7), ("equalize", 0.8, 8)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 8)),
    (("shear_x", 0.6, 5), ("equalize", 1.0, 9)),
    (("color", 0.4, 0), ("equalize", 0.6, 3)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 5)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
)


@dataclass(frozen=True)
class AutoAugment(ImageOp):
    """One of the 25 sub-policies, each as likely as any other."""

    def __call__(self, image: Image, rng: Rng) -> Image:
        picture = PillowImage.fromarray(image)
        for name, prob, magnitude in IMAGENET_POLICY[rng.integers(len(IMAGENET_POLICY))]:
            if rng.random() < prob:
                picture = OPERATIONS[name](picture, magnitude / 9, sign(rng))
        return np.asarray(picture)


@dataclass(frozen=True)
class RandAugment(ImageOp):
    """`num_layers` operations drawn with replacement, each done with probability `prob`.

    Their magnitude, 0 to 10, is normally distributed with `deviation` about `magnitude`.
    """

    num_layers: Whole = within(2, 0)
    magnitude: Fraction = within(5.0, 0, 10)
    deviation: float = not_a_key(0.0)
    prob: float = not_a_key(1.0)
    operations: tuple[str, ...] = not_a_key(RAND_AUGMENT)

    def __call__(self, image: Image, rng: Rng) -> Image:
        picture = PillowImage.fromarray(image)
        for _ in range(self.num_layers):
            name = self.operations[rng.integers(len(self.operations))]
            if self.prob < 1 and rng.random() >= self.prob:
                continue
            magnitude = rng.normal(self.magnitude, self.deviation) if self.deviation else self.magnitude
            picture = OPERATIONS[name](picture, min(10.0, max(0.0, magnitude)) / 10, sign(rng))
        return np.asarray(picture)


@dataclass(frozen=True)
class TimmAutoAugment(ImageOp):
    """By timm's text. What else may be set is so already: bicubic, relative to the image, grey outside."""

    config_str: Text = "rand-m9-mstd0.5-inc1"
    interpolation: Any = None
    img_size: Any = None
    mean: Any = None

    def check(self) -> None:
        if timm_rand_augment(self.config_str) is None:
            wanted = "only timm's rand-...-inc1 is there, such as rand-m9-mstd0.5-inc1"
            raise BadValueError("config_str", self.config_str, wanted)

    def __call__(self, image: Image, rng: Rng) -> Image:
        augment = timm_rand_augment(self.config_str)
        assert augment
        return augment(image, rng)


@cache
def timm_rand_augment(text: str) -> RandAugment | None:
    """timm's `rand-m7-mstd0.5-inc1` (also `-n2`, `-p0.5`); None for what is not of that kind.

    Only the increasing set of operations (inc1) is there; timm does each with probability 0.5.
    """
    if not re.fullmatch(r"rand(-(m\d+|n\d+|p[01](\.\d+)?|mstd\d+(\.\d+)?|inc1))+", text) or "-inc1" not in text:
        return None
    values = {key: float(value) for key, value in re.findall(r"-(mstd|m|n|p)([\d.]+)", text)}
    return RandAugment(
        num_layers=int(values.get("n", 2)),
        magnitude=min(10.0, values.get("m", 10.0)),
        deviation=values.get("mstd", 0.0),
        prob=values.get("p", 0.5),
        operations=TIMM,
    )


def sign(rng: Rng) -> int:
    return 1 if rng.random() < 0.5 else -1
