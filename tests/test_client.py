"""`shitu.Client` and `predict --server` against a real service: the words and the answers of a Pipeline."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import shitu
from tests.conftest import DEMO, Run
from tests.serving import serving
from tests.shelf import shelf

PHOTOS = DEMO / "photos"
TOKEN = "a-token-of-the-test"


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shelf(tmp_path_factory.mktemp("client"))


@pytest.fixture(scope="module")
def url(gallery: Path) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHITU_TOKEN", TOKEN)
        with serving(gallery.parent, "-g", gallery, token=TOKEN) as service:
            yield service.url


@pytest.fixture
def client(url: str) -> shitu.Client:
    return shitu.Client(url)


def noise(path: Path, number: int) -> Path:
    pixels = np.random.default_rng(number).integers(0, 255, (120, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_it_answers_what_a_pipeline_does(client: shitu.Client, gallery: Path, tmp_path: Path) -> None:
    mine = shitu.open(gallery)
    wanted = mine.predict(PHOTOS)
    assert any(wanted)
    found = client.predict(PHOTOS)
    assert [one.to_dict() for one in found] == [one.to_dict() for one in wanted]
    told = [one.found.to_dict(unnamed=True) for one in found]
    assert told == [one.found.to_dict(unnamed=True) for one in wanted]
    picture = shitu.read_image(PHOTOS / "picnic.jpg")
    Image.fromarray(picture).save(tmp_path / "pages.tif", save_all=True, append_images=[Image.fromarray(picture)])
    several = [picture, (PHOTOS / "picnic.jpg").read_bytes(), Image.fromarray(picture), tmp_path / "pages.tif"]
    found, wanted = client.predict(several), mine.predict(several)
    assert [one.to_dict() for one in found] == [one.to_dict() for one in wanted]
    assert len(found) == 5
    np.testing.assert_array_equal(found[0].picture(), picture)
    assert [path.name for path in found.save(tmp_path / "out")] == [path.name for path in wanted.save(tmp_path / "o")]


def test_options_go_with_a_request(client: shitu.Client) -> None:
    (all_of_it,) = client.predict(PHOTOS / "picnic.jpg", score_thres=-1.0, return_k=2, whole_image="never")
    assert {len(region.matches) for region in all_of_it} == {2}
    (nothing,) = client.predict(PHOTOS / "picnic.jpg", score_thres=1.1)
    assert (bool(nothing), bool(nothing.found.unnamed)) == (False, True)
    box = (10, 20, 200, 220)
    (given,) = client.predict(PHOTOS / "picnic.jpg", regions=[box])
    assert [region.bbox for region in (*given.found.regions, *given.found.unnamed)] == [box]
    with pytest.raises(shitu.ShituError, match="score_threshold: no option of predict"):
        client.predict(PHOTOS / "picnic.jpg", score_threshold=1.1)
    with pytest.raises(shitu.ServiceError) as caught:
        client.predict(PHOTOS / "picnic.jpg", return_k=0)
    assert (caught.value.status, caught.value.exit_status) == (422, 2)


def test_a_picture_that_fails_leaves_the_others(client: shitu.Client, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    bad, good = client.predict([tmp_path / "bad.jpg", PHOTOS / "picnic.jpg"])
    assert f"{tmp_path / 'bad.jpg'}: not an image" in (bad.error or "")
    assert good.error is None


def test_a_picture_that_is_too_large_leaves_the_others(tmp_path: Path) -> None:
    """Whatever of the refusal arrives while the picture is still on its way."""
    large = tmp_path / "large.bmp"
    Image.fromarray(np.zeros((2000, 2000, 3), np.uint8)).save(large)
    with serving(tmp_path, "--max-upload", 1) as service:
        client = shitu.Client(service.url)
        for _ in range(5):
            refused, good = client.predict([large, PHOTOS / "desk.jpg"])
            assert f"{large}: the request " in (refused.error or "")
            assert good.error is None
        with pytest.raises(shitu.ShituError, match="the request"):
            client.add(large, label="x")


def test_a_thing_is_taught_corrected_and_taken_back(client: shitu.Client, tmp_path: Path) -> None:
    first, second = noise(tmp_path / "一.png", 1), noise(tmp_path / "two.png", 2)
    shelf = client.create("试 1")
    assert (shelf.gallery, len(shelf)) == ("试 1", 0)
    assert "试 1" in {one["name"] for one in client.galleries()}
    assert shelf.predict(first)[0].labels == []
    added = shelf.add([first, second], label="绿茶", bbox=(0, 0, 120, 120))
    assert (len(added.ids), added.total, len(shelf)) == (2, 2, 2)
    assert shelf.predict(first)[0].labels[:1] == ["绿茶"]
    again = shelf.add(first, label="绿茶", bbox=(0, 0, 120, 120))
    assert (again.ids, again.already_there, again.total) == ((), 1, 2)
    assert [one["label"] for one in shelf.labels()] == ["绿茶"]
    ids = shelf.rename("绿茶", "红茶")
    assert [(one["id"], one["label"]) for one in shelf.items()] == [(number, "红茶") for number in ids]
    (moved,) = shelf.relabel(ids[:1], "cola")
    assert {one["label"]: one["count"] for one in shelf.labels()} == {"cola": 1, "红茶": 1}
    with pytest.raises(shitu.ServiceError, match="merge") as caught:
        shelf.rename("红茶", "cola")
    assert caught.value.code == "label_exists"
    assert len(shelf.rename("红茶", "cola", merge=True)) == 1
    assert shelf.undo() == 2
    assert shelf.remove([moved, 10**6]) == 1
    assert shelf.undo() == 2
    shelf.delete()
    with pytest.raises(shitu.ServiceError, match="试 1") as caught:
        len(shelf)
    assert caught.value.code == "gallery_not_found"


def test_bad_files_leave_the_good_ones(client: shitu.Client, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shelf = client.create("bad files")
    (tmp_path / "1.jpg").write_bytes(b"no picture")
    noise(tmp_path / "2.png", 2)
    noise(tmp_path / "3.png", 3)
    added = shelf.add(tmp_path, label="x", bbox=(0, 0, 100, 100))
    assert (len(added.ids), added.total) == (2, 2)
    assert "1.jpg" in caplog.text
    with pytest.raises(shitu.ShituError, match=r"1\.jpg"):
        shelf.add(tmp_path / "1.jpg", label="x")


def test_pages_of_items_and_labels_are_followed(client: shitu.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shitu.api.client.PAGE", 5)
    items, labels = list(client.items()), list(client.labels())
    assert len(items) == len(client) == 24
    assert sorted(one["id"] for one in items) == [one["id"] for one in items]
    assert {one["label"]: one["count"] for one in labels} == dict.fromkeys({one["label"] for one in items}, 3)
    assert list(client.items(label=labels[0]["label"])) == [one for one in items if one["label"] == labels[0]["label"]]


def test_long_work_and_an_export(client: shitu.Client, tmp_path: Path) -> None:
    shelf = client.create("exported")
    ids = shelf.add([noise(tmp_path / "a.png", 4), noise(tmp_path / "b.png", 5)], label="茶", bbox=(0, 0, 90, 90)).ids
    shelf.remove(ids[:1])
    assert "problems" in shelf.run("verify")
    shelf.run("compact")
    with pytest.raises(shitu.ServiceError):
        shelf.run("nonsense")
    path = shelf.export(tmp_path / "out.zip")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "unpacked")
    mine = shitu.open(tmp_path / "unpacked" / "exported")
    assert len(mine) == 1
    assert mine.predict(tmp_path / "b.png")[0].labels[:1] == ["茶"]
    with pytest.raises(shitu.ShituError, match="cannot be written"):
        shelf.export(tmp_path / "nowhere" / "out.zip")


def test_without_the_token_nothing_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHITU_TOKEN")
    with pytest.raises(shitu.ServiceError, match="token") as caught:
        shitu.Client(url).predict(PHOTOS / "picnic.jpg")
    assert caught.value.status == 401
    assert len(shitu.Client(url, token=TOKEN)) == 24


def test_predict_prints_what_it_prints_without_a_server(url: str, gallery: Path, tmp_path: Path, shitu: Run) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    photos = [PHOTOS / "picnic.jpg", PHOTOS / "desk.jpg", tmp_path / "bad.jpg"]
    for words in (["--unnamed"], ["--format", "csv", "--no-pictures", "--score", "0.2", "--top-k", "1"]):
        here = shitu("predict", "-g", gallery, *words, *photos)
        there = shitu("predict", "--server", url, "-g", "货架", *words, "--out", "there", *photos)
        assert there.stdout == here.stdout
        assert there.returncode == here.returncode == 1
        assert "bad.jpg: not an image" in there.stderr
    drawn = [sorted((tmp_path / folder).iterdir()) for folder in ("output", "there")]
    assert [[path.name for path in paths] for paths in drawn] == [["desk.jpg", "picnic.jpg"]] * 2
    assert all(one.read_bytes() == other.read_bytes() for one, other in zip(*drawn, strict=True))
    piped = shitu("predict", "--server", url, "--no-pictures", "-", stdin=os.fsencode(f"{PHOTOS / 'picnic.jpg'}\n"))
    assert json.loads(piped.stdout) == json.loads(shitu("predict", "-g", gallery, PHOTOS / "picnic.jpg").stdout)
    assert shitu("predict", "--server", url, "-g", "nowhere", PHOTOS / "desk.jpg").returncode == 2
