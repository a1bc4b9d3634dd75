"""`transform_ops` of a training configuration -> one Transform: image and random numbers -> network input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from shitu.config.keys import Operators
from shitu.errors import ConfigError
from shitu.models.model_yaml import INTERPOLATIONS, Preprocess
from shitu.recognise.preprocess import CV2_INTERPOLATION, Image, Preprocessor, Resize, Tensor
from shitu.recognise.transform_ops import IMAGENET_MEAN, IMAGENET_STD, as_number, compile_ops, split_operator
from shitu.training.rec import augment
from shitu.training.rec.augment import ImageOp, RandomErasing, Rng, Size
from shitu.training.rec.auto_augment import AutoAugment, RandAugment, timm_rand_augment
from shitu.training.rec.op_options import OpOptions

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
    known = (*_READERS, *_LAST, "RandomErasing")
    for operator in ops:
        name, options = split_operator(operator, known, where)
        if name in _LAST:
            if erasing:
                raise ConfigError(f"{where}: {name} stands after RandomErasing, which works on what is normalised")
            last.append(operator)
        elif name == "RandomErasing":
            if not any("NormalizeImage" in each for each in last):
                raise ConfigError(f"{where}: RandomErasing stands before NormalizeImage; put it after")
            erasing.append(_random_erasing(OpOptions(name, options, where)))
        elif last:
            raise ConfigError(f"{where}: {name} stands after {next(iter(last[0]))}; put it before")
        else:
            image_ops += _image_op(name, options, where)
    size: Size | None = None
    try:
        for op in image_ops:
            size = op.out(size)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    to_chw: list[Mapping[str, Any]] = [] if any("ToCHWImage" in each for each in last) else [{"ToCHWImage": None}]
    normalise = compile_ops([*last, *to_chw], where)
    preprocess = None if erasing else _preprocess(image_ops, last)
    return Transform(tuple(image_ops), normalise, tuple(erasing), size, preprocess)


def _image_op(name: str, options: Mapping[str, Any], where: str) -> list[ImageOp]:
    read = OpOptions(name, options, where)
    op = _READERS[name](read)
    read.close()
    return [op] if op else []


def _preprocess(ops: Sequence[ImageOp], last: Sequence[Mapping[str, Any]]) -> Preprocess | None:
    """Only for values that compile_ops has found good."""
    options = next((each["NormalizeImage"] or {} for each in last if "NormalizeImage" in each), None)
    if len(ops) != 1 or not isinstance(ops[0], augment.Still) or options is None:
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


# --- one reader per operator: checked options -> the operator --------------------------------------------------------


def _decode_image(options: OpOptions) -> ImageOp | None:
    options.take("backend", "cv2")
    options.take("to_np", None)
    if options.flag("channel_first", False):
        raise options.refusal("channel_first", True, "false is wanted: the operators work on (height, width, 3)")
    return None if options.flag("to_rgb", True) else augment.ReverseChannels()


def _as_in_prediction(options: OpOptions) -> ImageOp:
    """ResizeImage and CropImage are read and done by the code that `shitu predict` uses."""
    given, options.left = options.left, {}
    return augment.Still(compile_ops([{options.name: given}, {"ToCHWImage": None}], options.where).geometry[0])


def _rand_flip(options: OpOptions) -> ImageOp:
    return augment.RandFlipImage(options.choice("flip_code", 1, (1, 0, -1)))


def _pad(options: OpOptions) -> ImageOp:
    options.choice("backend", "cv2", ("cv2", "pil"))  # both do the same
    mode = options.choice("padding_mode", "constant", tuple(augment.BORDERS))
    fill = options.whole("fill", 0)
    if fill > 255:
        raise options.refusal("fill", fill, "a grey of 0 to 255 is wanted")
    return augment.Pad(options.whole("padding", 0), fill, mode)


def _rand_crop_v2(options: OpOptions) -> ImageOp:
    return augment.RandCropImageV2(*options.width_and_height("size"))


def _rand_crop(options: OpOptions) -> ImageOp:
    height, width = options.width_and_height("size")
    resize = {"size": [width, height]}
    resize |= {key: options.take(key, None) for key in ("interpolation", "backend")}
    still = _as_in_prediction(OpOptions("ResizeImage", resize, f"{options.where}: {options.name}"))
    assert isinstance(still, augment.Still)
    assert isinstance(still.step, Resize)
    scale = options.span("scale", (0.08, 1.0), 1e-6, 1.0)
    ratio = options.span("ratio", (3 / 4, 4 / 3), 1e-3, 1e3)
    return augment.RandCropImage(still.step, scale, ratio, options.flag("use_log_aspect", False))


def _rotation(options: OpOptions) -> ImageOp:
    if options.left.get("degrees") is None:
        raise options.refusal("degrees", None, "the largest angle, or [lowest, highest], is wanted")
    degrees = options.around("degrees", 0.0, -360.0, 360.0)
    interpolation = options.choice("interpolation", "nearest", tuple(augment.ROTATIONS))
    return augment.RandomRotation(options.number("prob", 0.5, 0.0, 1.0), degrees, interpolation)


def _color_jitter(options: OpOptions) -> ImageOp:
    return augment.ColorJitter(
        brightness=options.around("brightness", 1.0, 0.0, inf),
        contrast=options.around("contrast", 1.0, 0.0, inf),
        saturation=options.around("saturation", 1.0, 0.0, inf),
        hue=options.around("hue", 0.0, -0.5, 0.5),
        prob=options.number("prob", 1.0),  # PaddleClas's default is 2: always
    )


def _auto_augment(options: OpOptions) -> ImageOp:
    return AutoAugment()


def _rand_augment(options: OpOptions) -> ImageOp:
    return RandAugment(options.whole("num_layers", 2), options.number("magnitude", 5.0, 0.0, 10.0))


def _timm(options: OpOptions) -> ImageOp:
    for ignored in ("interpolation", "img_size", "mean"):  # bicubic; relative to the image; grey
        options.take(ignored, None)
    text = str(options.take("config_str", "rand-m9-mstd0.5-inc1"))
    op = timm_rand_augment(text)
    if not op:
        raise options.refusal("config_str", text, "only timm's rand-...-inc1 is there, such as rand-m9-mstd0.5-inc1")
    return op


def _random_erasing(options: OpOptions) -> RandomErasing:
    low, high = options.number("sl", 0.02, 0.0, 1.0), options.number("sh", 0.4, 0.0, 1.0)
    if low > high:
        raise options.refusal("sl", low, f"at most sh ({high:g}) is wanted")
    aspect = options.number("r1", 0.3, 1e-3, 1.0)
    mean = options.take("mean", (0.0, 0.0, 0.0))
    numbers = [as_number(each) for each in mean] if isinstance(mean, Sequence) else []
    if len(numbers) != 3 or None in numbers:
        raise options.refusal("mean", mean, "three numbers are wanted")
    op = RandomErasing(
        prob=options.number("EPSILON", 0.5, 0.0, 1.0),
        area=(low, high),
        aspect=(aspect, 1 / aspect),
        mean=(numbers[0], numbers[1], numbers[2]),  # type: ignore
        attempt=options.whole("attempt", 100, 1),
        use_log_aspect=options.flag("use_log_aspect", False),
        mode=options.choice("mode", "const", ("const", "rand", "pixel")),
    )
    options.close()
    return op


_READERS: dict[str, Callable[[OpOptions], ImageOp | None]] = {
    "DecodeImage": _decode_image,
    "ResizeImage": _as_in_prediction,
    "CropImage": _as_in_prediction,
    "RandFlipImage": _rand_flip,
    "Pad": _pad,
    "RandCropImageV2": _rand_crop_v2,
    "RandCropImage": _rand_crop,
    "RandomRotation": _rotation,
    "ColorJitter": _color_jitter,
    "AutoAugment": _auto_augment,
    "RandAugment": _rand_augment,
    "TimmAutoAugment": _timm,
}
