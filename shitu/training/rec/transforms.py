"""`transform_ops` of a training configuration -> one Transform: image and random numbers -> network input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shitu.config.keys import Operators
from shitu.config.reader import Reader
from shitu.config.values import AnySection
from shitu.errors import ConfigError
from shitu.models.model_yaml import INTERPOLATIONS, Preprocess
from shitu.recognise.preprocess import CV2_INTERPOLATION, Image, Preprocessor, Resize, Tensor
from shitu.recognise.transform_ops import IMAGENET_MEAN, IMAGENET_STD, as_number, compile_ops, split_operator
from shitu.training.rec import augment, auto_augment
from shitu.training.rec.augment import DecodeImage, ImageOp, RandomErasing, Rng, Still
from shitu.training.rec.augment_keys import Size
from shitu.training.rec.augment_mix import AugMix

_FIRST: tuple[type[ImageOp], ...] = (
    *(DecodeImage, augment.RandFlipImage, augment.Pad, augment.RandCropImageV2, augment.RandCropImage),
    *(augment.RandomRotation, augment.ColorJitter, auto_augment.AutoAugment, auto_augment.RandAugment),
    *(auto_augment.TimmAutoAugment, AugMix),
)
_KINDS = {kind.__name__: kind for kind in _FIRST}
_AS_IN_PREDICTION = ("ResizeImage", "CropImage")
_LAST = ("NormalizeImage", "ToCHWImage")


@dataclass(frozen=True, eq=False)
class Transform:
    """Callable: (h, w, 3) uint8 RGB and a generator -> (3, height, width) float32, contiguous.

    `size` is (height, width) of what comes out, None where it differs from image to image. `preprocess` is the same
    work as a model.yaml states it, None where it cannot: only ResizeImage to one size and NormalizeImage can be.
    """

    ops: tuple[ImageOp, ...]
    normalise: Preprocessor
    erasing: tuple[RandomErasing, ...]
    size: Size | None
    preprocess: Preprocess | None

    def __call__(self, image: Image, rng: Rng) -> Tensor:
        for op in self.ops:
            image = op(image, rng)
        tensor = self.normalise(image)
        for erase in self.erasing:
            erase(tensor, rng)
        return tensor


def compile_transform(ops: Operators, where: str) -> Transform:
    """The operators in their order; `where` names the section in errors.

    The image comes decoded. ToCHWImage may be left out, as PaddleClas's training configurations do.

    Raises ConfigError for an unknown operator or option, a value that does not fit, or an order that cannot be.
    """
    image_ops: list[ImageOp] = []
    last: list[Mapping[str, Any]] = []
    erasing: list[RandomErasing] = []
    known = ("DecodeImage", *_AS_IN_PREDICTION, *_KINDS, *_LAST, "RandomErasing", "ToTensor", "Normalize", *_VISION)
    for operator in _renamed(ops, where):
        name, options = split_operator(operator, known, where)
        if name in _LAST:
            if erasing:
                raise ConfigError(f"{where}: {name} stands after RandomErasing, which works on what is normalised")
            last.append(operator)
        elif name == "RandomErasing":
            if not any("NormalizeImage" in each for each in last):
                raise ConfigError(f"{where}: RandomErasing stands before NormalizeImage; put it after")
            erasing.append(_read(RandomErasing, options, where))
        elif last:
            raise ConfigError(f"{where}: {name} stands after {next(iter(last[0]))}; put it before")
        elif name in _AS_IN_PREDICTION:
            image_ops.append(Still(compile_ops([operator, {"ToCHWImage": None}], where).geometry[0]))
        else:
            image_ops.append(_read(_KINDS[name], options, where))
    image_ops = [op for op in image_ops if not (isinstance(op, DecodeImage) and op.to_rgb)]
    size: Size | None = None
    for op in image_ops:
        try:
            size = op.out(size)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
    to_chw: list[Mapping[str, Any]] = [] if any("ToCHWImage" in each for each in last) else [{"ToCHWImage": None}]
    normalise = compile_ops([*last, *to_chw], where)
    preprocess = None if erasing else _preprocess(image_ops, last)
    return Transform(tuple(image_ops), normalise, tuple(erasing), size, preprocess)


def _resize(options: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    size = options.get("size")
    key = {"size": size[::-1]} if isinstance(size, list) else {"resize_short": size}  # paddle.vision's is height, width
    return {"ResizeImage": {**key, "interpolation": options.get("interpolation", "bilinear"), "backend": "pil"}}


def _crop(options: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    return {"RandCropImage": {"interpolation": "bilinear", "backend": "pil", "use_log_aspect": True, **options}}


def _flip(options: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    if options.get("prob", 0.5) != 0.5:
        raise ConfigError(f"{where}: RandomHorizontalFlip.prob is {options['prob']}; only 0.5 is there: leave it out")
    return {"RandFlipImage": {"flip_code": 1}}


_VISION: dict[str, Callable[[Mapping[str, Any], str], Mapping[str, Any]]] = {
    "Resize": _resize,
    "RandomResizedCrop": _crop,
    "RandomHorizontalFlip": _flip,
    "CenterCrop": lambda options, where: {"CropImage": options},
}


def _renamed(ops: Operators, where: str) -> list[Mapping[str, Any]]:
    """paddle.vision's operators, which PaddleClas's files of re-identification use, by PaddleClas's own names."""
    renamed: list[Mapping[str, Any]] = []
    names = [next(iter(operator)) for operator in ops]
    for place, (name, operator) in enumerate(zip(names, ops, strict=True)):
        if name == "Normalize":
            if "ToTensor" not in names[:place]:
                raise ConfigError(f"{where}: Normalize without ToTensor before it; put it there, or use NormalizeImage")
            renamed.append({"NormalizeImage": {**(operator[name] or {}), "scale": 1 / 255, "order": ""}})
        elif name in _VISION:
            renamed.append(_VISION[name](operator[name] or {}, where))
        elif name != "ToTensor":
            renamed.append(operator)
        elif "Normalize" not in names:
            renamed.append({"NormalizeImage": {"scale": 1 / 255, "mean": [0, 0, 0], "std": [1, 1, 1], "order": ""}})
    return renamed


def _read(kind: type[AnySection], options: Mapping[str, Any], where: str) -> AnySection:
    """The operator that the options make; null is the default."""
    given = {key: value for key, value in options.items() if value is not None}
    return Reader(kind, where).section(kind, given, kind.__name__)


def _preprocess(ops: Sequence[ImageOp], last: Sequence[Mapping[str, Any]]) -> Preprocess | None:
    """Only for values that compile_ops has found good."""
    options = next((each["NormalizeImage"] or {} for each in last if "NormalizeImage" in each), None)
    if len(ops) != 1 or not isinstance(ops[0], Still) or options is None:
        return None
    resize = ops[0].step
    if not isinstance(resize, Resize) or resize.short or isinstance(resize.interpolation, str):
        return None
    red, green, blue = (float(each) for each in options.get("mean") or IMAGENET_MEAN)
    stds = tuple(float(each) for each in options.get("std") or IMAGENET_STD)
    scale = options.get("scale")
    return Preprocess(
        size=(resize.height, resize.width),
        interpolation=next(name for name in INTERPOLATIONS if CV2_INTERPOLATION[name] == resize.interpolation),
        scale=1 / 255 if scale is None else as_number(scale) or 0.0,
        mean=(red, green, blue),
        std=(stds[0], stds[1], stds[2]),
    )
