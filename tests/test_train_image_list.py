"""List files for training: every layout read as written, and each fault named with its line."""

from __future__ import annotations

import codecs
import pickle
from pathlib import Path

import numpy as np
import pytest

from shitu.errors import ConfigError
from shitu.resources import bundled
from shitu.training.rec import image_list
from shitu.training.rec.image_list import ImageList, RowsByClass, read_image_list
from shitu.training.rec.schema import load_train_config
from shitu.training.rec.schema_data import Dataset, ImageNetDataset, VeriWild
from tests.conftest import DEMO

WHAT = "DataLoader.Train.dataset"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(text: str | bytes, kind: type[Dataset] = ImageNetDataset, *, dense: bool = True, **keys: object) -> ImageList:
    Path("list.txt").write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    section = kind(**{"cls_label_path": "list.txt", "image_root": "root", "check_files": False, **keys})  # type: ignore[arg-type]
    return read_image_list(section, what=WHAT, dense=dense)


def paths(images: ImageList) -> list[str]:
    return [images.path(row) for row in range(len(images))]


LAYOUTS = {
    "spaces": ("a.jpg 0\nb/c.jpg 1\n", {}, ["root/a.jpg", "root/b/c.jpg"]),
    "no newline at the end": ("a.jpg 0\nb.jpg 1", {}, ["root/a.jpg", "root/b.jpg"]),
    "Windows": ("a.jpg 0\r\nb.jpg 1\r\n", {}, ["root/a.jpg", "root/b.jpg"]),
    "byte-order mark": (codecs.BOM_UTF8 + b"a.jpg 0\nb.jpg 1\n", {}, ["root/a.jpg", "root/b.jpg"]),
    "empty lines": ("\n  \na.jpg 0\n\nb.jpg 1\n\n", {}, ["root/a.jpg", "root/b.jpg"]),
    "runs of spaces": ("a.jpg   0 \n  b.jpg  1\n", {}, ["root/a.jpg", "root/b.jpg"]),
    "spaces in paths": ("my photo 1.jpg 0\nc 3/b.jpg 1\n", {}, ["root/my photo 1.jpg", "root/c 3/b.jpg"]),
    "Chinese": ("饮料/可乐.jpg 0\n茶 叶.jpg 1\n", {}, ["root/饮料/可乐.jpg", "root/茶 叶.jpg"]),
    "TABs": ("a b 7.jpg\t0\nc.jpg \t 1\n", {}, ["root/a b 7.jpg", "root/c.jpg"]),
    "TAB asked for": ("a b 7\t0\nc.jpg\t1\n", {"delimiter": "\\t"}, ["root/a b 7", "root/c.jpg"]),
    "commas": ("a,b.jpg,0\nc.jpg, 1\n", {"delimiter": ","}, ["root/a,b.jpg", "root/c.jpg"]),
    "absolute": ("/a.jpg 0\nb.jpg 1\n", {}, ["/a.jpg", "root/b.jpg"]),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name: str) -> None:
    text, keys, expected = LAYOUTS[name]
    images = read(text, **keys)
    assert paths(images) == expected
    assert images.labels.tolist() == [0, 1]
    assert images.class_count == 2
    assert images.ids is None


@pytest.mark.parametrize("text", ["my a.jpg 0 7\nb.jpg 1 -8\n", "my a.jpg\t0\t7\nb.jpg\t1\t-8\n"])
def test_three_columns(text: str) -> None:
    images = read(text, VeriWild)
    assert paths(images) == ["root/my a.jpg", "root/b.jpg"]
    assert images.ids is not None
    assert images.ids.dtype == np.int64
    assert images.ids.tolist() == [7, -8]


def test_veri_wild_without_ids() -> None:
    """PaddleClas's reader takes both, and its train_list_start0.txt needs no cameras."""
    images = read("my a.jpg\t0\nb.jpg\t1\n", VeriWild)
    assert (paths(images), images.ids) == (["root/my a.jpg", "root/b.jpg"], None)
    assert read("a.jpg 0\nb.jpg 1\n", VeriWild).ids is None


def test_an_id_that_is_text_is_the_same_number_in_every_list() -> None:
    query = read("a.jpg 0 cam-1\nb.jpg 0 相机2\n", VeriWild)
    gallery = read("c.jpg 0 相机2\nd.jpg 0 cam-3\ne.jpg 0 5\n", VeriWild)
    assert query.ids is not None
    assert gallery.ids is not None
    assert (query.ids[:, None] == gallery.ids).tolist() == [[False] * 3, [True, False, False]]
    assert gallery.ids[2] == 5


@pytest.mark.parametrize("block", [1, 50, 1 << 22])
def test_equals_a_plain_reading_whatever_the_block(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_list, "BLOCK", block)
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.arange(30), rng.integers(0, 30, 500)])
    written = [f"图{'x' * int(rng.integers(0, 9))} {row}.jpg" for row in range(len(labels))]
    images = read("".join(f"{path} {label}\n" for path, label in zip(written, labels, strict=True)))
    assert paths(images) == [f"root/{path}" for path in written]
    assert images.labels.dtype == np.int64
    assert images.labels.tolist() == labels.tolist()
    assert images.counts.tolist() == [int((labels == label).sum()) for label in range(30)]


@pytest.mark.parametrize("block", [1, 1 << 22])
def test_the_first_line_decides_about_tabs(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_list, "BLOCK", block)
    assert paths(read("a.jpg 0\nb\tc.jpg 1\n")) == ["root/a.jpg", "root/b\tc.jpg"]


def test_relabel_numbers_values_in_ascending_order() -> None:
    images = read("a 10\nb -2\nc 9\nd 10\n", relabel=True)
    assert images.labels.tolist() == [2, 0, 1, 2]
    assert images.original_labels.tolist() == [-2, 9, 10]
    assert images.counts.tolist() == [1, 1, 2]


def test_relabel_takes_text() -> None:
    images = read("a\t茶\nb\tcola zero\nc\t10\nd\t9\ne\t茶\n", relabel=True)
    assert images.original_labels.tolist() == ["10", "9", "cola zero", "茶"]
    assert images.original_labels[images.labels].tolist() == ["茶", "cola zero", "10", "9", "茶"]


def test_evaluation_lists_need_no_dense_labels() -> None:
    images = read("a 70\nb 63\nc 70\n", dense=False)
    assert images.labels.tolist() == [1, 0, 1]
    assert images.original_labels.tolist() == [63, 70]


def test_the_demo() -> None:
    section = ImageNetDataset(cls_label_path=str(DEMO / "gallery.txt"), image_root=str(DEMO), relabel=True)
    images = read_image_list(section, what=WHAT)
    assert len(images) == 240
    assert images.counts.tolist() == [3] * 80


def test_pickled_it_is_small_and_the_same() -> None:
    """No Python object per line: 8 bytes each for label and offset beside the path's text."""
    images = read("".join(f"folder/{row:06d}.jpg {row % 10}\n" for row in range(10_000)))
    pickled = pickle.dumps(images)
    assert len(pickled) < 10_000 * (len("folder/000000.jpg") + 16) + 2_000
    assert paths(pickle.loads(pickled)) == paths(images)


def test_from_rows() -> None:
    images = ImageList.from_rows(["a.jpg", "茶.jpg"], [5, 3], image_root="root", ids=[1, 2])
    assert paths(images) == ["root/a.jpg", "root/茶.jpg"]
    assert images.labels.tolist() == [1, 0]
    assert images.original_labels.tolist() == [3, 5]


def test_missing_images_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_list, "CHECKED_AT_ONCE", 3)
    Path("root").mkdir()
    Path("root/folder.jpg").mkdir()
    for row in range(0, 20, 2):
        Path(f"root/{row}.jpg").touch()
    text = "".join(f"{row}.jpg 0\n" for row in range(20))
    with pytest.raises(ConfigError) as caught:
        read(text + "folder.jpg 0\n", check_files=True)
    message = str(caught.value)
    assert f"{WHAT}: 11 of 21 listed images are missing" in message
    assert "first: root/1.jpg, root/3.jpg, root/5.jpg, root/7.jpg, root/9.jpg. " in message
    assert f"{WHAT}.check_files=False" in message
    assert "`shitu dataset check`" in message
    assert len(read("0.jpg 0\n2.jpg 0\n", check_files=True)) == 2


@pytest.mark.parametrize("seed", range(5))
def test_rows_by_class(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 7, int(rng.integers(1, 40)))
    rows = RowsByClass(labels)
    for label in range(labels.max() + 1):
        assert rows[label].tolist() == [row for row, each in enumerate(labels) if each == label]


BAD = {
    "no path": ("", ImageNetDataset, {"cls_label_path": None}, f"{WHAT}.cls_label_path is null; a list file"),
    "missing": ("", ImageNetDataset, {"cls_label_path": "no.txt"}, f"{WHAT}.cls_label_path no.txt: No such file"),
    "a folder": ("", ImageNetDataset, {"cls_label_path": "."}, f"{WHAT}.cls_label_path .: Is a directory"),
    "NUL in its name": ("", ImageNetDataset, {"cls_label_path": "a\0b"}, "embedded null byte"),
    "empty": ("", ImageNetDataset, {}, "list.txt is empty; one `path label` per line is wanted"),
    "only empty lines": ("\n \n", ImageNetDataset, {}, "list.txt is empty"),
    "GB18030": ("茶.jpg 0".encode("gb18030"), ImageNetDataset, {}, "often: iconv -f GB18030 -t UTF-8 list.txt"),
    "UTF-16": ("a.jpg 0\n".encode("utf-16"), ImageNetDataset, {}, "convert it first: iconv -f UTF-16 -t UTF-8"),
    "UTF-16, no mark": ("a 0\n".encode("utf-16-le"), ImageNetDataset, {}, "(NUL bytes); convert it first: iconv -f"),
    "one column": ("a.jpg 0\n\nb.jpg\n", ImageNetDataset, {}, "list.txt:3: 'b.jpg': wanted path and label, separated"),
    "no label": ("a.jpg\t0\nb.jpg\t\n", ImageNetDataset, {}, "list.txt:2: 'b.jpg': wanted path and label"),
    "no image": ("a.jpg,0\n,1\n", ImageNetDataset, {"delimiter": ","}, "list.txt:2: ',1': wanted path and label, sep"),
    "a gap": ("a.jpg\t0\t7\nb.jpg\t\t8\n", VeriWild, {}, r"list.txt:2: 'b.jpg\t\t8': wanted path, label and unique_id"),
    "other separator": ("a.jpg,0\n", ImageNetDataset, {}, "separated by spaces; three columns, path label uniqu"),
    "three for two": ("a.jpg 0 7\n", ImageNetDataset, {}, "'a.jpg 0 7': wanted path and label, separated by spaces"),
    "three TABs for two": ("a.jpg\t0\t7\n", ImageNetDataset, {}, f"are read by VeriWild (key {WHAT}.name)"),
    "two for three": ("a.jpg 0 1\nb.jpg 0\n", VeriWild, {}, "list.txt:2: 'b.jpg 0': wanted path, label and unique_id"),
    "no separator": ("a 0\n", ImageNetDataset, {"delimiter": ""}, "delimiter is ''"),
    "text label": ("a 0\n\nb x1\nc x1\n", ImageNetDataset, {}, "list.txt:3: 'b x1': the label 'x1' is no integer; Dat"),
    "Chinese label": ("a 茶\n", ImageNetDataset, {}, f"the label '茶' is no integer; {WHAT}.relabel=True takes text"),
    "fraction": ("a 0\nb 1.0\n", ImageNetDataset, {}, "list.txt:2: 'b 1.0': the label '1.0' is no integer"),
    "underscore": ("a 0\nb 1_0\n", ImageNetDataset, {}, "the label '1_0' is no integer"),
    "huge": ("a 0\nb 99999999999999999999\n", ImageNetDataset, {}, "the label '99999999999999999999' is no integer"),
    "from 1": ("a 1\nb 2\n", ImageNetDataset, {}, "there are 2 different ones from 1 to 2, without 0. "),
    "gaps": ("a 0\nb 3\nc 12\n", ImageNetDataset, {}, "3 different ones from 0 to 12, without 1, 2, 4, 5, 6. DataLo"),
    "far": ("a 0\nb 999999999999999\n", ImageNetDataset, {}, f"without 1, 2, 3, 4, 5. {WHAT}.relabel=True numbers"),
    "negative": ("a -1\nb 0\n", ImageNetDataset, {}, "2 different ones from -1 to 0. "),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_lists(name: str) -> None:
    text, kind, keys, message = BAD[name]
    with pytest.raises(ConfigError) as caught:
        read(text, kind, **keys)
    assert message in str(caught.value)


def test_no_separator_in_a_config_is_told_with_its_whole_key() -> None:
    with pytest.raises(ConfigError, match=r"DataLoader\.Train\.dataset\.delimiter is ''"):
        load_train_config(bundled("configs") / "train" / "demo_cpu.yaml", ("DataLoader.Train.dataset.delimiter=''",))


def test_a_fault_in_a_late_block_names_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_list, "BLOCK", 20)
    good = codecs.BOM_UTF8 + b"".join(b"%d.jpg %d\n\n" % (row, row) for row in range(50))
    with pytest.raises(ConfigError, match=r"list\.txt:101: 'b\.jpg': wanted path and label"):
        read(good + b"b.jpg\n")
    with pytest.raises(ConfigError, match=r"list\.txt:103: 'b\.jpg x': the label 'x' is no integer"):
        read(good + b"a.jpg 50\n\nb.jpg x\n")
