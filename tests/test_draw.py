"""Annotated pictures: what is drawn, what is left alone, and text of every kind."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from shitu.draw import draw
from shitu.draw.draw import draw_recognition, label_colour, one_line, text_colour
from shitu.errors import ShituError
from shitu.results import Box, DetectedObjects, Detection, Match, Recognition, Region

GREY = np.full((300, 400, 3), 128, dtype=np.uint8)


def recognition(*regions: tuple[Box, str]) -> Recognition:
    found = tuple(Region(box, 0.9, (Match(label, 0.87, 0, ""),)) for box, label in regions)
    return Recognition("photo.jpg", 400, 300, found)


def changed(picture: np.ndarray, image: np.ndarray = GREY) -> np.ndarray:
    return np.argwhere((picture != image).any(axis=2))


def test_nothing_found_is_an_equal_copy() -> None:
    for picture in (draw_recognition(GREY, recognition()), draw_recognition(GREY, DetectedObjects(""))):
        assert picture is not GREY
        assert (picture == GREY).all()
        picture[0, 0] = 0  # it can be drawn on


def test_the_box_is_drawn_in_the_colour_of_its_label_and_the_image_stays() -> None:
    image = GREY.copy()
    picture = draw_recognition(image, recognition(((100, 80, 200, 250), "苹果汁")))
    assert (image == GREY).all()
    assert picture.shape == GREY.shape
    assert picture.dtype == np.uint8
    for row, column in [(150, 100), (150, 199), (249, 150)]:
        assert tuple(picture[row, column]) == label_colour("苹果汁")
    assert (picture[120:240, 110:190] == 128).all()  # what was found is not hidden
    rows, columns = changed(picture).T
    assert rows.min() < 80  # the tag stands above
    assert (rows.max(), columns.min()) == (249, 100)


def test_detections_are_drawn_alike() -> None:
    picture = draw_recognition(GREY, DetectedObjects("", regions=(Detection((100, 80, 200, 250), 0.5),)))
    assert tuple(picture[150, 100]) == label_colour("foreground")


def test_boxes_beyond_the_picture_are_cut_and_those_outside_left_out() -> None:
    outside = recognition(((500, 10, 600, 50), "a"), ((50, 50, 50, 90), "b"), ((-20, -20, 0, 0), "c"))
    assert (draw_recognition(GREY, outside) == GREY).all()
    picture = draw_recognition(GREY, recognition(((-50, -50, 900, 900), "a")))
    assert tuple(picture[299, 399]) == tuple(picture[150, 0]) == label_colour("a")


@pytest.mark.parametrize("shape", [(1, 1), (5, 300), (300, 3), (20, 40), (48, 48), (100, 100), (60, 2000), (2000, 60)])
@pytest.mark.parametrize("label", ["元气森林 白桃味苏打水", "W" * 50])
def test_every_size_of_picture(shape: tuple[int, int], label: str) -> None:
    image = np.full((*shape, 3), 128, dtype=np.uint8)
    height, width = shape
    picture = draw_recognition(image, recognition(((0, 0, width, height), label), ((0, 0, 1, 1), label)))
    assert picture.shape == image.shape
    assert len(changed(picture, image))


def test_lines_and_letters_grow_with_the_picture() -> None:
    small = np.full((300, 400, 3), 128, dtype=np.uint8)
    large = np.full((3000, 4000, 3), 128, dtype=np.uint8)
    drawn_small = len(changed(draw_recognition(small, recognition(((100, 80, 200, 250), "苹果"))), small))
    drawn_large = len(changed(draw_recognition(large, recognition(((1000, 800, 2000, 2500), "苹果"))), large))
    assert 40 < drawn_large / drawn_small < 120


ODD_LABELS = [
    "",
    " \t ",
    "two\nlines\r\nthree",
    "\x00\x07\x1b[31m",
    "x" * 5000,
    "果" * 500,
    "שלום עולם",
    "مرحبا",
    "a\u202eb\u200bc",
    "🍎🥤👨\u200d👩\u200d👧",
    "e\u0301" + "\u0300" * 40,
    "\ud800",
    "\U0010ffff",
    "%s {} \\",
]


@pytest.mark.parametrize("label", ODD_LABELS, ids=ascii)
def test_odd_labels_are_one_line_and_do_not_crash(label: str) -> None:
    line = one_line(label)
    assert len(line) <= 60
    assert line == line.strip()
    assert line.isprintable()
    picture = draw_recognition(GREY, recognition(((100, 80, 200, 250), label)))
    rows, _ = changed(picture).T
    assert 80 - rows.min() <= 18 * 1.35 + 1  # one line of text above the box


def test_text_is_kept_as_it_is() -> None:
    for text in ("苹果汁", "元气森林 白桃味", "Öl & é 5 €", "臺灣", "한국", "日本の"):
        assert one_line(text) == text
    assert one_line("a\n b\tc") == "a b c"
    assert one_line("x" * 61) == "x" * 59 + "…"


@pytest.mark.parametrize("character", list("苹果汁元气森林农夫山泉旺仔äöüßé€0123456789.…臺灣のカ한Ж®"))
def test_the_font_has_the_character(character: str) -> None:
    font = draw.label_font(40)
    missing = bytes(font.getmask("\U0010fffd"))
    assert bytes(font.getmask(character)) != missing


def test_the_missing_font_is_reported_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> Any:
        raise ModuleNotFoundError(name)

    draw.label_font.cache_clear()
    monkeypatch.setattr(draw, "files", gone)
    with pytest.raises(ShituError, match="pip install noto-cjk-sans-otc"):
        draw_recognition(GREY, recognition(((100, 80, 200, 250), "a")))


def contrast(a: draw.Colour, b: draw.Colour) -> float:
    def luminance(colour: draw.Colour) -> float:
        parts = [v / 255 for v in colour]
        red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_colours() -> None:
    colours = {label: label_colour(label) for label in [f"商品 {n}" for n in range(300)]}
    assert len(set(colours.values())) > 270
    assert min(contrast(colour, text_colour(colour)) for colour in colours.values()) >= 4.5
    assert label_colour("苹果汁") == (236, 197, 19)  # the same in every run
    assert text_colour((255, 255, 0)) == (0, 0, 0)
    assert text_colour((0, 0, 160)) == (255, 255, 255)


def test_scores() -> None:
    assert [draw._score(score) for score in (0.8749, -0.05, 1, 37, 1234.5)] == ["0.87", "-0.05", "1.00", "37", "1234"]


def test_crowded_pictures_are_quick() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1000, 1000, 3), dtype=np.uint8)
    corners = rng.integers(0, 800, (20, 2)).tolist()
    crowd = recognition(*[((x, y, x + 150, y + 190), f"商品 {n}") for n, (x, y) in enumerate(corners)])
    draw_recognition(image, crowd)
    begun = time.perf_counter()
    draw_recognition(image, crowd)
    assert time.perf_counter() - begun < 1  # about 10 ms; the machine may be busy
    assert draw_recognition(image, crowd).tobytes() == draw_recognition(image, crowd).tobytes()


@pytest.mark.parametrize("count", [2, 10, 40])
def test_a_name_too_long_for_the_picture_is_shortened_and_the_score_stays(count: int) -> None:
    note = draw._Note((0, 0, 80, 80), "果" * count, "0.87")
    text, wide = draw._fit(note, 13, 80)
    assert wide <= 80
    assert text.endswith(" 0.87")
    assert text.startswith("果")
    assert ("…" in text) == (count > 2)
