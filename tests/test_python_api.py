"""Python in three lines: `shitu.open`, `predict`, `add`, and what can be done with the answers."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import shitu
from shitu.errors import GalleryError, ImageError, UsageError
from tests.conftest import DEMO, ROOT, Run
from tests.shelf import shelf

PHOTOS = DEMO / "photos"


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shelf(tmp_path_factory.mktemp("api"))


@pytest.fixture(scope="module")
def mine(gallery: Path) -> Any:
    return shitu.open(gallery)


def records(answers: Any) -> list[dict[str, Any]]:
    return [{**one.to_dict(), "image": ""} for one in answers]


def test_it_answers_what_the_command_does(mine: Any, gallery: Path, shitu: Run) -> None:
    done = shitu(
        "predict",
        "-o",
        f"IndexProcess.index_dir={gallery}",
        "--no-pictures",
        PHOTOS / "picnic.jpg",
        PHOTOS / "desk.jpg",
    )
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one.to_dict() for one in mine.predict([PHOTOS / "picnic.jpg", str(PHOTOS / "desk.jpg")])] == printed


def test_the_parts_want_a_list(gallery: Path) -> None:
    """A batch (n, h, w, 3) is a list, too; one image alone would be a list of its rows."""
    rgb = shitu.read_image(PHOTOS / "desk.jpg")
    config = shitu.load_config(None, [f"IndexProcess.index_dir={gallery}"])
    system = shitu.SystemPredictor(config)
    for part in (system, system.rec_predictor, system.det_predictor):
        with pytest.raises(UsageError, match=r"one image of shape .* came, a list of images is wanted"):
            part.predict(rgb)
        assert len(part.predict([rgb])) == len(part.predict(rgb[None])) == 1
    with pytest.raises(UsageError, match="a list of images is wanted"):
        system.predict(rgb, ["a name"] * len(rgb))


def test_all_kinds_of_sources_are_one_picture(mine: Any) -> None:
    path = PHOTOS / "picnic.jpg"
    rgb = shitu.read_image(path)
    wanted = records(mine.predict(path))
    assert wanted[0]["regions"], "something of the gallery is in this photo"
    for source in (str(path), path.read_bytes(), rgb, Image.open(path), [path], (one for one in [rgb]), rgb[None]):
        assert records(mine.predict(source)) == wanted
    assert records(mine.predict(rgb[:, :, ::-1], bgr=True)) == wanted
    assert records(mine.predict(rgb[:, :, ::-1])) != wanted  # BGR that nobody spoke of
    mixed = mine.predict([path, rgb, str(path), path.read_bytes()])
    assert records(mixed) == wanted * 4
    assert [one.image for one in mixed] == [str(path), "picture-1", str(path), "picture-2"]
    assert [one.image for one in mine.predict(PHOTOS)] == sorted(str(one) for one in PHOTOS.glob("*.jpg"))
    assert len(mine.predict([])) == 0


def test_answers_are_iterated_saved_and_shown(mine: Any, tmp_path: Path) -> None:
    rgb = shitu.read_image(PHOTOS / "picnic.jpg")
    answers = mine.predict([PHOTOS / "picnic.jpg", rgb])
    for answer in answers:
        assert answer.labels == [region.label for region in answer]
        np.testing.assert_array_equal(answer.picture(), rgb)
        assert (answer.drawn() != rgb).any()
    saved = answers.save(tmp_path / "out")
    assert [path.name for path in saved] == ["picnic.jpg", "picture-1.jpg"]
    assert all(Image.open(path).size == (rgb.shape[1], rgb.shape[0]) for path in saved)
    assert repr(answers).startswith(f"{PHOTOS / 'picnic.jpg'}: {answers[0].labels[0]}")
    assert len(answers[:1]) == 1


def test_a_notebook_shows_text_as_text(mine: Any) -> None:
    class Tags(HTMLParser):
        seen: list[str]

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            self.seen.append(tag)

    found = shitu.Recognition("<script>x</script>.jpg", 9, 9)
    region = shitu.Region((0, 0, 9, 9), 1.0, (shitu.Match("<b>茶</b>", 0.9, 0, "a.jpg"),))
    answers = shitu.Answers(
        [shitu.Answer(shitu.Recognition("a<i>", 9, 9, (region,)), np.zeros((9, 9, 3), np.uint8)), shitu.Answer(found)]
    )
    tags = Tags()
    tags.seen = []
    tags.feed(answers._repr_html_())
    assert set(tags.seen) == {"p", "b", "img", "table", "tr", "td"}
    assert "&lt;b&gt;茶" in answers._repr_html_()
    assert "no such file" in answers._repr_html_()


def test_to_pandas(mine: Any) -> None:
    pytest.importorskip("pandas")
    answers = mine.predict(PHOTOS)
    table = answers.to_pandas()
    assert list(table["label"]) == [label for one in answers for label in one.labels]
    assert len(table[table["image"] == str(PHOTOS / "picnic.jpg")]) == len(mine.predict(PHOTOS / "picnic.jpg")[0])
    assert list(shitu.Answers([]).to_pandas().columns) == list(table.columns)


def test_what_is_added_is_durable_and_seen_at_once(gallery: Path, tmp_path: Path) -> None:
    mine, other = shitu.open(gallery), shitu.open(gallery)
    before = len(mine)
    photo = tmp_path / "新.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (200, 200, 3), dtype=np.uint8)).save(photo)
    report = mine.add(photo, label="绿茶")
    assert report.images == 1
    assert len(mine) == report.total == before + report.indexed > before
    for each in (mine, other, shitu.open(gallery)):  # the same, one opened before, and one opened now
        assert each.predict(photo)[0].labels == ["绿茶"]
    assert mine.add([photo], label="绿茶").already_there == 1
    (tmp_path / "bad.jpg").write_bytes(b"nothing")
    with pytest.raises(ImageError, match="not an image"):
        mine.add(tmp_path / "bad.jpg", label="x")
    with pytest.raises(UsageError, match="no such file"):
        mine.add("https://example.org/a.jpg", label="x")
    assert len(mine) == report.total


def test_a_picture_that_fails_leaves_the_others(mine: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"nothing")
    bad, good, broken = mine.predict([tmp_path / "bad.jpg", PHOTOS / "picnic.jpg", b"no picture"])
    assert "not an image" in (bad.error or "")
    assert "picture-1: not an image" in (broken.error or "")
    assert (bool(bad), bool(good), good.error) == (False, True, None)
    assert "bad.jpg: not an image" in caplog.text
    assert mine.predict([tmp_path / "bad.jpg", PHOTOS / "picnic.jpg"]).save(tmp_path / "o") == [
        tmp_path / "o/picnic.jpg"
    ]
    for wrong in (tmp_path / "gone.jpg", [np.zeros((3, 3))], 7):
        with pytest.raises(UsageError):
            mine.predict(wrong)


def test_pages_are_drawn_from_what_is_kept(mine: Any, tmp_path: Path) -> None:
    photos = [Image.open(PHOTOS / name).convert("RGB") for name in ("picnic.jpg", "desk.jpg")]
    photos[0].save(tmp_path / "a.tif", save_all=True, append_images=photos[1:])
    answers = mine.predict(tmp_path / "a.tif")
    assert records(answers) == records(mine.predict(photos))
    (tmp_path / "a.tif").unlink()
    assert [path.name for path in answers.save(tmp_path / "out")] == ["a.tif#page=1.jpg", "a.tif#page=2.jpg"]
    for answer, photo in zip(answers, photos, strict=True):
        assert np.abs(answer.picture().astype(int) - np.asarray(photo)).mean() < 3


def test_threads_predict_while_another_adds(gallery: Path, tmp_path: Path) -> None:
    mine = shitu.open(gallery)
    before, wanted = len(mine), mine.predict(PHOTOS / "picnic.jpg")[0].labels
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(mine.predict, PHOTOS / "picnic.jpg") for _ in range(12)]
        for number in range(3):
            noise = np.random.default_rng(number).integers(0, 255, (99, 99, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / f"{number}.png")
            mine.add(tmp_path / f"{number}.png", label=f"noise {number}")
        assert all(answers.result()[0].labels == wanted for answers in asked)
    assert len(mine) >= before + 3


def test_what_can_be_opened(gallery: Path, tmp_path: Path) -> None:
    config = tmp_path / "my.yaml"
    text = (ROOT / "configs/inference_general.yaml").read_text(encoding="utf-8")
    config.write_text(text.replace("./output/demo_index", str(gallery)), encoding="utf-8")
    assert len(shitu.open(config)) == len(shitu.open(gallery))
    assert shitu.open(gallery, "Global.max_det_results=1").config.Global.max_det_results == 1
    with pytest.raises(GalleryError, match="there is no gallery"):
        shitu.open(tmp_path / "nowhere")
    with pytest.raises(UsageError):
        shitu.open(tmp_path / "nowhere.yaml")


def test_the_import_is_light() -> None:
    code = "import sys, shitu; shitu.open; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"paddle", "faiss", "cv2", "numpy", "PIL", "pydantic", "pandas"} & set(loaded)
    code = "import sys, shitu.api.pipeline; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"shitu.build", "shitu.draw", "shitu.gallery.write", "shitu.sources.web", "pandas"} & set(loaded)
