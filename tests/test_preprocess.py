"""Our preprocessing against PaddleClas's own operators, bit for bit, and what bad `transform_ops` are told."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from shitu.errors import ConfigError
from shitu.recognise.transform_ops import PADDLECLAS_DETECTION, PADDLECLAS_RECOGNITION, compile_ops

Ops = list[dict[str, Any]]
SIZES = [(1, 1), (1, 500), (500, 1), (2, 3), (17, 31), (224, 224), (225, 223), (333, 500), (640, 640), (641, 127)]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
NORMALISE = {"NormalizeImage": {"scale": "1.0/255.0", "mean": MEAN, "std": STD, "order": "hwc"}}
DET_NORMALISE = {"DetNormalizeImage": {"is_scale": True, "mean": MEAN, "std": STD}}


def picture(rows: int, columns: int, seed: int = 0, grey: bool = False) -> NDArray[np.uint8]:
    """Noise over a slope: every pixel value, and edges for interpolation to show itself."""
    rng = np.random.default_rng((rows, columns, seed))
    slope = np.linspace(0, 200, rows * columns).reshape(rows, columns, 1)
    image = (slope + rng.integers(0, 56, (rows, columns, 1 if grey else 3))).astype(np.uint8)
    return np.repeat(image, 3, axis=2) if grey else image


def configs_of_the_wheel() -> list[Any]:
    """(name, section, transform_ops) of every ShiTu config that the paddleclas wheel holds, without importing it."""
    spec = importlib.util.find_spec("paddleclas")
    found = []
    for path in sorted(Path(spec.origin).parent.glob("deploy/configs/*.yaml")) if spec and spec.origin else []:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        for section in ("DetPreProcess", "RecPreProcess"):
            if section in config:
                found.append(pytest.param(section, config[section]["transform_ops"], id=f"{path.stem}-{section}"))
    return found or [pytest.param("", [], marks=pytest.mark.skip(reason="paddleclas is not installed"))]


@pytest.fixture(scope="module")
def paddleclas() -> Any:
    """PaddleClas's module of operators."""
    wanted = "wants `pip install --no-deps paddleclas==2.6.0` and the extra `train`"
    return pytest.importorskip("paddleclas.deploy.python.preprocess", reason=wanted)


def theirs(module: Any, ops: Ops, image: NDArray[np.uint8]) -> tuple[NDArray[Any], dict[str, Any]]:
    """The tensor that PaddleClas makes, and its im_info (of a detector)."""
    operators = module.create_operators(ops)
    info: dict[str, Any] = {"input_shape": [3, 640, 640]}
    for operator in operators:
        if type(operator).__name__.startswith("Det"):
            image, info = operator(image, info)
        else:
            image = operator(image)
    return np.asarray(image), info


def assert_same(module: Any, ops: Ops, image: NDArray[np.uint8], where: str = "RecPreProcess") -> None:
    wanted, info = theirs(module, ops, image.copy())
    preprocess = compile_ops(ops, where)
    tensor = preprocess(image)
    assert tensor.dtype == np.float32
    np.testing.assert_array_equal(tensor, wanted)
    if "scale_factor" in info:
        factors = preprocess.scale_factor(*image.shape[:2])
        np.testing.assert_array_equal(np.array(factors, np.float32), info["scale_factor"])
        np.testing.assert_array_equal(preprocess.resized(*image.shape[:2]), info["im_shape"])


@pytest.mark.parametrize(("section", "ops"), configs_of_the_wheel())
def test_every_shitu_config_of_the_wheel(paddleclas: Any, section: str, ops: Ops) -> None:
    for number, size in enumerate(SIZES):
        assert_same(paddleclas, ops, picture(*size, seed=number, grey=number % 3 == 2), section)


def test_our_defaults_are_those_of_inference_general(paddleclas: Any) -> None:
    path = Path(paddleclas.__file__).parents[1] / "configs/inference_general.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert config["DetPreProcess"]["transform_ops"] == list(PADDLECLAS_DETECTION)
    assert config["RecPreProcess"]["transform_ops"] == list(PADDLECLAS_RECOGNITION)


@pytest.mark.parametrize("size", [1, 32, 224, [224, 160], [97, 320]])
@pytest.mark.parametrize("interpolation", [None, "nearest", "bilinear", "area", "bicubic", "lanczos", "Bilinear"])
def test_resize(paddleclas: Any, size: Any, interpolation: str | None) -> None:
    ops = [{"ResizeImage": {"size": size, "interpolation": interpolation}}, NORMALISE, {"ToCHWImage": None}]
    for rows, columns in SIZES:
        assert_same(paddleclas, ops, picture(rows, columns))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "box", "lanczos", "hamming"])
@pytest.mark.parametrize("backend", ["pil", "PIL"])
def test_resize_by_pillow(paddleclas: Any, interpolation: str, backend: str) -> None:
    resize = {"size": [224, 224], "return_numpy": True, "interpolation": interpolation, "backend": backend}
    for rows, columns in SIZES:
        assert_same(paddleclas, [{"ResizeImage": resize}, NORMALISE, {"ToCHWImage": {}}], picture(rows, columns))


@pytest.mark.parametrize("short", [1, 33, 256])
@pytest.mark.parametrize("backend", ["cv2", "pil"])
def test_resize_short(paddleclas: Any, short: int, backend: str) -> None:
    ops = [{"ResizeImage": {"resize_short": short, "backend": backend}}, NORMALISE, {"ToCHWImage": None}]
    for rows, columns in SIZES[3:]:
        assert_same(paddleclas, ops, picture(rows, columns))


@pytest.mark.parametrize("size", [1, 223, 224, [200, 100], [99, 224]])
def test_crop(paddleclas: Any, size: Any) -> None:
    ops = [{"ResizeImage": {"resize_short": 224}}, {"CropImage": {"size": size}}, NORMALISE, {"ToCHWImage": None}]
    for rows, columns in SIZES[3:]:
        assert_same(paddleclas, ops, picture(rows, columns))


@pytest.mark.parametrize("scale", [None, 1, 0.00392157, "1.0/255.0", "1/255", " 1.0 / 255. ", "0.5", "1e-3", "1/-2e2"])
@pytest.mark.parametrize("order", ["hwc", "", "chw", None])
def test_normalise(paddleclas: Any, scale: Any, order: str | None) -> None:
    options = {"scale": scale, "mean": MEAN, "std": STD}
    if order is not None:  # left out, it is chw
        options["order"] = order
    normalise, permute = {"NormalizeImage": options}, {"ToCHWImage": None}
    steps = [normalise, permute] if order in ("hwc", "") else [permute, normalise]
    assert_same(paddleclas, [{"ResizeImage": {"size": 64}}, *steps], picture(70, 50))


@pytest.mark.parametrize(("mean", "std"), [(None, None), ([0, 0, 0], [1, 1, 1]), ([127.5, 1, -3], [0.1, 128, 1e3])])
def test_means_and_stds(paddleclas: Any, mean: Any, std: Any) -> None:
    image = picture(300, 200)
    normalise = {"NormalizeImage": {"scale": 1.0, "mean": mean, "std": std, "order": "hwc"}}
    assert_same(paddleclas, [{"ResizeImage": {"size": 64}}, normalise, {"ToCHWImage": None}], image)
    if mean:
        for scaled in (True, False):
            normalise = {"DetNormalizeImage": {"mean": mean, "std": std, "is_scale": scaled}}
            assert_same(paddleclas, [{"DetResize": {"target_size": 64}}, normalise, {"DetPermute": {}}], image)


@pytest.mark.parametrize("interp", range(5))
@pytest.mark.parametrize("keep_ratio", [True, False, None])
@pytest.mark.parametrize("target", [[640, 640], [320, 416], 96])
def test_det_resize(paddleclas: Any, interp: int, keep_ratio: bool | None, target: Any) -> None:
    resize = {"target_size": target, "interp": interp}
    if keep_ratio is not None:  # left out, it is true
        resize["keep_ratio"] = keep_ratio
    sizes = SIZES[3:] if target == 96 else SIZES  # see the next test
    for number, (rows, columns) in enumerate(sizes):
        ops = [{"DetResize": resize}, DET_NORMALISE, {"DetPermute": {}}]
        assert_same(paddleclas, ops, picture(rows, columns, number), "DetPreProcess")


def test_keep_ratio_rounds_before_it_compares(paddleclas: Any) -> None:
    """1999 x 2000 would become 640 x 640.32, which is 640, and not too long."""
    ops = [{"DetResize": {"target_size": 640}}, DET_NORMALISE, {"DetPermute": {}}]
    for rows, columns in ((1999, 2000), (1997, 2000), (2000, 1996)):
        assert_same(paddleclas, ops, picture(rows, columns), "DetPreProcess")


def test_keep_ratio_of_a_thread_leaves_a_pixel(paddleclas: Any) -> None:
    """PaddleClas rounds the shorter side to nothing, and OpenCV refuses; ours goes on."""
    ops = [{"DetResize": {"target_size": 640}}, DET_NORMALISE, {"DetPermute": {}}]
    with pytest.raises(Exception, match=r"dsize|inv_scale"):
        theirs(paddleclas, ops, picture(1, 2000))
    preprocess = compile_ops(ops, "DetPreProcess")
    assert preprocess(picture(1, 2000)).shape == (3, 1, 640)
    assert preprocess.resized(1, 2000) == (1, 640)


@pytest.mark.parametrize("stride", [0, -1, 1, 7, 32, 128])
@pytest.mark.parametrize("keep_ratio", [True, False])
def test_det_pad_stride(paddleclas: Any, stride: int, keep_ratio: bool) -> None:
    resize = {"DetResize": {"target_size": [300, 400], "keep_ratio": keep_ratio}}
    ops = [resize, DET_NORMALISE, {"DetPermute": {}}, {"DetPadStride": {"stride": stride}}]
    for rows, columns in SIZES[3:]:
        assert_same(paddleclas, ops, picture(rows, columns), "DetPreProcess")


def test_views_of_an_image(paddleclas: Any) -> None:
    """Crops and OpenCV's [:, :, ::-1] are not contiguous."""
    image = picture(300, 400)
    for view in (image[20:170, 30:301], image[:, :, ::-1], image[::2, ::3], image[::-1, 7:9, ::-1]):
        ops = [{"ResizeImage": {"size": 224}}, NORMALISE, {"ToCHWImage": None}]
        assert_same(paddleclas, ops, view)
        assert_same(paddleclas, [NORMALISE, {"ToCHWImage": None}], view)


def test_every_order_of_channels_matters() -> None:
    """So that the comparisons above could fail: swapping two channels, or one bit of the table, shows."""
    preprocess = compile_ops(list(PADDLECLAS_RECOGNITION), "RecPreProcess")
    image = picture(224, 224)
    tensor = preprocess(image)
    assert not np.array_equal(tensor, preprocess(image[:, :, ::-1]))
    by_hand = (image[:, :, 0] * np.float32(1 / 255) - np.float32(0.485)) / np.float32(0.229)
    assert np.array_equal(tensor[0], by_hand)


CHW: dict[str, Any] = {"ToCHWImage": None}
REC = "RecPreProcess.transform_ops"


def test_a_crop_larger_than_the_image() -> None:
    preprocess = compile_ops([{"CropImage": {"size": [20, 10]}}, NORMALISE, CHW], REC)
    with pytest.raises(ConfigError, match="CropImage of 20x10 cannot be cut from 19x30; make ResizeImage's"):
        preprocess(picture(30, 19))


def test_a_thread_of_a_photo_does_not_fill_the_memory() -> None:
    """resize_short of 1 x 60,000 pixels would be 256 x 15,360,000: 11 GB for the sake of its middle."""
    ops = [{"ResizeImage": {"resize_short": 256}}, {"CropImage": {"size": 224}}, CHW]
    image = np.zeros((1, 60_000, 3), np.uint8)
    image[:, 29_900:30_100] = 255
    tensor = compile_ops(ops, REC)(image)
    assert tensor.shape == (3, 224, 224)
    assert tensor.min() == 255


@pytest.mark.parametrize(
    ("ops", "alike"),
    [
        ([{"ResizeImage": {"size": [9, 8]}}], True),
        ([{"ResizeImage": {"resize_short": 9}}, {"CropImage": {"size": 8}}], True),
        ([{"DetResize": {"target_size": 9, "keep_ratio": False}}], True),
        ([{"ResizeImage": {"resize_short": 9}}], False),
        ([{"DetResize": {"target_size": 9}}], False),
        ([], False),
    ],
)
def test_one_size(ops: Ops, alike: bool) -> None:
    preprocess = compile_ops([*ops, CHW], REC)
    assert preprocess.one_size is alike
    assert (preprocess(picture(20, 30)).shape == preprocess(picture(30, 20)).shape) is alike
