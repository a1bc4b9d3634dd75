"""The command line as its users meet it: inputs, records, pictures, statuses. In-process where a process is no part."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from shitu.cli import main
from tests.conftest import DEMO, index_overrides

pytestmark = pytest.mark.usefixtures("shared_sessions")

BEACH, DESK = DEMO / "photos" / "beach.jpg", DEMO / "photos" / "desk.jpg"
Command = Callable[..., Result]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 demo pictures: 4 classes by 3 makers, the first class with a Chinese name."""
    folder = tmp_path_factory.mktemp("gallery")
    lines = (DEMO / "gallery.txt").read_text(encoding="utf-8").splitlines()[:12]
    text = "".join(f"{line}\n".replace("\tambulance", "\t救护车 🚑") for line in lines)
    (folder / "list.txt").write_text(text, encoding="utf-8")
    overrides = index_overrides(folder / "list.txt", folder / "index", index_method="Flat")
    done = CliRunner().invoke(main, ["build-gallery", *options(overrides)], catch_exceptions=False)
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"12 images indexed; {folder / 'index'} holds 12.\n"
    return folder / "index"


def options(overrides: list[str]) -> list[str]:
    return [part for override in overrides for part in ("-o", override)]


@pytest.fixture
def command(gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command in an empty folder with that gallery, in which every region finds something."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *arguments: object, stdin: bytes | None = None) -> Result:
        common = options([f"IndexProcess.index_dir={gallery}", "IndexProcess.score_thres=-1"])
        return CliRunner().invoke(main, [name, *common, *map(str, arguments)], input=stdin, catch_exceptions=False)

    return run


def records(done: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def images(done: Result) -> list[str]:
    return [record["image"] for record in records(done)]


# --- records ---------------------------------------------------------------------------------------------------


def test_a_record_has_these_keys_and_no_others(command: Command) -> None:
    done = command("predict", "-o", "IndexProcess.return_k=12", BEACH)
    assert done.exit_code == 0
    (record,) = records(done)
    assert list(record) == ["image", "width", "height", "regions"]
    assert (record["image"], record["width"], record["height"]) == (str(BEACH), 900, 675)
    assert record["regions"]
    for region in record["regions"]:
        assert list(region) == ["bbox", "rec_docs", "rec_scores", "det_score", "matches"]
        left, top, right, bottom = region["bbox"]
        assert 0 <= left < right <= 900
        assert 0 <= top < bottom <= 675
        assert 0 < region["det_score"] <= 1
        assert len(region["matches"]) == 12
        for match in region["matches"]:
            assert list(match) == ["label", "score", "id", "image"]
        best = region["matches"][0]
        assert (region["rec_docs"], region["rec_scores"]) == (best["label"], best["score"])
        assert {match["id"] for match in region["matches"]} == set(range(12))
        assert best["score"] == max(match["score"] for match in region["matches"])
    assert "救护车 🚑" in done.stdout, "Chinese is not escaped"


def test_no_result_is_an_empty_list(command: Command) -> None:
    done = command("predict", "-o", "IndexProcess.score_thres=1", BEACH)
    assert done.exit_code == 0
    assert records(done) == [{"image": str(BEACH), "width": 900, "height": 675, "regions": []}]


def test_a_bad_image_is_a_record_in_its_place_and_status_1(command: Command, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(BEACH.read_bytes()[:2000])
    done = command("predict", BEACH, "bad.jpg", DESK)
    assert done.exit_code == 1
    assert images(done) == [str(BEACH), "bad.jpg", str(DESK)]
    _, bad, _ = records(done)
    assert list(bad) == ["image", "width", "height", "regions", "error"]
    assert (bad["width"], bad["height"], bad["regions"]) == (0, 0, [])
    assert "bad.jpg: damaged or cut short JPEG" in bad["error"]
    assert f"Failed: {bad['error']}\n" in done.stderr
    assert done.stdout.count('"bbox"') > 1


def test_a_larger_batch_gives_the_same(command: Command) -> None:
    one = command("predict", DEMO / "photos")
    four = command("predict", "-o", "Global.batch_size=4", DEMO / "photos")
    assert len(records(one)) == len(list((DEMO / "photos").glob("*.jpg")))
    for single, grouped in zip(records(one), records(four), strict=True):
        assert [region["bbox"] for region in single["regions"]] == [region["bbox"] for region in grouped["regions"]]
        assert [region["rec_docs"] for region in single["regions"]] == [r["rec_docs"] for r in grouped["regions"]]
        scores = [[region["rec_scores"] for region in record["regions"]] for record in (single, grouped)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-4)


# --- inputs ----------------------------------------------------------------------------------------------------


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Four photos: one deep down, one with a Chinese name, one in capitals; and a text."""
    folder = tmp_path / "album"
    (folder / "deep" / "下面").mkdir(parents=True)
    for name in ("a.jpg", "deep/B.JPG", "deep/下面/海滩 1.jpg", "[1].jpg"):
        (folder / name).write_bytes(BEACH.read_bytes())
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["album/a.jpg"], ["album/a.jpg"]),
        (["album/deep/下面/海滩 1.jpg"], ["album/deep/下面/海滩 1.jpg"]),
        (["album"], ["album/[1].jpg", "album/a.jpg", "album/deep/B.JPG", "album/deep/下面/海滩 1.jpg"]),
        (["album/*/*.[jJ]*"], ["album/deep/B.JPG"]),
        (["album/[1].jpg", "album/deep/*.JPG"], ["album/[1].jpg", "album/deep/B.JPG"]),
        (["-o", "Global.infer_imgs=album/deep"], ["album/deep/B.JPG", "album/deep/下面/海滩 1.jpg"]),
    ],
)
def test_inputs(command: Command, album: Path, arguments: list[str], expected: list[str]) -> None:
    done = command("predict-det", "--no-pictures", *arguments)
    assert (done.exit_code, images(done)) == (0, expected)


def test_stdin_as_a_list(command: Command, album: Path) -> None:
    text = "\ufeffalbum/a.jpg\r\n\nalbum/deep/下面/海滩 1.jpg\nalbum/gone.jpg"
    done = command("predict-det", "--no-pictures", "-", stdin=text.encode())
    assert images(done) == ["album/a.jpg", "album/deep/下面/海滩 1.jpg", "album/gone.jpg"]
    assert (done.exit_code, records(done)[2]["error"]) == (1, "album/gone.jpg: no such file; check the path")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM"])
def test_stdin_as_an_image(command: Command, tmp_path: Path, kind: str) -> None:
    # These sizes put a line break into the header, so that the start looks like text.
    size = (1, 53) if kind == "BMP" else (10, 10)
    Image.open(BEACH).resize(size).save(tmp_path / "image", kind)
    done = command("predict-det", "--no-pictures", "-", stdin=(tmp_path / "image").read_bytes())
    assert (done.exit_code, [(r["image"], r["width"], r["height"]) for r in records(done)]) == (0, [("-", *size)])


def test_formats_and_suffixes(command: Command, tmp_path: Path) -> None:
    names = ["a.jpeg", "b.png", "c.webp", "d.bmp", "e.TIFF", "f.Gif"]
    picture = Image.open(DESK).resize((64, 64))
    for name in names:
        picture.save(tmp_path / name)
    done = command("predict-rec", "--npy", "v.npy", ".")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [f"./{name}" for name in names]
    vectors = np.load(tmp_path / "v.npy")
    assert (vectors @ vectors[1] > 0.7).all(), "the same picture in six formats (GIF has 256 colours)"


def test_without_a_detector_the_whole_image_is_recognised(command: Command) -> None:
    for when in ("always", "fallback"):
        settings = ["Global.det_inference_model_dir=", f"Global.whole_image={when}"]
        (record,) = records(command("predict", *options(settings), DESK))
        assert [(region["bbox"], region["det_score"]) for region in record["regions"]] == [([0, 0, 900, 675], 1.0)]


# --- table and pictures ----------------------------------------------------------------------------------------


def test_table(command: Command, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("text")
    done = command("predict", "--format", "table", "--no-pictures", DESK, "bad.jpg")
    assert done.exit_code == 1
    head, _, *rows = done.stdout.splitlines()
    assert head.split() == ["image", "label", "score", "det", "x1", "y1", "x2", "y2"]
    assert rows[0].startswith(str(DESK))
    assert rows[-1].split() == ["bad.jpg", "(failed)"]
    done = command("predict", "--format", "table", "-o", "IndexProcess.score_thres=1", DESK)
    assert done.stdout.splitlines()[2].split() == [str(DESK), "(nothing)"]
    done = command("predict-det", "--format", "table", "--no-pictures", DESK)
    assert " foreground " in done.stdout


def test_pictures(command: Command, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.jpg").write_bytes(DESK.read_bytes())
    assert command("predict", "--no-pictures", "a", "b").exit_code == 0
    assert not (tmp_path / "output").exists()
    for name in ("predict", "predict-det"):
        done = command(name, "-o", f"Global.output_dir={name}", "a", "b", "a/same.jpg")
        assert (done.exit_code, done.stderr.endswith(f"; 3 annotated pictures in {name}\n")) == (0, True)
        drawn = sorted((tmp_path / name).iterdir())
        assert [path.name for path in drawn] == ["b__same.jpg", "same.jpg"]
        for path in drawn:
            changed = np.asarray(Image.open(path), np.int16) - np.asarray(Image.open(DESK), np.int16)
            assert changed.shape == (675, 900, 3)
            assert np.abs(changed).max() > 100, "something was drawn"


def test_a_picture_that_cannot_be_saved_does_not_stop_the_rest(command: Command, tmp_path: Path) -> None:
    Image.new("RGB", (70_000, 2)).save(tmp_path / "a.bmp")  # wider than a JPEG can be
    (tmp_path / "b.jpg").write_bytes(DESK.read_bytes())
    done = command("predict-det", "a.bmp", "b.jpg")
    assert done.exit_code == 1
    assert images(done) == ["a.bmp", "b.jpg"]
    assert "a.bmp: the annotated picture could not be saved: " in done.stderr
    assert "1 annotated picture in ./output" in done.stderr


def test_quiet(command: Command, tmp_path: Path, gallery: Path) -> None:
    (tmp_path / "bad.jpg").write_text("text")
    arguments = ["-q", "predict", "-o", f"IndexProcess.index_dir={gallery}", str(DESK), "bad.jpg"]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.stderr == "Failed: bad.jpg: not an image; shitu reads JPEG, PNG, WebP, BMP, TIFF, GIF or PPM\n"


# --- the stages alone ------------------------------------------------------------------------------------------


def test_predict_det(command: Command) -> None:
    (record,) = records(command("predict-det", "--no-pictures", DESK))
    assert list(record) == ["image", "width", "height", "regions"]
    assert record["regions"]
    scores = [region["det_score"] for region in record["regions"]]
    assert scores == sorted(scores, reverse=True)
    assert all(list(region) == ["bbox", "det_score"] for region in record["regions"])


def test_predict_rec_and_npy_agree(command: Command, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("text")
    done = command("predict-rec", DESK, "bad.jpg", BEACH)
    assert done.exit_code == 1
    first, bad, last = records(done)
    assert list(first) == ["image", "dimension", "vector"]
    assert list(bad) == ["image", "error"]
    assert (first["dimension"], len(first["vector"])) == (512, 512)
    done = command("predict-rec", "--npy", "v.npy", DESK, "bad.jpg", BEACH)
    assert (done.exit_code, done.stdout) == (1, f"{DESK}\n{BEACH}\n")
    assert done.stderr.startswith("Failed: bad.jpg: not an image")
    vectors = np.load(tmp_path / "v.npy", allow_pickle=False)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [first["vector"], last["vector"]], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert command("predict-rec", "--npy", "none.npy", "bad.jpg").exit_code == 1
    assert np.load(tmp_path / "none.npy").shape == (0, 512)


# --- building, and what stands around --------------------------------------------------------------------------


def test_build_append_and_find_it_again(command: Command, tmp_path: Path) -> None:
    lines = (DEMO / "gallery.txt").read_text(encoding="utf-8").splitlines()[:6]
    (tmp_path / "list.txt").write_text("\n".join([*lines, "gone.jpg\tx"]), encoding="utf-8")
    settings = options(index_overrides(tmp_path / "list.txt", tmp_path / "own"))
    done = command("build-gallery", *settings)
    assert done.exit_code == 1
    assert f"Failed: {DEMO / 'gone.jpg'}: no such file" in done.stderr
    assert done.stderr.endswith(f"6 images indexed, 1 failed; {tmp_path / 'own'} holds 6.\n")
    done = command("build-gallery", *settings, "--skip-missing")
    assert done.exit_code == 0
    assert done.stderr == f"6 images indexed, 1 missing, passed over; {tmp_path / 'own'} holds 6.\n"
    more = str(DEMO / "gallery" / "fluent" / "banana.jpg")
    arguments = ["gallery", "append", *settings, "--label", "香蕉", more]
    for expected in ("1 image indexed; ", "1 already there; "):
        done = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert done.exit_code == 0
        _, told = done.stderr.splitlines() if "was made" in done.stderr else ("", done.stderr.strip())
        assert told == f"{expected}{tmp_path / 'own'} holds 7."
    whole = options(["Global.det_inference_model_dir="])
    (record,) = records(command("predict", *settings, *whole, more))
    (region,) = record["regions"]
    assert (region["rec_docs"], region["matches"][0]["image"]) == ("香蕉", "gallery/fluent/banana.jpg")
    assert region["rec_scores"] > 0.99
