"""`transform_ops` of a PaddleClas config -> a Preprocessor; every operator that a ShiTu config uses, and no other."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from math import isfinite
from typing import Any

import numpy as np

from shitu.errors import ConfigError
from shitu.recognise.preprocess import (
    CV2_INTERPOLATION,
    Crop,
    Letterbox,
    Preprocessor,
    Resize,
    Step,
    Tensor,
    normalising_table,
)

Options = Mapping[str, Any]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# What inference_general.yaml says, for models that come without a model.yaml and configs without transform_ops.
PADDLECLAS_DETECTION: tuple[dict[str, Any], ...] = (
    {"DetResize": {"interp": 2, "keep_ratio": False, "target_size": [640, 640]}},
    {"DetNormalizeImage": {"is_scale": True, "mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)}},
    {"DetPermute": {}},
)
PADDLECLAS_RECOGNITION: tuple[dict[str, Any], ...] = (
    {
        "ResizeImage": {
            "size": [224, 224],
            "return_numpy": False,
            "interpolation": "bilinear",
            "backend": "cv2",
        }
    },
    {
        "NormalizeImage": {
            "scale": "1.0/255.0",
            "mean": list(IMAGENET_MEAN),
            "std": list(IMAGENET_STD),
            "order": "hwc",
        }
    },
    {"ToCHWImage": None},
)

DEFAULTS = {"DetPreProcess": PADDLECLAS_DETECTION, "RecPreProcess": PADDLECLAS_RECOGNITION}  # by the section's name

LARGEST = 8192  # pixels of a side; a description from strangers could ask for more than there is memory
_PIL = ("nearest", "bilinear", "bicubic", "box", "lanczos", "hamming")
_NORMALISE = ("NormalizeImage", "DetNormalizeImage")
_PERMUTE = ("ToCHWImage", "DetPermute")
_ALLOWED = {
    "ResizeImage": {"size", "resize_short", "interpolation", "backend", "return_numpy"},
    "CropImage": {"size"},
    "DetResize": {"target_size", "keep_ratio", "interp"},
    "NormalizeImage": {"scale", "mean", "std", "order", "output_fp16", "channel_num"},
    "DetNormalizeImage": {"mean", "std", "is_scale"},
    "DetPadStride": {"stride"},
    "ToCHWImage": set(),
    "DetPermute": set(),
    "DecodeImage": {"to_rgb", "channel_first", "to_np", "backend"},
    "Letterbox": {"size", "centred", "fill_value"},
}


def compile_ops(ops: Sequence[Mapping[str, Any]], where: str) -> Preprocessor:
    """`transform_ops` of a config -> a Preprocessor. `where` names the section in errors (ConfigError)."""
    geometry: list[Step] = []
    table: Tensor | None = None
    stride, permuted, bgr = 0, False, False
    for operator in ops:
        name, options = split_operator(operator, _ALLOWED, where)
        _check_options(name, options, where)
        if name in _NORMALISE:
            if table is not None:
                raise ConfigError(f"{where}: {name} stands there twice, or another one that normalises; keep one")
            _check_order(name, options, permuted, where)
            table = _normalise(name, options, where)
        elif name in _PERMUTE:
            if permuted:
                raise ConfigError(f"{where}: {name} stands there twice, or another one that permutes; keep one")
            permuted = True
        elif name == "DecodeImage":
            bgr = not _decode(options, where, first=operator is ops[0])
        elif name == "DetPadStride":
            stride = max(0, _whole(options.get("stride", 0), f"{where}: DetPadStride.stride"))
        else:
            if table is not None or permuted:
                raise ConfigError(f"{where}: {name} stands after normalising or permuting; resize and crop come first")
            geometry.append(_geometry(name, options, where))
    _check_end(ops, permuted, where)
    table = normalising_table(1.0, (0,), (1,)) if table is None else table
    if bgr:  # means and stds are in the network's order
        table = np.ascontiguousarray(table[::-1])
    return Preprocessor(tuple(geometry), table, stride, bgr)


def _decode(options: Options, where: str, *, first: bool) -> bool:
    """Whether R comes before B. What reads images here gives rows of pixels, whatever the file says of its library."""
    if not first or options.get("channel_first"):
        raise ConfigError(f"{where}: DecodeImage stands first, without channel_first")
    to_rgb = options.get("to_rgb", True)
    if not isinstance(to_rgb, bool):
        raise ConfigError(f"{where}: DecodeImage.to_rgb {to_rgb!r}; wanted true, or false for B, G, R")
    return to_rgb


def _check_order(name: str, options: Options, permuted: bool, where: str) -> None:
    """Normalising stands where its operator expects the planes."""
    if name == "DetNormalizeImage":
        if permuted:
            raise ConfigError(f"{where}: DetNormalizeImage stands before DetPermute")
        return
    order = options.get("order", "chw")
    if order not in ("hwc", "chw", "", None):
        raise ConfigError(f"{where}: NormalizeImage.order {order!r}; wanted hwc or chw")
    if (order == "chw") != permuted:
        wanted = "after ToCHWImage" if order == "chw" else "before ToCHWImage"
        raise ConfigError(f"{where}: NormalizeImage with order {order!r} stands {wanted}")


def _check_end(ops: Sequence[Mapping[str, Any]], permuted: bool, where: str) -> None:
    if not permuted:
        wanted = "DetPermute" if where.startswith("Det") else "ToCHWImage"
        raise ConfigError(f"{where}: no {wanted}; the network wants (3, height, width): add `- {wanted}:`")
    names = [next(iter(operator)) for operator in ops]
    if "DetPadStride" in names[:-1]:
        raise ConfigError(f"{where}: DetPadStride stands after DetPermute, as the last operator")


def split_operator(operator: Mapping[str, Any], known: Collection[str], where: str) -> tuple[str, Options]:
    """Its name, one of the known, and its options, which nobody has checked yet."""
    ((name, options),) = operator.items()
    if name not in known:
        near = get_close_matches(str(name), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        raise ConfigError(f"{where}: unknown operator {name}; {hint}")
    if options is not None and not isinstance(options, Mapping):
        raise ConfigError(f"{where}: {name} wants options as `key: value`, not {options!r}")
    return name, options or {}


def _check_options(name: str, options: Options, where: str) -> None:
    unknown = set(options) - _ALLOWED[name]
    if unknown:
        raise ConfigError(
            f"{where}: {name} has no option {sorted(map(str, unknown))[0]!r}; "
            f"it has {', '.join(sorted(_ALLOWED[name])) or 'none'}"
        )


def _geometry(name: str, options: Options, where: str) -> Step:
    if name == "Letterbox":
        height, width = _pair(options.get("size"), f"{where}: Letterbox.size")
        fill, centred = options.get("fill_value", 114), options.get("centred", True)
        if fill not in range(256) or not isinstance(fill, int) or not isinstance(centred, bool):
            raise ConfigError(f"{where}: Letterbox wants fill_value 0 to 255 and centred true or false")
        return Letterbox(height, width, centred, (fill, fill, fill))
    if name == "DetResize":
        height, width = _pair(options.get("target_size"), f"{where}: DetResize.target_size")
        interp = options.get("interp", CV2_INTERPOLATION["bilinear"])
        if not isinstance(interp, int) or interp not in range(5):
            raise ConfigError(f"{where}: DetResize.interp {interp!r}; wanted an OpenCV code 0 to 4 (2 is cubic)")
        keep = bool(options.get("keep_ratio", True))
        return Resize(height=height, width=width, keep_ratio=keep, interpolation=interp, by_factor=True)
    if name == "CropImage":
        # PaddleClas names the pair (h, w) and reads it as (w, h); kept, for its square sizes it makes no difference
        width, height = _pair(options.get("size"), f"{where}: CropImage.size")
        return Crop(height=height, width=width)
    interpolation = _interpolation(options, where)
    short = _whole(options.get("resize_short") or 0, f"{where}: ResizeImage.resize_short")
    if short > LARGEST:
        raise ConfigError(f"{where}: ResizeImage.resize_short {short}; wanted {LARGEST} at most")
    if short > 0:
        return Resize(short=short, interpolation=interpolation)
    width, height = _pair(options.get("size"), f"{where}: ResizeImage.size (or resize_short)")
    return Resize(height=height, width=width, interpolation=interpolation)


def _interpolation(options: Options, where: str) -> str | int:
    name = str(options.get("interpolation") or "bilinear").lower()
    backend = str(options.get("backend") or "cv2").lower()
    known = tuple(CV2_INTERPOLATION) if backend == "cv2" else _PIL
    if backend not in ("cv2", "pil") or name not in known:
        raise ConfigError(
            f"{where}: ResizeImage with backend {backend!r} and interpolation {name!r}; wanted backend cv2 or pil, "
            f"interpolation one of {', '.join(known)}"
        )
    return CV2_INTERPOLATION[name] if backend == "cv2" else f"pil:{name}"


def _normalise(name: str, options: Options, where: str) -> Tensor:
    if options.get("output_fp16") or options.get("channel_num", 3) != 3:
        raise ConfigError(
            f"{where}: NormalizeImage with output_fp16 or channel_num other than 3 is not supported; leave both out"
        )
    mean, std = options.get("mean") or IMAGENET_MEAN, options.get("std") or IMAGENET_STD
    if not _three_numbers(mean) or not _three_numbers(std) or not all(std):
        raise ConfigError(f"{where}: {name} wants three means and three non-zero stds, not {mean} and {std}")
    if name == "NormalizeImage":
        return normalising_table(_scale(options.get("scale"), f"{where}: {name}.scale"), mean, std)
    return _detection_table(mean, std, scaled=bool(options.get("is_scale", True)))


def _three_numbers(values: Any) -> bool:
    return isinstance(values, Sequence) and len(values) == 3 and all(isinstance(v, int | float) for v in values)


def _whole(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"{where}: {value!r}; wanted a whole number")
    return value


def _scale(value: Any, where: str) -> float:
    number = 1.0 / 255.0 if value is None else as_number(value)
    if number is None:
        raise ConfigError(f"{where}: {value!r}; wanted a number or a fraction such as 1.0/255.0")
    return number


def as_number(value: Any) -> float | None:
    """A number, or a fraction as text (`1.0/255.0`, which PaddleClas gives to eval); None for everything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    over, slash, under = str(value).partition("/")
    try:
        number = float(over) / float(under) if slash else float(over)
    except (ValueError, ZeroDivisionError):
        return None
    return number if isfinite(number) else None


def _pair(value: Any, where: str) -> tuple[int, int]:
    values = [value, value] if isinstance(value, int) and not isinstance(value, bool) else value
    good = isinstance(values, Sequence) and len(values) == 2 and all(isinstance(v, int) for v in values)
    if not good or not 0 < min(values) <= max(values) <= LARGEST:
        raise ConfigError(f"{where}: {value!r}; wanted one or two whole numbers above 0, {LARGEST} at most")
    return int(values[0]), int(values[1])


def _detection_table(mean: Sequence[float], std: Sequence[float], *, scaled: bool) -> Tensor:
    """DetNormalizeImage: float64 operands, rounded to float32 after each step."""
    pixel = np.tile(np.arange(256, dtype=np.float32), (3, 1))
    if scaled:
        pixel = pixel / np.float32(255.0)
    pixel -= np.asarray(mean, np.float64).reshape(-1, 1)
    pixel /= np.asarray(std, np.float64).reshape(-1, 1)
    return pixel


def agree(one: Preprocessor, other: Preprocessor) -> bool:
    """Whether both make the same input of every image, to within float rounding."""
    same_steps = [_comparable(step) for step in one.geometry] == [_comparable(step) for step in other.geometry]
    same_steps = same_steps and (one.stride, one.bgr) == (other.stride, other.bgr)
    return same_steps and np.allclose(one.table, other.table, atol=1e-4)


def _comparable(step: Step) -> Any:
    if not isinstance(step, Resize):
        return step
    return (step.height, step.width, step.short, step.keep_ratio, step.interpolation)
