"""Building, appending, removing, cropping: with the bundled models on demo pictures."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shitu.build.builder import BuildReport, GalleryBuilder
from shitu.config import load_config
from shitu.errors import ConfigError, GalleryError
from shitu.gallery.gallery import Gallery
from shitu.images.read import read_image
from shitu.recognise.from_config import DetPredictor, RecPredictor
from tests.conftest import DEMO, index_overrides


def build(data_file: Path, index_dir: Path, *, skip_missing: bool = False, **more: object) -> BuildReport:
    config = load_config(None, index_overrides(data_file, index_dir, **more))
    return GalleryBuilder(config, skip_missing=skip_missing).run()


def listed(data_file: Path) -> list[tuple[str, str]]:
    pairs = (line.split("\t") for line in data_file.read_text(encoding="utf-8").splitlines())
    return [(image, label) for image, label in pairs]


def contents(index_dir: Path) -> list[tuple[str, str]]:
    return [(item.image, item.label) for item in Gallery.open(index_dir).items()]


@pytest.mark.parametrize("method", ["Flat", "HNSW32"])
def test_vectors_are_those_of_the_recogniser(tmp_path: Path, small_list: Path, method: str) -> None:
    report = build(small_list, tmp_path / "index", index_method=method)
    assert (report.images, report.total, report.failed) == (24, 24, [])
    assert contents(tmp_path / "index") == listed(small_list)
    predictor = RecPredictor(load_config(None, []))
    one_by_one = [predictor.predict([read_image(DEMO / image)])[0] for image, _ in listed(small_list)]
    np.testing.assert_allclose(Gallery.open(tmp_path / "index").vectors(), one_by_one, atol=1e-5)
    assert not (tmp_path / "index" / "building").exists()


def test_hamming_stores_the_signs(tmp_path: Path, small_list: Path) -> None:
    build(small_list, tmp_path / "float", index_method="Flat")
    build(small_list, tmp_path / "bits", index_method="Flat", dist_type="hamming")
    floats, bits = Gallery.open(tmp_path / "float").vectors(), Gallery.open(tmp_path / "bits").vectors()
    np.testing.assert_array_equal(np.unpackbits(np.asarray(bits), axis=1), np.asarray(floats) > 0)


def test_a_bad_image_is_counted_and_the_rest_is_indexed(tmp_path: Path, small_list: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes((DEMO / listed(small_list)[0][0]).read_bytes()[:500])
    with small_list.open("a", encoding="utf-8") as file:
        file.write(f"{tmp_path / 'bad.jpg'}\tbad\n{tmp_path / 'gone.jpg'}\tgone\n")
    report = build(small_list, tmp_path / "index")
    assert report.images == 24
    assert [Path(path).name for path, _ in report.failed] == ["bad.jpg", "gone.jpg"]
    report = build(small_list, tmp_path / "index", skip_missing=True)
    assert ([Path(path).name for path, _ in report.failed], report.missing) == (["bad.jpg"], 1)


def test_only_bad_images_leave_the_old_gallery(tmp_path: Path, small_list: Path) -> None:
    build(small_list, tmp_path / "index")
    (tmp_path / "bad.txt").write_text("gone.jpg\tx\n", encoding="utf-8")
    with pytest.raises(GalleryError, match=r"1 of 1 listed images are missing.*gone\.jpg.*Nothing was changed"):
        build(tmp_path / "bad.txt", tmp_path / "index")
    assert len(contents(tmp_path / "index")) == 24


def test_append_skips_what_is_there_by_content(tmp_path: Path, small_list: Path) -> None:
    pairs = listed(small_list)
    half = tmp_path / "half.txt"
    half.write_text("".join(f"{image}\t{label}\n" for image, label in pairs[:12]), encoding="utf-8")
    build(half, tmp_path / "index")
    shutil.copy(DEMO / pairs[3][0], tmp_path / "copy of 3.png")
    with small_list.open("a", encoding="utf-8") as file:
        file.write(f"{tmp_path / 'copy of 3.png'}\tanother name\n{pairs[20][0]}\t{pairs[20][1]}\n")
    report = build(small_list, tmp_path / "index", index_operation="append")
    # 12 were there, the copy is one of them under another name, and the last line repeats a line of this list
    assert (report.images, report.already_there, report.repeated, report.total) == (12, 13, 1, 24)
    assert report.relabel == [str(tmp_path / "copy of 3.png")]
    assert contents(tmp_path / "index") == pairs
    report = build(small_list, tmp_path / "index", index_operation="append")
    assert (report.images, report.already_there, report.total) == (0, 25, 24)


def test_append_to_nothing_and_remove_from_nothing(tmp_path: Path, small_list: Path) -> None:
    for operation in ("append", "remove"):
        with pytest.raises(GalleryError, match="build-gallery"):
            build(small_list, tmp_path / "index", index_operation=operation)


@pytest.mark.parametrize("method", ["Flat", "IVF", "HNSW32"])
def test_remove_by_list(tmp_path: Path, small_list: Path, method: str) -> None:
    build(small_list, tmp_path / "index", index_method=method)
    pairs = listed(small_list)
    unwanted = tmp_path / "unwanted.txt"
    # a line removes only where image and label both agree
    unwanted.write_text(f"{pairs[0][0]}\t{pairs[0][1]}\n{pairs[1][0]}\tnot its label\n", encoding="utf-8")
    report = build(unwanted, tmp_path / "index", index_operation="remove")
    assert (report.removed, report.total) == (1, 23)
    assert contents(tmp_path / "index") == pairs[1:]


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    path = tmp_path / "scenes.txt"
    Image.new("RGB", (64, 64), "white").save(tmp_path / "blank.png")
    names = sorted((DEMO / "photos").glob("*.jpg"))[:3]
    path.write_text("".join(f"{name}\tscene {number}\n" for number, name in enumerate(names)), encoding="utf-8")
    return path


@pytest.mark.parametrize("crop", ["largest", "both", "all"])
def test_crops_are_what_the_detector_finds(tmp_path: Path, scenes: Path, crop: str) -> None:
    report = build(scenes, tmp_path / "index", crop=crop)
    detector = DetPredictor(load_config(None, []))
    expected = []
    for name, label in listed(scenes):
        picture = read_image(name)
        boxes = [found.bbox for found in detector.predict([picture])[0]]
        assert boxes, "the demo photos have objects"
        if crop != "all":
            boxes = [max(boxes, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))]
        if crop == "both":
            boxes = [(0, 0, picture.shape[1], picture.shape[0]), *boxes]
        expected += [(label, box) for box in boxes]
    items = [(item.label, item.box) for item in Gallery.open(tmp_path / "index").items()]
    assert items == expected
    assert (report.images, report.indexed) == (3, len(expected))


def test_both_without_a_detector_is_the_whole_image(tmp_path: Path, scenes: Path) -> None:
    overrides = [*index_overrides(scenes, tmp_path / "i", crop="both"), "Global.det_inference_model_dir="]
    GalleryBuilder(load_config(None, overrides)).run()
    assert [item.box for item in Gallery.open(tmp_path / "i").items()] == [None] * 3


def test_crop_without_a_detector_says_what_to_do(tmp_path: Path, scenes: Path) -> None:
    overrides = [*index_overrides(scenes, tmp_path / "i", crop="all"), "Global.det_inference_model_dir="]
    config = load_config(None, overrides)
    with pytest.raises(ConfigError, match="det_inference_model_dir is empty"):
        GalleryBuilder(config).run()


def test_killed_build_keeps_the_old_gallery_and_goes_on(tmp_path: Path, small_list: Path) -> None:
    """SIGKILL while embedding: the gallery stays as it was, and the next run does not start anew."""
    index_dir = tmp_path / "index"
    build(small_list, index_dir)
    overrides = index_overrides(DEMO / "gallery.txt", index_dir, batch_size=4)
    command = [sys.executable, "-m", "shitu", "build-gallery", *(part for o in overrides for part in ("-o", o))]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    rows = index_dir / "building" / "rows.jsonl"
    deadline = time.monotonic() + 60
    while not (rows.exists() and rows.read_bytes().count(b"\n") >= 12) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert contents(index_dir) == listed(small_list)
    report = build(DEMO / "gallery.txt", index_dir, batch_size=4)
    assert report.resumed >= 12
    assert report.images == len(listed(DEMO / "gallery.txt"))
    assert contents(index_dir) == listed(DEMO / "gallery.txt")
    assert Gallery.open(index_dir).verify() == []


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("embedding_size", 256, r"embedding_size is 256, the vectors of .* have 512; add -o .*embedding_size=512"),
        ("index_method", "HNWS32", r"index_method 'HNWS32' cannot be made .* use auto, Flat, HNSW32, IVF"),
    ],
)
def test_what_cannot_end_well_is_told_before_the_work(
    tmp_path: Path, small_list: Path, key: str, value: object, message: str
) -> None:
    with pytest.raises((ConfigError, GalleryError), match=message):
        build(small_list, tmp_path / "index", **{key: value})
    assert not (tmp_path / "index" / "building").exists()


def test_an_image_without_a_vector_is_counted_and_the_rest_is_indexed(
    tmp_path: Path, small_list: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network gives zeros for one image: that one fails, not the batch it stands in."""
    outcast = RecPredictor(load_config(None, [])).prepare(read_image(DEMO / listed(small_list)[5][0]))
    real = RecPredictor._run_tensors

    def zeros_for_one(self: RecPredictor, session: object, tensors: list[np.ndarray]) -> np.ndarray:
        outputs = real(self, session, tensors)  # type: ignore[arg-type]
        outputs[[np.array_equal(tensor, outcast) for tensor in tensors]] = 0
        return outputs

    monkeypatch.setattr(RecPredictor, "_run_tensors", zeros_for_one)
    report = build(small_list, tmp_path / "index", batch_size=8)
    assert [Path(path).name for path, _ in report.failed] == [Path(listed(small_list)[5][0]).name]
    assert "zero or non-finite vector" in report.failed[0][1]
    assert contents(tmp_path / "index") == [pair for number, pair in enumerate(listed(small_list)) if number != 5]
