"""The page of `shitu evaluate --report`: what is in it, that nothing gets out of it, and what happens to bad input."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shitu.errors import ShituError, UsageError
from shitu.evaluation.report import MANY_ROWS, check_report_path, write_report
from shitu.evaluation.report_mistakes import choose_worst
from shitu.evaluation.settings import Answer
from tests.report_page import (
    COLA,
    LABELS,
    PLAIN,
    QUOTES,
    SCRIPT,
    SETTINGS,
    UNKNOWN,
    Page,
    make_answer,
    make_answers,
    make_evaluation,
    make_files,
    written,
)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return make_files(tmp_path)


@pytest.fixture
def answers() -> list[Answer]:
    return make_answers()


def test_the_page_stands_alone(index: Path, answers: list[Answer]) -> None:
    page = written(
        index, answers, command="shitu evaluate --query 'a b.txt'", date="2026-11-22", detector_model="models/<det>"
    )
    policy = next(each for each in page.of("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert {"charset": "utf-8"} in page.of("meta")
    assert not {"script", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert not re.search(r"@import|url\(", page.html)
    assert "shitu evaluate --query 'a b.txt'" in page.text
    assert "2026-11-22" in page.text
    assert "models/<det>" in page.text


def test_names_from_outside_are_only_text(index: Path, answers: list[Answer]) -> None:
    page = written(index, answers)
    for name in (SCRIPT, QUOTES, COLA, UNKNOWN.replace("\x07", "\ufffd")):
        assert name in page.text
    assert "m<i>" in page.text
    assert "configs/<b>.yaml" in page.text
    alternatives = [each["alt"] for each in page.of("img")]
    assert SCRIPT in alternatives  # in attributes too
    assert QUOTES in alternatives
    assert "\x07" not in page.html


def test_the_drawings_are_well_formed(index: Path, answers: list[Answer]) -> None:
    drawings = list(written(index, answers).drawings())
    assert len(drawings) == 2 + 2 + len({one.query.label for one in answers if one.known})
    titles = [each.text or "" for drawing in drawings for each in drawing.iter("{http://www.w3.org/2000/svg}title")]
    assert "threshold 0.5" in titles
    assert any(title.startswith("this config: 50.0\u00a0% of the unknown named") for title in titles)


def test_every_mistake_is_shown_with_its_pictures(index: Path, answers: list[Answer]) -> None:
    page = written(index, answers)
    assert len(page.of("article")) == 5
    headings = [" ".join(each.split()) for each in re.findall(r"<h4>(.*?)</h4>", page.html)]
    shown = [Page(heading).text for heading in headings]
    assert shown == [
        f"{SCRIPT} taken for {QUOTES} 0.800",
        f"{COLA} taken for {PLAIN} 0.300, not near enough to be named",
        f"unknown {' '.join(UNKNOWN.split())} taken for {COLA} 0.750".replace("\x07", "\ufffd"),
        f"{COLA} 0.400, not near enough to be named",
        f"{PLAIN}: not found",
    ]
    # photo, crop, wrong, right; the unknown has no right one, the right one no wrong one, the lost one no crop
    assert len(page.of("img")) == 4 + 4 + 3 + 3 + 2
    assert not page.of("div", "missing")
    assert "✓ Right, in place 2" in page.text
    assert "✓ Right, not in the first 1" in page.text


def test_pictures_are_small_upright_and_show_the_box(index: Path, answers: list[Answer]) -> None:
    page = written(index, answers[:1] + answers[-2:])
    pictures = [
        Image.open(BytesIO(base64.b64decode((each["src"] or "").removeprefix("data:image/jpeg;base64,"))))
        for each in page.of("img")
    ]
    assert [picture.size for picture in pictures] == [(120, 100), (50, 70), (220, 147), (220, 147)]
    red, green, blue = np.asarray(pictures[0].convert("RGB"))[50, 10].tolist()
    assert red > 150  # the frame, on a green photo
    assert (green, blue) < (130, 100)


def test_at_most_so_many_mistakes(index: Path, answers: list[Answer]) -> None:
    assert len(written(index, answers, worst=3).of("article")) == 3
    assert not written(index, answers, worst=0).of("article")


def test_no_mistake_is_said(index: Path, answers: list[Answer]) -> None:
    assert "every query was named as it should be" in written(index, answers[6:7]).text


@pytest.mark.parametrize("seed", range(10))
def test_the_worst_come_first(seed: int) -> None:
    random = np.random.default_rng(seed)
    answers = []
    for line in range(60):
        first, label = LABELS[random.integers(4)], LABELS[random.integers(4)]
        ranking = [(first, round(float(random.random()), 2))] if random.random() < 0.9 else []
        answers.append(make_answer(label, ranking, known=bool(random.random() < 0.6), line=line))
    most = int(random.integers(1, 50))
    chosen = choose_worst(answers, SETTINGS, most)
    wrong = [one for one in answers if one.known and one.regions and not one.right]
    named = [one for one in answers if not one.known and one.score >= 0.5]
    far = [one for one in answers if one.known and one.right and one.score < 0.5]
    lost = [one for one in answers if one.known and not one.regions]
    for kind, of in {"wrong": wrong, "unknown": named, "unnamed": far, "lost": lost}.items():
        order = sorted(of, key=lambda one: one.score if kind == "unnamed" else -one.score)
        assert chosen[kind] == order[: len(chosen[kind])]
    assert sum(map(len, chosen.values())) == min(most, len(wrong) + len(named) + len(far) + len(lost))
    assert len(chosen["wrong"]) >= min(len(wrong), most // 2)
    assert len(chosen["unknown"]) >= min(len(named), most // 2)
    assert not chosen["unnamed"] or len(chosen["unknown"]) == len(named)


def test_pictures_that_are_not_there_are_grey_boxes(index: Path, answers: list[Answer]) -> None:
    Path("photo.jpg").write_text("no picture")
    (index.parent / "1.png").unlink()
    page = written(index, answers[:1] + answers[-2:])
    assert [each["title"] for each in page.of("div", "missing")] == [
        "photo.jpg",
        "photo.jpg",
        str(index.parent / "1.png"),
    ]
    assert len(page.of("img")) == 1


def test_without_the_gallery_the_page_is_written(index: Path, answers: list[Answer]) -> None:
    shutil.rmtree(index)
    page = written(index, answers)
    assert len(page.of("article")) == 5
    assert "no picture of it at hand" in page.text


def test_the_json_is_all_there(index: Path, answers: list[Answer]) -> None:
    page = written(index, answers)
    evaluation = make_evaluation(answers, index)
    text = page.text[page.text.index("All figures as JSON") :].removeprefix("All figures as JSON")
    assert json.loads(text) == json.loads(json.dumps(evaluation.to_dict()))


def test_equal_input_gives_equal_bytes(index: Path, answers: list[Answer]) -> None:
    assert written(index, answers).html == written(index, answers).html


def test_24_pictures_of_noise_stay_small(index: Path, answers: list[Answer]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    for name in ("photo.jpg", "0.png", "1.png"):
        Image.fromarray(noise).save(name)
    wrong = [make_answer(SCRIPT, [(QUOTES, 0.8), (SCRIPT, 0.7)], box=(0, 0, 399, 399), line=n) for n in range(24)]
    page = written(index, wrong)
    assert len(page.of("img")) == 4 * 24
    assert max(len(each["src"] or "") for each in page.of("img")) < 27_000  # 20,000 bytes in base64
    assert len(page.html.encode()) < 3_000_000


def test_long_tables_are_closed(index: Path) -> None:
    answers = [make_answer(f"{SCRIPT}{number}", [(PLAIN, 0.9)], line=number) for number in range(MANY_ROWS + 1)]
    page = written(index, answers)
    assert page.text.count(f"Show {MANY_ROWS + 1} rows") == 2  # per label, and confusions
    assert not [each for each in page.of("details") if "open" in each]
    assert len(page.of("tr")) == 2 * (MANY_ROWS + 2) + 3


@pytest.mark.parametrize(
    ("dist_type", "words", "threshold"), [("L2", "squared distance", 0.5), ("hamming", "differing bits", 100)]
)
def test_distances_are_shown_as_they_are(index: Path, dist_type: str, words: str, threshold: float) -> None:
    unit = threshold
    answers = [
        make_answer(PLAIN, [(PLAIN, 0.2 * unit)], sign=-1),
        make_answer(COLA, [(PLAIN, 1.4 * unit)], sign=-1),
        make_answer(UNKNOWN, [(PLAIN, 0.9 * unit)], known=False, sign=-1),
    ]
    write_report(make_evaluation(answers, index, replace(SETTINGS, dist_type=dist_type)), Path("out.html"))
    page = Page(Path("out.html").read_text(encoding="utf-8"))
    assert f"{words} {threshold:g}" in page.text
    assert f"{words}, nearer →" in page.text
    assert "−" not in page.text


# --- where it is written -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "said"),
    [("there.html", "is a folder"), ("nowhere/a.html", "nowhere is not there"), ("list.txt", "ends in .html")],
)
def test_a_place_that_will_not_do_is_told_first(tmp_path: Path, path: str, said: str) -> None:
    (tmp_path / "there.html").mkdir()
    with pytest.raises(UsageError, match=said):
        check_report_path(tmp_path / path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_told_first(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="no permission"):
        check_report_path(tmp_path / "a.html")


def test_a_full_disk_leaves_the_old_page(index: Path, answers: list[Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    old = written(index, answers[:1]).html

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shitu.evaluation.report.os.replace", full)
    with pytest.raises(ShituError, match="No space left"):
        written(index, answers)
    assert Path("out.html").read_text(encoding="utf-8") == old
    assert not list(Path().glob(".shitu*"))
