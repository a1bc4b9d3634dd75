"""transform_ops of training configurations: compiled, refused, and the same as in prediction."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from shitu.config.keys import Operators
from shitu.errors import ConfigError
from shitu.images.read import read_image
from shitu.recognise.preprocess import from_model_yaml
from shitu.recognise.transform_ops import compile_ops
from shitu.training.rec.augment import ColorJitter, RandCropImage, RandomErasing, RandomRotation
from shitu.training.rec.schema import load_train_config
from shitu.training.rec.transforms import compile_transform
from tests.conftest import DEMO, ROOT

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
DECODE = {"DecodeImage": {"to_rgb": True, "channel_first": False}}
NORMALIZE = {"NormalizeImage": {"scale": "1.0/255.0", "mean": MEAN, "std": STD, "order": "hwc"}}
RESIZE = {"ResizeImage": {"size": [48, 64], "return_numpy": False, "interpolation": "bilinear", "backend": "cv2"}}
V2 = (
    DECODE,
    {"ResizeImage": {"size": [224, 224], "return_numpy": False, "interpolation": "bilinear", "backend": "cv2"}},
    {"RandFlipImage": {"flip_code": 1}},
    {"Pad": {"padding": 10, "backend": "cv2"}},
    {"RandCropImageV2": {"size": [224, 224]}},
    {"RandomRotation": {"prob": 0.5, "degrees": 90, "interpolation": "bilinear"}},
    {"ResizeImage": {"size": [224, 224], "return_numpy": False, "interpolation": "bilinear", "backend": "cv2"}},
    NORMALIZE,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return read_image(DEMO / "photos" / "beach.jpg")


def test_the_v2_recipe(photo: np.ndarray) -> None:
    transform = compile_transform(V2, "here")
    made = [transform(photo, rng(seed)) for seed in (1, 1, 2)]
    assert transform.size == (224, 224)
    assert made[0].shape == (3, 224, 224)
    assert made[0].dtype == np.float32
    assert made[0].flags.c_contiguous
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])
    assert transform.preprocess is None


def test_the_v2_recipe_step_by_step(photo: np.ndarray) -> None:
    """The same numbers drawn in the same order, every operator in a line of numpy or OpenCV."""
    transform = compile_transform(V2, "here")
    for seed in range(20):
        draw = rng(seed)
        image = cv2.resize(photo, (224, 224))
        image = image[:, ::-1] if draw.random() < 0.5 else image
        image = np.pad(image, ((10, 10), (10, 10), (0, 0)))
        top, left = draw.integers(21), draw.integers(21)
        image = np.ascontiguousarray(image[top : top + 224, left : left + 224])
        if draw.random() < 0.5:
            turn = cv2.getRotationMatrix2D((111.5, 111.5), draw.uniform(-90, 90), 1)
            image = cv2.warpAffine(image, turn, (224, 224), flags=cv2.INTER_LINEAR)
        twin = ((image / 255 - MEAN) / STD).transpose(2, 0, 1)
        assert np.abs(transform(photo, rng(seed)) - twin).max() < 1e-5, seed


@pytest.mark.parametrize(
    "ops",
    [
        (RESIZE, NORMALIZE),
        ({"ResizeImage": {"size": 50, "interpolation": "bicubic"}}, NORMALIZE),
        ({"ResizeImage": {"size": 50, "interpolation": "lanczos", "backend": "pil"}}, NORMALIZE),
        ({"ResizeImage": {"resize_short": 64}}, {"CropImage": {"size": 50}}, NORMALIZE),
        ({"ResizeImage": {"size": 50}}, {"NormalizeImage": {"scale": 0.0078125, "mean": [1, 1, 1], "std": [1, 1, 2],
                                                            "order": ""}}),
        ({"ResizeImage": {"size": 50}}, {"NormalizeImage": None}),
        ({"ResizeImage": {"size": 50}},),
    ],
)  # fmt: skip
def test_evaluation_makes_the_input_of_shitu_predict_bit_by_bit(ops: Operators, photo: np.ndarray) -> None:
    with_order = [
        {name: {**(options or {}), **({"order": "hwc"} if name == "NormalizeImage" else {})}}
        for each in ops for name, options in each.items()
    ]  # fmt: skip
    predicted = compile_ops([*with_order, {"ToCHWImage": None}], "RecPreProcess")(photo)
    for trained in (with_order, [DECODE, *with_order], [*with_order, {"ToCHWImage": None}]):
        assert np.array_equal(compile_transform(tuple(trained), "here")(photo, rng()), predicted)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "area", "bicubic", "lanczos"])
def test_the_exported_preprocess_is_the_same_bit_by_bit(interpolation: str, photo: np.ndarray) -> None:
    transform = compile_transform(
        (DECODE, {"ResizeImage": {"size": [40, 56], "interpolation": interpolation}}, NORMALIZE), "x"
    )
    assert transform.preprocess is not None
    assert transform.preprocess.size == (56, 40)
    assert transform.preprocess.interpolation == interpolation
    exported = from_model_yaml(**vars(transform.preprocess), detection=False)
    assert np.array_equal(transform(photo, rng()), exported(photo))


@pytest.mark.parametrize(
    "ops",
    [
        ({"ResizeImage": {"resize_short": 64}}, {"CropImage": {"size": 50}}, NORMALIZE),
        ({"ResizeImage": {"size": 50, "backend": "pil"}}, NORMALIZE),
        (RESIZE, {"RandFlipImage": None}, NORMALIZE),
        (RESIZE, NORMALIZE, {"RandomErasing": None}),
        ({"DecodeImage": {"to_rgb": False}}, RESIZE, NORMALIZE),
        (RESIZE,),
        (NORMALIZE,),
    ],
)
def test_what_a_model_yaml_cannot_state_is_not_stated(ops: Operators) -> None:
    assert compile_transform(ops, "x").preprocess is None


def test_bgr(photo: np.ndarray) -> None:
    rgb = compile_transform((DECODE, RESIZE), "x")(photo, rng())
    bgr = compile_transform(({"DecodeImage": {"to_rgb": False}}, RESIZE), "x")(photo, rng())
    assert np.array_equal(bgr, rgb[::-1])


def test_erasing_works_on_normalised_pixels(photo: np.ndarray) -> None:
    erase = {"RandomErasing": {"EPSILON": 1.0, "sl": 0.1, "sh": "1.0/3.0", "r1": 0.3, "mean": [5, 6, 7]}}
    plain, erased = (
        compile_transform((RESIZE, NORMALIZE, *last), "x")(photo, rng()) for last in ((), (erase,))
    )  # fmt: skip
    changed = (plain != erased).any(0)
    assert 0.09 < changed.mean() < 0.35
    assert (erased[:, changed] == np.array([[5], [6], [7]])).all()


@pytest.mark.parametrize(
    ("ops", "size"),
    [
        ((RESIZE,), (64, 48)),
        (({"ResizeImage": {"resize_short": 256}},), None),
        (({"ResizeImage": {"resize_short": 256}}, {"CropImage": {"size": [40, 50]}}), (50, 40)),
        ((RESIZE, {"Pad": {"padding": 3}}), (70, 54)),
        ((RESIZE, {"ResizeImage": {"resize_short": 24}}), (32, 24)),
        (({"RandCropImage": {"size": [20, 30]}},), (30, 20)),
        (({"RandCropImageV2": {"size": 20}}, {"RandomRotation": {"degrees": 5}}), (20, 20)),
        (({"Pad": {"padding": 3}},), None),
        ((), None),
    ],
)
def test_size(ops: Operators, size: tuple[int, int] | None, photo: np.ndarray) -> None:
    transform = compile_transform(ops, "x")
    assert transform.size == size
    if size:
        assert transform(photo, rng()).shape == (3, *size)


def only(options: dict[str, Any]) -> Any:
    return compile_transform((RESIZE, options), "x").ops[1]


def test_paddleclas_defaults_and_ways_of_writing() -> None:
    assert only({"RandomRotation": {"degrees": 90}}) == RandomRotation(0.5, (-90.0, 90.0), "nearest")
    assert only({"RandomRotation": {"degrees": [-10, 30], "prob": 1}}).degrees == (-10.0, 30.0)
    jitter = only({"ColorJitter": {"brightness": 0.4, "contrast": [0.5, 2], "hue": 0.1, "prob": 0.8}})
    assert jitter == ColorJitter((0.6, 1.4), (0.5, 2.0), (1.0, 1.0), (-0.1, 0.1), 0.8)
    assert only({"ColorJitter": {"saturation": 3}}).saturation == (0.0, 4.0)
    crop = only({"RandCropImage": {"size": 224}})
    assert isinstance(crop, RandCropImage)
    assert (crop.scale, crop.ratio) == ((0.08, 1.0), (3 / 4, 4 / 3))
    (erasing,) = compile_transform((RESIZE, NORMALIZE, {"RandomErasing": None}), "x").erasing
    assert erasing == RandomErasing(0.5, 0.02, 0.4, 0.3, (0.0, 0.0, 0.0), 100, False, "const")


@pytest.mark.parametrize(
    ("ops", "said"),
    [
        (({"RandFlipImg": {}},), "here: unknown operator RandFlipImg; did you mean RandFlipImage?"),
        (({"Mosaic": {}},), "unknown operator Mosaic; known: DecodeImage, ResizeImage"),
        (
            ({"RandFlipImage": {"flipcode": 1}},),
            "Unknown key RandFlipImage.flipcode in here; did you mean RandFlipImage.flip_code?",
        ),
        (
            ({"RandFlipImage": {"flip_code": 2}},),
            "RandFlipImage.flip_code is 2 (int) in here; a number between -1 and 1 is wanted",
        ),
        (({"RandFlipImage": 1},), "RandFlipImage wants options as `key: value`, not 1"),
        (({"AutoAugment": {"policy": "cifar"}},), "Unknown key AutoAugment.policy in here; AutoAugment takes no keys"),
        (({"ResizeImage": {"sise": 224}},), "ResizeImage has no option 'sise'"),
        (({"ResizeImage": {}},), "ResizeImage.size (or resize_short): None; wanted one or two whole numbers"),
        (
            ({"DecodeImage": {"channel_first": True}},),
            "DecodeImage.channel_first is True (bool) in here; false is wanted",
        ),
        (({"DecodeImage": {"to_rgb": "x"}},), "DecodeImage.to_rgb is 'x' (text) in here; true or false is wanted"),
        (({"Pad": {"padding": -1}},), "Pad.padding is -1 (int) in here; a number of at least 0 is wanted"),
        (({"Pad": {"padding": True}},), "Pad.padding is True (bool) in here; an int is wanted"),
        (
            ({"Pad": {"padding": 1, "fill": 256}},),
            "Pad.fill is 256 (int) in here; a number between 0 and 255 is wanted",
        ),
        (
            ({"Pad": {"padding": 1, "padding_mode": "wrap"}},),
            "Pad.padding_mode is 'wrap' (text) in here; one of constant, edge",
        ),
        (
            ({"RandCropImageV2": {}},),
            "RandCropImageV2.size is null in here; a whole number above 0, or [width, height], is",
        ),
        (
            ({"RandCropImage": {}},),
            "RandCropImage.size is null in here; a whole number above 0, or [width, height], is",
        ),
        (({"RandCropImageV2": {"size": [8, "x"]}},), "RandCropImageV2.size is [8, 'x'] (list) in here; a whole"),
        ((RESIZE, {"RandCropImageV2": {"size": 50}}), "here: RandCropImageV2 of 50x50 cannot be cut from 48x64"),
        ((RESIZE, {"CropImage": {"size": 50}}), "here: CropImage of 50x50 cannot be cut from 48x64"),
        (
            ({"RandCropImage": {"size": 8, "scale": [0.5, 0.1]}},),
            "RandCropImage.scale is [0.5, 0.1] (list) in here; [lowest, highest] with numbers",
        ),
        (({"RandCropImage": {"size": 8, "scale": [0, 2]}},), "RandCropImage.scale is [0, 2] (list) in here"),
        (
            ({"RandCropImage": {"size": 8, "interpolation": "soft"}},),
            "in here; RandCropImage: ResizeImage with backend 'cv2' and interpolation 'soft'; wanted backend cv2 or",
        ),
        (({"RandomRotation": {}},), "RandomRotation.degrees is null in here; the largest angle"),
        (({"RandomRotation": {"degrees": [9]}},), "RandomRotation.degrees is [9] (list) in here"),
        (
            ({"RandomRotation": {"degrees": 90, "prob": 1.5}},),
            "RandomRotation.prob is 1.5 (float) in here; a number between 0 and 1",
        ),
        (({"RandomRotation": {"degrees": 90, "expand": True}},), "Unknown key RandomRotation.expand in here"),
        (({"ColorJitter": {"brightness": -1}},), "ColorJitter.brightness is -1 (int) in here"),
        (
            ({"ColorJitter": {"hue": 0.7}},),
            "ColorJitter.hue is 0.7 (float) in here; a number from 0 to 0.5, or [lowest, highest]",
        ),
        (({"ColorJitter": {"contrast": "high"}},), "ColorJitter.contrast is 'high' (text) in here; a number from 0"),
        (({"ColorJitter": {"hue": 0.5, "prob": "often"}},), "ColorJitter.prob is 'often' (text) in here"),
        (
            ({"RandAugment": {"magnitude": 11}},),
            "RandAugment.magnitude is 11.0 (float) in here; a number between 0 and 10 is wanted",
        ),
        (
            ({"TimmAutoAugment": {"config_str": "augmix-m5"}},),
            "config_str is 'augmix-m5' (text) in here; only timm's rand-...-inc1",
        ),
        ((RESIZE, {"RandomErasing": {}}, NORMALIZE), "RandomErasing stands before NormalizeImage; put it after"),
        (
            (NORMALIZE, {"RandomErasing": {"sl": 0.5}}),
            "RandomErasing.sl is 0.5 (float) in here; at most sh (0.4) is wanted",
        ),
        (
            (NORMALIZE, {"RandomErasing": {"mode": "noise"}}),
            "RandomErasing.mode is 'noise' (text) in here; one of const, rand, pixel",
        ),
        (
            (NORMALIZE, {"RandomErasing": {"sh": "__import__('os')"}}),
            "RandomErasing.sh is \"__import__('os')\" (text) in here; a number is wanted",
        ),
        ((NORMALIZE, {"RandomErasing": None}, NORMALIZE), "NormalizeImage stands after RandomErasing"),
        ((NORMALIZE, {"RandFlipImage": None}), "RandFlipImage stands after NormalizeImage; put it before"),
        ((NORMALIZE, NORMALIZE), "NormalizeImage stands there twice"),
        (({"NormalizeImage": {"order": "chw"}},), "NormalizeImage with order 'chw' stands after ToCHWImage"),
        (({"NormalizeImage": {"std": [0, 1, 1], "order": "hwc"}},), "three non-zero stds"),
        (({"NormalizeImage": {"scale": "1/0", "order": "hwc"}},), "NormalizeImage.scale: '1/0'; wanted a number"),
    ],
)
def test_refusals(ops: Operators, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compile_transform(ops, "here")
    assert str(caught.value).startswith("here: ") or " in here; " in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("path", sorted((ROOT / "configs/train").glob("*.yaml")), ids=lambda path: Path(path).stem)
def test_shipped_recipes_compile(path: Path, photo: np.ndarray) -> None:
    data = load_train_config(path).DataLoader
    assert data.Train
    parts = [data.Train] + [
        each for each in ((data.Eval and data.Eval.Query), (data.Eval and data.Eval.Gallery)) if each
    ]
    for part in parts:
        transform = pickle.loads(pickle.dumps(compile_transform(part.dataset.transform_ops, "x")))
        assert transform.size
        assert transform(photo, rng()).shape == (3, *transform.size)
    assert all(compile_transform(part.dataset.transform_ops, "x").preprocess for part in parts[1:])
