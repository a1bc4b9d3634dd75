"""The random operators of training recipes against numpy twins, invariants and counts."""

from __future__ import annotations

import colorsys
import random
from math import cos, pi, radians, sin

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from shitu.errors import ConfigError
from shitu.recognise.preprocess import Resize
from shitu.training.rec import auto_augment
from shitu.training.rec.augment import (
    ColorJitter,
    DecodeImage,
    ImageOp,
    Pad,
    RandCropImage,
    RandCropImageV2,
    RandFlipImage,
    RandomErasing,
    RandomRotation,
    Still,
)
from shitu.training.rec.augment_mix import CHAIN, AugMix
from shitu.training.rec.auto_augment import IMAGENET_POLICY, OPERATIONS, AutoAugment, RandAugment, timm_rand_augment


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def noise(rows: int = 24, columns: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), dtype=np.uint8)


EVERY_OP: tuple[ImageOp, ...] = (
    Still(Resize(height=9, width=8)),
    DecodeImage(to_rgb=False),
    RandFlipImage(-1),
    Pad(3, 7),
    RandCropImageV2((20, 30)),
    RandCropImage((10, 12)),
    RandomRotation(0.7, (-45.0, 45.0), "bilinear"),
    ColorJitter((0.5, 1.5), (0.5, 1.5), (0.5, 1.5), (-0.2, 0.2), 0.7),
    AutoAugment(),
    AugMix(prob=1.0, mixture_depth=-1, aug_severity=5.0),
    RandAugment(2, 9.0, 0.5, 0.7, tuple(OPERATIONS)),
)


@pytest.mark.parametrize("op", EVERY_OP, ids=lambda op: type(op).__name__)
def test_every_operator_is_a_function_of_image_and_generator_alone(op: ImageOp) -> None:
    image = noise()
    image.setflags(write=False)
    before = random.getstate(), np.random.get_state()[1].tolist()
    first = [op(image, np.random.default_rng(seed)) for seed in range(30)]
    random.random()
    second = [op(image, np.random.default_rng(seed)) for seed in range(30)]
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(made.dtype == np.uint8 and made.shape[2] == 3 for made in first)
    assert before[1] == np.random.get_state()[1].tolist()
    assert {made.shape[:2] for made in first} == {op.out((24, 32))}
    if not isinstance(op, (Still, DecodeImage, Pad)):
        assert len({made.tobytes() for made in first}) > 1


@pytest.mark.parametrize(("code", "axes"), [(1, (1,)), (0, (0,)), (-1, (0, 1))])
def test_flip_is_numpys_in_half_of_the_cases(code: int, axes: tuple[int, ...], rng: np.random.Generator) -> None:
    image, op = noise(), RandFlipImage(code)
    made = [op(image, rng) for _ in range(2000)]
    flipped = sum(np.array_equal(each, np.flip(image, axes)) for each in made)
    assert flipped + sum(np.array_equal(each, image) for each in made) == 2000
    assert 900 < flipped < 1100  # 4.5 standard deviations
    assert np.array_equal(np.flip(next(each for each in made if not np.array_equal(each, image)), axes), image)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
def test_pad_is_numpys(mode: str, rng: np.random.Generator) -> None:
    image = noise()
    options = {"constant_values": 9} if mode == "constant" else {}
    twin = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode=mode, **options)  # type: ignore[call-overload]
    assert np.array_equal(Pad(4, 9, mode)(image, rng), twin)
    assert np.array_equal(Pad(0)(image, rng), image)


def test_crop_v2_is_a_part_of_the_image_and_every_position_is_as_likely(rng: np.random.Generator) -> None:
    rows, columns = np.mgrid[0:6, 0:5]
    image = np.stack([rows, columns, rows * 0], 2).astype(np.uint8)  # each pixel knows its place
    counts = np.zeros((4, 3), int)
    for _ in range(6000):
        part = RandCropImageV2((3, 3))(image, rng)
        top, left = int(part[0, 0, 0]), int(part[0, 0, 1])
        assert np.array_equal(part, image[top : top + 3, left : left + 3])
        assert part.shape == (3, 3, 3)  # PaddleClas: now and then 2 rows
        counts[top, left] += 1
    chi_square = ((counts - 500) ** 2 / 500).sum()
    assert chi_square < 35  # 11 degrees of freedom: 1 in 4,000 is above
    assert np.array_equal(RandCropImageV2((6, 5))(image, rng), image)


def test_crop_v2_of_more_than_there_is_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(ConfigError, match="33x24 cannot be cut from 32x24; put ResizeImage"):
        RandCropImageV2((24, 33))(noise(), rng)


@pytest.mark.parametrize(("rows", "columns"), [(300, 400), (400, 300), (50, 50), (20, 600)])
@pytest.mark.parametrize("logarithmic", [False, True])
def test_random_resized_crop_keeps_its_limits(
    rows: int, columns: int, logarithmic: bool, rng: np.random.Generator
) -> None:
    op = RandCropImage((8, 8), (0.2, 0.9), (0.5, 2.0), logarithmic)
    cuts = np.array([op.cut(rows, columns, rng) for _ in range(1000)])
    heights, widths = cuts.T
    assert heights.min() >= 1
    assert widths.min() >= 1
    assert heights.max() <= rows
    assert widths.max() <= columns
    # a side loses up to a pixel by rounding down
    assert ((widths + 1) / heights >= 0.5).all()
    assert (widths / (heights + 1) <= 2.0).all()
    share = heights * widths / (rows * columns)
    most = ((heights + 1) * (widths + 1)) / (rows * columns)
    assert share.max() <= 0.9 + 1e-6
    if columns != 600:  # where there is no room for a fifth of the area at these ratios
        assert (most >= 0.2).all()
    if logarithmic and (rows, columns) == (50, 50):
        assert 400 < (widths > heights).sum() < 600  # wide and tall alike; not so where the ratio itself is drawn


def test_random_resized_crop_of_everything_is_a_resize(rng: np.random.Generator) -> None:
    image = noise(30, 30)
    op = RandCropImage((11, 13), (1.0, 1.0), (1.0, 1.0))
    assert np.array_equal(op(image, rng), cv2.resize(image, (13, 11)))
    one = noise(1, 1)
    assert (RandCropImage((2, 2))(one, rng) == one).all()


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(20, 20), (21, 21)])
def test_quarter_turns_move_pixels_and_change_none(
    interpolation: str, shape: tuple[int, int], rng: np.random.Generator
) -> None:
    image = noise(*shape)
    for turns in range(4):
        op = RandomRotation(1.0, (90.0 * turns, 90.0 * turns), interpolation)
        assert np.array_equal(op(image, rng), np.rot90(image, turns)), turns


def test_rotation_turns_by_its_angle_about_the_centre() -> None:
    image = np.zeros((101, 101, 3), np.uint8)
    image[48:53, 78:83] = 255  # 30 pixels right of the centre
    angles = []
    for seed in range(300):
        made = RandomRotation(1.0, (-90.0, 90.0), "bilinear")(image, np.random.default_rng(seed))[..., 0].astype(float)
        y, x = (np.mgrid[0:101, 0:101] * made).sum((1, 2)) / made.sum()
        angle = np.arctan2(50 - y, x - 50)
        assert x - 50 == pytest.approx(30 * cos(angle), abs=0.2)
        assert 50 - y == pytest.approx(30 * sin(angle), abs=0.2)
        angles.append(angle * 180 / pi)
    assert -91 < min(angles) < -80
    assert 80 < max(angles) < 91
    assert abs(np.mean(angles)) < 12  # 4 standard deviations of the mean of 300


def test_rotation_probability_and_black_corners(rng: np.random.Generator) -> None:
    image = np.full((40, 40, 3), 200, np.uint8)
    made = [RandomRotation(0.3, (45.0, 45.0))(image, rng) for _ in range(2000)]
    turned = [each for each in made if not np.array_equal(each, image)]
    assert 510 < len(turned) < 690
    assert (turned[0][[0, 0, -1, -1], [0, -1, 0, -1]] == 0).all()


def jittered(image: np.ndarray, **limits: tuple[float, float]) -> np.ndarray:
    return ColorJitter(**limits)(image, np.random.default_rng(0))


def test_colour_jitter_against_ten_lines_of_numpy() -> None:
    image = noise()
    grey = image @ np.array([0.299, 0.587, 0.114])
    for factor in (0.4, 1.0, 1.7):
        limits = (factor, factor)
        twin = np.clip(image * factor, 0, 255)
        assert np.abs(jittered(image, brightness=limits) - twin).max() <= 1
        twin = np.clip(grey.mean() + factor * (image - grey.mean()), 0, 255)
        assert np.abs(jittered(image, contrast=limits) - twin).max() <= 1.5
        twin = np.clip(grey[..., None] + factor * (image - grey[..., None]), 0, 255)
        assert np.abs(jittered(image, saturation=limits) - twin).max() <= 1.5
    assert np.array_equal(ColorJitter(prob=0.0, brightness=(0, 0))(image, np.random.default_rng(0)), image)


@pytest.mark.parametrize("turns", [-0.5, -0.25, 0.1, 0.5])
def test_hue_turns_the_colour_circle(turns: float) -> None:
    colours = [(200, 30, 30), (30, 200, 90), (40, 60, 220)]
    made = jittered(np.array([colours], np.uint8), hue=(turns, turns))
    for colour, got in zip(colours, made[0] / 255, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(each / 255 for each in colour))
        assert got == pytest.approx(colorsys.hsv_to_rgb((hue + turns) % 1, saturation, value), abs=0.05)


def test_erasing_writes_over_one_rectangle_within_its_limits(rng: np.random.Generator) -> None:
    op = RandomErasing(0.25, 0.02, 1 / 3, 0.3, (7.0, 8.0, 9.0), 10, True)
    erased, shares, aspects = 0, [], []
    for _ in range(4000):
        tensor = np.zeros((3, 40, 60), np.float32)
        op(tensor, rng)
        rows, columns = np.nonzero(tensor[0])
        if not len(rows):
            continue
        erased += 1
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert len(rows) == height * width  # one full rectangle
        assert all((tensor[c][rows, columns] == mean).all() for c, mean in enumerate(op.mean))
        shares.append(height * width / 2400)
        aspects.append(height / width)
    assert 880 < erased < 1120
    assert 0.01 < min(shares) < 0.05
    assert 0.3 < max(shares) < 0.36
    assert abs(np.median(np.log(aspects))) < 0.15


@pytest.mark.parametrize(("mode", "different"), [("const", 1), ("rand", 3), ("pixel", 3 * 30 * 30)])
def test_erasing_modes(mode: str, different: int, rng: np.random.Generator) -> None:
    tensor = np.full((3, 100, 100), 99, np.float32)
    RandomErasing(1.0, 0.09, 0.09, 1.0, mode=mode)(tensor, rng)
    written = tensor[tensor != 99]
    assert written.size == 3 * 30 * 30
    assert len(np.unique(written)) > 0.95 * different
    if mode == "pixel":
        assert abs(written.mean()) < 0.1
        assert written.std() == pytest.approx(1, abs=0.1)


def test_erasing_leaves_alone_what_it_does_not_fit_into(rng: np.random.Generator) -> None:
    tensor = np.zeros((3, 10, 10), np.float32)
    RandomErasing(1.0, 1.0, 1.0, 1.0, (5.0, 5.0, 5.0))(tensor, rng)
    assert not tensor.any()


def applied(name: str, image: np.ndarray, strength: float, sign: int = 1) -> np.ndarray:
    from PIL import Image

    return np.asarray(OPERATIONS[name](Image.fromarray(image), strength, sign))


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"autocontrast", "equalize", "invert", "posterize_further"}))
def test_no_strength_changes_nothing(name: str) -> None:
    image = noise()
    assert np.array_equal(applied(name, image, 0.0), image)
    assert not np.array_equal(applied(name, image, 1.0), image)


def test_operations_against_numpy() -> None:
    image = noise(40, 331)
    assert np.array_equal(applied("invert", image, 0.3), 255 - image)
    assert np.array_equal(applied("posterize", image, 1.0), image & 0xF0)
    assert np.array_equal(applied("solarize", image, 0.5), np.where(image < 128, image, 255 - image))
    assert np.array_equal(
        applied("solarize_add", image, 1.0), np.where(image < 128, np.minimum(image + 110.0, 255), image)
    )
    moved = applied("translate_x", image, 1.0)  # by 150 of 331 pixels
    assert np.array_equal(moved[:, :181], image[:, 150:])
    assert (moved[:, 181:] == 128).all()
    assert np.array_equal(applied("translate_x", image, 1.0, -1)[:, 150:], image[:, :181])
    dark = image // 4
    stretched = applied("autocontrast", dark, 1.0)
    assert stretched.min() == 0
    assert stretched.max() == 255


def test_rotate_and_shear_move_a_point_where_they_should() -> None:
    image = np.zeros((101, 101, 3), np.uint8)
    image[48:53, 78:83] = 255
    y, x = np.argwhere(applied("rotate", image, 1.0)[..., 0] == 255).mean(0)
    assert (x - 50, 50 - y) == pytest.approx((30 * cos(radians(30)), 30 * sin(radians(30))), abs=0.5)
    y, x = np.argwhere(applied("shear_y", image, 1.0)[..., 0] > 200).mean(0)
    assert (x, y) == pytest.approx((80, 50 - 0.3 * 80), abs=0.7)


def test_auto_augment_draws_every_policy_with_its_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorded draws against table 9 of the paper: how often each operation is expected per image."""
    assert len(IMAGENET_POLICY) == 25
    expected: dict[str, float] = {}
    for policy in IMAGENET_POLICY:
        for name, prob, _ in policy:
            expected[name] = expected.get(name, 0) + prob / 25
    done: list[str] = []

    def recorded(name: str) -> object:
        return lambda picture, strength, sign: done.append(name) or picture

    for name in OPERATIONS:
        monkeypatch.setitem(auto_augment.OPERATIONS, name, recorded(name))
    tiny, rng = noise(2, 2), np.random.default_rng(0)
    for _ in range(5000):
        AutoAugment()(tiny, rng)
    for name in OPERATIONS:
        assert done.count(name) / 5000 == pytest.approx(expected.get(name, 0), abs=0.035), name


def test_rand_augment_draws_evenly_and_counts_its_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, float, int]] = []

    def recorded(name: str) -> object:
        return lambda picture, strength, sign: done.append((name, strength, sign)) or picture

    for name in OPERATIONS:
        monkeypatch.setitem(auto_augment.OPERATIONS, name, recorded(name))
    tiny, rng = noise(2, 2), np.random.default_rng(0)
    for _ in range(1400):
        RandAugment(3, 4.0)(tiny, rng)
    assert len(done) == 4200
    names = [name for name, _, _ in done]
    assert all(230 < names.count(name) < 370 for name in auto_augment.RAND_AUGMENT)  # 300 each
    assert {strength for _, strength, _ in done} == {0.4}
    assert 1950 < sum(sign == 1 for _, _, sign in done) < 2250
    done.clear()
    for _ in range(2000):
        RandAugment(1, 9.5, 2.0, 0.5)(tiny, rng)
    assert 900 < len(done) < 1100
    assert max(strength for _, strength, _ in done) == 1.0  # cut off at 10
    assert np.array_equal(RandAugment(0)(tiny, rng), tiny)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("rand-m9-mstd0.5-inc1", (2, 9.0, 0.5, 0.5)),
        ("rand-m7-n3-p0.8-mstd1-inc1", (3, 7.0, 1.0, 0.8)),
        ("rand-m9-mstd0.5", None),  # timm's other set of operations
        ("augmix-m5-w4-d2", None),
        ("original-mstd0.5", None),
        ("rand-m9-x3-inc1", None),
        ("", None),
    ],
)
def test_timm_texts(text: str, wanted: tuple[float, ...] | None) -> None:
    op = timm_rand_augment(text)
    assert (op and (op.num_layers, op.magnitude, op.deviation, op.prob)) == wanted


def test_augmix_mixes_what_its_chains_make(monkeypatch: pytest.MonkeyPatch) -> None:
    """With operations that paint everything 0 or 250, a mixture lies between the image and these."""
    for place, name in enumerate(CHAIN):
        painted = PillowImage.new("RGB", (32, 24), (250 * (place % 2),) * 3)
        monkeypatch.setitem(OPERATIONS, name, lambda picture, strength, sign, painted=painted: painted)
    image, rng = np.full((24, 32, 3), 100, np.uint8), np.random.default_rng(0)
    mixed = [AugMix(prob=1.0)(image, rng) for _ in range(200)]
    assert all(len(np.unique(each)) == 1 for each in mixed)
    greys = [int(each[0, 0, 0]) for each in mixed]
    assert min(greys) < 10
    assert max(greys) > 240
    assert any(100 < grey < 250 for grey in greys)
    assert AugMix(prob=0.0)(image, rng) is image
