"""Layouts that differ from copy to copy, that are damaged, or that somebody made to do harm."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from shitu.datasets.public_sets import PUBLIC_SETS
from shitu.errors import ConfigError, UsageError
from tests.dataset_commands import converted, run
from tests.miniature import jpeg, write
from tests.miniatures import MINIATURES
from tests.miniatures_tfrecords import example, record, write_tfrecords

# --- variants of layouts ---------------------------------------------------------------------------------------


def test_fashion_by_another_column(tmp_path: Path) -> None:
    root = MINIATURES["fashion-product-images"].write(tmp_path / "f")
    text, done = converted("fashion-product-images", root, tmp_path / "a.txt", column="subCategory")
    assert [line[-1] for line in text.splitlines()] == ["2", "0", "2", "1"]
    assert done.as_published is None
    with pytest.raises(ConfigError, match=r"wanted a column 'colour'; found id, gender, "):
        converted("fashion-product-images", root, tmp_path / "a.txt", column="colour")
    with pytest.raises(UsageError, match="no columns"):
        converted("sop", root, tmp_path / "a.txt", column="colour")


def test_stanford_cars_with_matlab_files(tmp_path: Path) -> None:
    io = pytest.importorskip("scipy.io")
    numpy = pytest.importorskip("numpy")
    notes = [
        {"bbox_x1": 39.0, "class": 2.0, "fname": "00001.jpg"},
        {"bbox_x1": 1.0, "class": 1.0, "fname": "00002.jpg"},
    ]
    fields = numpy.zeros((1, 2), dtype=[("bbox_x1", "O"), ("class", "O"), ("fname", "O")])
    for column, note in enumerate(notes):
        for field, value in note.items():
            fields[0, column][field] = value
    names = numpy.array([["AM General Hummer SUV 2000", "Acura RL Sedan 2012"]], dtype=object)
    (tmp_path / "devkit").mkdir()
    io.savemat(tmp_path / "devkit" / "cars_train_annos.mat", {"annotations": fields})
    io.savemat(tmp_path / "devkit" / "cars_meta.mat", {"class_names": names})
    for name in ("00001.jpg", "00002.jpg"):
        write(tmp_path / "cars_train" / name, jpeg())
    text, done = converted("cars", tmp_path, tmp_path / "a.txt", check_files=True)
    assert text == "cars_train/00001.jpg 1\ncars_train/00002.jpg 0\n"
    assert done.written.missing.count == 0
    classes = (tmp_path / "a.classes.txt").read_text()
    assert classes == "0\t1 AM General Hummer SUV 2000\n1\t2 Acura RL Sedan 2012\n"
    write(tmp_path / "devkit" / "cars_train_annos.mat", b"text")
    with pytest.raises(ConfigError, match="not a MATLAB file"):
        converted("cars", tmp_path, tmp_path / "a.txt")


def test_scipy_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    write(tmp_path / "devkit" / "cars_train_annos.mat", b"")
    (tmp_path / "cars_train").mkdir()
    with pytest.raises(UsageError, match=r"needs scipy: pip install 'shitu\[train\]'"):
        converted("cars", tmp_path, tmp_path / "a.txt")


def test_flowers_from_tfrecords(tmp_path: Path) -> None:
    root = write_tfrecords(tmp_path / "flowers")
    with pytest.raises(ConfigError, match=r"unpack them first, `shitu dataset unpack \S+flowers -o FOLDER`"):
        converted("104flowers", root, tmp_path / "a.txt")
    done = run("unpack", root, "-o", tmp_path / "jpeg")
    assert (done.exit_code, done.stderr) == (0, f"Wrote 3 images below {tmp_path / 'jpeg'}.\n")
    assert (tmp_path / "jpeg/train/300/0a1b2c3d5.jpeg").read_bytes() == jpeg()
    text, _ = converted("104flowers", tmp_path / "jpeg", tmp_path / "a.txt", check_files=True)
    assert text == "train/67/0a1b2c3d4.jpeg 0\ntrain/300/0a1b2c3d5.jpeg 1\n"


def test_tfrecords_with_unpacked_integers(tmp_path: Path) -> None:
    write(tmp_path / "train" / "a.tfrec", record(example(jpeg(), b"abc", 70, packed=False)))
    assert run("unpack", tmp_path, "-o", tmp_path / "out").exit_code == 0
    assert (tmp_path / "out/train/70/abc.jpeg").is_file()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (record(example(jpeg(), b"../../evil", 1)), "cannot be a file name"),
        (record(example(b"MZ", b"abc", 1)), "is not a JPEG file"),
        (record(example(jpeg(), b"abc", 1))[:-9], "is cut off"),
        (b"\xff" * 40, "is cut off"),
        (record(b"\x0a\xff\xff\xff\x7f"), "is damaged"),
        (record(b"\x0a" + b"\xff" * 12), "is damaged"),
        (record(b"\x0b"), "is damaged"),
        (record(b""), "wanted records with image, class and id; found none"),
    ],
)
def test_damaged_tfrecords(data: bytes, message: str, tmp_path: Path) -> None:
    write(tmp_path / "train" / "a.tfrec", data)
    done = run("unpack", tmp_path, "-o", tmp_path / "out")
    assert (done.exit_code, message in done.stderr) == (2, True), done.stderr
    assert not list(tmp_path.rglob("*evil*"))


# --- what does not look right ----------------------------------------------------------------------------------


@pytest.mark.parametrize("known", PUBLIC_SETS, ids=lambda known: known.name)
def test_a_folder_of_another_kind(known: Any, tmp_path: Path) -> None:
    """It says what was wanted, what was found, and where the set and its page are; nothing is written."""
    write(tmp_path / "root" / "holiday" / "notes.txt", b"")
    write(tmp_path / "root" / "x.docx", b"")
    for split in known.splits:
        done = run("convert", known.name, tmp_path / "root", "-o", tmp_path / "a.txt", "--split", split)
        assert done.exit_code == 2
        for words in ("wanted", "found holiday/, x.docx", known.homepage, f"docs/datasets/{known.name}.md"):
            assert words in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


BAD = [
    ("sop", "Stanford_Online_Products/Ebay_train.txt", "image_id path\n1 a\n", "wanted the header"),
    ("sop", "Stanford_Online_Products/Ebay_train.txt", "image_id class_id super_class_id path\n1 2\n", ":2: '1 2'"),
    ("sop", "Stanford_Online_Products/Ebay_train.txt", "image_id class_id super_class_id path\n", "no image is left"),
    ("sop", "Stanford_Online_Products/Ebay_train.txt", b"image_id class_id super_class_id path\n\xff\n", "not UTF-8"),
    ("inshop", "Eval/list_eval_partition.txt", "1\nimage_name item_id evaluation_status\na b\n", "wanted image_name"),
    ("veri-wild", "train_test_split/train_list.txt", "000001\n", "wanted vehicle/image"),
    ("compcars", "data/train_test_split/classification/train.txt", "78/1/a.jpg\n", "wanted make/model/year/name"),
    ("gldv2", "train_clean.csv", "landmark_id;images\n", "wanted the columns landmark_id,images"),
    ("gldv2", "train_clean.csv", "landmark_id,images\n7\n", "wanted a landmark_id, a comma"),
    ("products-10k", "train.csv", "name,group\n", "wanted a column 'class'; found name, group"),
    ("products-10k", "train.csv", "", "found no header"),
    ("products-10k", "train.csv", "name,class,group\n0.jpg\n", "row 2 is short"),
    ("products-10k", "train.csv", "name,class,group\n" + "x" * 200_000 + ",1,1\n", "field larger"),
    ("inaturalist", "train2019.json", "{", "not JSON"),
    ("inaturalist", "train2019.json", "[" * 100_000, "not JSON"),
    ("inaturalist", "train2019.json", "[]", "holds a list"),
    ("inaturalist", "train2019.json", '{"images": 1}', "wanted images"),
    ("inaturalist", "train2019.json", '{"images": [], "annotations": [{"image_id": 3}]}', "stumbled over KeyError 3"),
]


@pytest.mark.parametrize(("name", "file", "content", "message"), BAD)
def test_bad_annotations(name: str, file: str, content: str | bytes, message: str, tmp_path: Path) -> None:
    root = MINIATURES[name].write(tmp_path / "root")
    (root / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    done = run("convert", name, root, "-o", tmp_path / "a.txt")
    assert (done.exit_code, message in done.stderr) == (2, True), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_a_camera_that_is_not_known(tmp_path: Path) -> None:
    root = MINIATURES["veri-wild"].write(tmp_path / "root")
    info = root / "train_test_split/vehicle_info.txt"
    text = info.read_text()
    info.write_text(text.replace("00030/000005", "00030/999999"))
    with pytest.raises(ConfigError, match=r"test_10000_query.txt:1: '00030/000005': wanted an image of vehicle_info"):
        converted("veri-wild", root, tmp_path / "a.txt", split="query")
    info.write_text(text.replace("105", "x"))
    with pytest.raises(ConfigError, match="camera id 'x' is not a whole number"):
        converted("veri-wild", root, tmp_path / "a.txt", split="query")


EVIL = ("../../etc/passwd.jpg", "/etc/passwd.jpg", "C:\\a.jpg", "a\0b.jpg", "..\\a.jpg", "\x1b[2J.jpg", "a/../../b.jpg")


@pytest.mark.parametrize("path", EVIL)
def test_paths_that_lead_elsewhere_are_left_out(path: str, tmp_path: Path) -> None:
    """In a table, in JSON and in a text list; the rest is converted and the status is 1."""
    images = [{"id": 1, "file_name": path}, {"id": 2, "file_name": "train_val2019/ok.jpg"}]
    notes = [{"image_id": 1, "category_id": 1}, {"image_id": 2, "category_id": 2}]
    content = {"images": images, "annotations": notes}
    write(tmp_path / "root" / "train2019.json", json.dumps(content).encode())
    (tmp_path / "root" / "train_val2019").mkdir()
    done = run("convert", "inaturalist", tmp_path / "root", "-o", tmp_path / "a.txt")
    assert done.exit_code == 1
    assert "1 image refused, left out" in done.stderr
    assert "\x1b" not in done.stderr
    assert (tmp_path / "a.txt").read_text() == "train_val2019/ok.jpg 0\n"


@pytest.mark.parametrize("path", ["../../x.jpg", "a/../../../x.jpg", "..\\..\\x.jpg"])
def test_such_paths_in_tables_and_lists(path: str, tmp_path: Path) -> None:
    products = MINIATURES["products-10k"].write(tmp_path / "p")
    with (products / "train.csv").open("a", newline="") as file:
        csv.writer(file).writerow([path, 3, 1])
    text, done = converted("products-10k", products, tmp_path / "a.txt")
    assert (done.written.refused.count, text) == (1, MINIATURES["products-10k"].expected("train"))
    vehicles = MINIATURES["compcars"].write(tmp_path / "c")
    with (vehicles / "data/train_test_split/classification/train.txt").open("a") as file2:
        file2.write("../../../x.jpg\n")
    text, done = converted("compcars", vehicles, tmp_path / "a.txt")
    assert (done.written.refused.count, text) == (1, MINIATURES["compcars"].expected("train"))


def test_odd_names_on_disk(tmp_path: Path) -> None:
    for name in (
        "train/0/a\nb.jpg",
        "train/0/ok.jpg",
        "train/0/图 片.JPEG",
        "train/0/notes.txt",
        "train/.hidden/a.jpg",
    ):
        write(tmp_path / name, jpeg())
    (tmp_path / "train" / "empty").mkdir()
    text, done = converted("aliproduct", tmp_path, tmp_path / "a.txt")
    assert text == "train/0/ok.jpg\t0\ntrain/0/图 片.JPEG\t0\n"
    assert done.written.refused.count == 1
