"""Mainbody data that is damaged, hostile or laid out in another way: said so, and no file written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from shitu.datasets.mainbody import coco_file
from shitu.datasets.mainbody_sources import read_voc
from shitu.errors import ImageError
from tests.dataset_commands import run
from tests.mainbody_sets import coco, converted, image, picture, voc, write_json

pytest.importorskip("pycocotools", reason="needs the train extra")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    "<!ENTITY c '&b;&b;&b;&b;&b;&b;&b;&b;'>]><annotation><object><name>&c;</name></object></annotation>"
)
ENTITY = (
    '<!DOCTYPE x [<!ENTITY s SYSTEM "file:///etc/passwd">]><annotation><object><name>&s;</name></object></annotation>'
)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (BOMB.encode(), "a DOCTYPE"),
        (
            BOMB.replace('<?xml version="1.0"?>', '<?xml version="1.0" encoding="UTF-16"?>').encode("utf-16"),
            "a DOCTYPE",
        ),
        (ENTITY.encode(), "a DOCTYPE"),
        (b"", "not a VOC annotation"),
        (b"<annotation>", "not a VOC annotation"),
        (b"\0\1\2", "not a VOC annotation"),
        (b'<?xml version="1.0" encoding="no-such-code"?><a/>', "not a VOC annotation"),
        (b" " * ((16 << 20) + 1), "more than 16 MB"),
    ],
)
def test_bad_xml(data: bytes, said: str) -> None:
    Path("x.xml").write_bytes(data)
    error = read_voc(Path("x.xml"), "x.jpg")
    assert isinstance(error, ImageError)
    assert said in str(error)


@pytest.mark.parametrize("value", ["", "nan", "inf", "1e999", "x", "１２"])
def test_xml_numbers_that_are_none(value: str) -> None:
    picture("l/a/1.jpg")
    voc("l/a/1.xml", (value, 2, 31, 22), (5, 5, 10, 10))
    expected = [[5, 5, 5, 5]] if value != "１２" else [[12, 2, 19, 20], [5, 5, 5, 5]]  # full-width digits are digits
    assert converted("logodet3k", "l") == {"a/1.jpg": expected}


def refused(name: str, root: str) -> Result:
    done = run("mainbody", name, root, "-o", "out.json")
    assert done.exit_code == 2, done.stdout
    assert not Path("out.json").exists()
    assert not [found for found in os.listdir() if found.startswith(".")]
    return done


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/secret.jpg", "a\tb.jpg", "", 5, None])
def test_names_that_lead_out(name: Any) -> None:
    picture("secret.jpg")
    write_json("c/annotations/instances_train2017.json", coco([image(1, name)], [(1, [1, 1, 5, 5])]))
    assert "the file name" in refused("coco2017", "c").stderr


@pytest.mark.parametrize("name", ["coco2017", "objects365"])
def test_names_without_end(name: str) -> None:
    content = coco([image(1, "x" * 5000)], [(1, [1, 1, 5, 5])])
    write_json("c/annotations/instances_train2017.json", content)
    write_json("c/annotations/zhiyuan_objv2_train.json", content)
    assert "no such file" in refused(name, "c").stderr


def test_csv_lines_that_are_none() -> None:
    picture("i/icartoonface_dettrain/a.jpg")
    Path("i/icartoonface_dettrain.csv").write_text("a.jpg,1,2,3,4\na.jpg,1,2\n")
    assert "icartoonface_dettrain.csv:2: 3 columns; wanted name,x1,y1,x2,y2" in refused("icartoonface", "i").stderr
    Path("i/icartoonface_dettrain.csv").write_text("../a.jpg,1,2,3,4\n")
    assert "it leaves the folder" in refused("icartoonface", "i").stderr
    Path("i/icartoonface_dettrain.csv").write_bytes(b"\xff\xfe")
    assert "wanted lines name,x1,y1,x2,y2" in refused("icartoonface", "i").stderr


@pytest.mark.parametrize("name", ["objects365", "coco2017", "icartoonface", "logodet3k", "rpc"])
def test_another_layout_is_refused(name: str) -> None:
    assert "no such folder" in refused(name, "nowhere").stderr
    Path("empty").mkdir()
    said = refused(name, "empty").stderr
    assert "no image is left" in said if name == "logodet3k" else "is there; docs/datasets/mainbody.md" in said


def test_an_interrupted_file_never_appears() -> None:
    def interrupted() -> None:
        with coco_file(Path("out.json")) as writer:
            writer.add("a.jpg", (9, 9), np.array([[1.0, 1, 2, 2]]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir() == []
