"""Own data -> lists: against a walk of the folders, pictures of known colours, and what each reader of lists says."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shitu.build.list_file import read_list
from shitu.datasets.rows import Row
from shitu.datasets.split import parse_shares, split_rows
from shitu.errors import UsageError
from shitu.training.rec.image_list import read_image_list
from shitu.training.rec.schema_data import Dataset, ImageNetDataset, VeriWild
from tests.conftest import DEMO
from tests.dataset_commands import run
from tests.own_data import coco, everything_but, examples, labelme, lines, painted, picture, shape


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows_of(sizes: dict[str, int]) -> list[Row]:
    return [Row(f"{label}/{number}.jpg", label) for label, count in sizes.items() for number in range(count)]


# A folder per class


def test_a_folder_per_class_is_what_a_walk_finds() -> None:
    for name in ("红/a.png", "红/deep/er/b c.PNG", "2/x.jpg", "10/x.jpg", "10/.hidden.jpg", "10/notes.txt"):
        picture(f"root/{name}") if not name.endswith("txt") else Path(f"root/{name}").write_text("")
    assert run("from-folder", "root", "-o", "out/train.txt").exit_code == 0
    images = read_image_list(ImageNetDataset(image_root="root", cls_label_path="out/train.txt"), what="x")
    names = dict(line.split("\t") for line in lines("out/train.classes.txt"))
    assert names == {"0": "2", "1": "10", "2": "红"}
    found = {(images.path(place), names[str(images.labels[place])]) for place in range(len(images))}
    walked = {
        (os.path.join(folder, name), Path(folder).relative_to("root").parts[0])
        for folder, _, files in os.walk("root")
        for name in files
        if name.lower().endswith(("png", "jpg")) and not name.startswith(".")
    }
    assert found == walked


def test_depth_names_classes_by_more_folders() -> None:
    for name in ("fruit/apple/a.png", "fruit/pear/more/b.png", "fruit/c.png"):
        picture(f"root/{name}")
    done = run("from-folder", "root", "-o", "train.txt", "--depth", 2)
    assert done.exit_code == 1
    assert "fruit/c.png: lies in no class; wanted 2 class folders between root" in done.stderr
    assert [line.split("\t")[1] for line in lines("train.classes.txt")] == ["fruit/apple", "fruit/pear"]


def test_what_is_no_image_is_left_out_and_named() -> None:
    picture("root/a/good.png")
    picture("root/a/new\nline.png")
    Path("root/a/empty.jpg").touch()
    Path("root/a/page.jpg").write_text("<html>")
    Path("root/a/phone.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    os.mkfifo("root/a/pipe.jpg")
    done = run("from-folder", "root", "-o", "train.txt")
    assert done.exit_code == 1
    for text in ("empty.jpg: is empty", "a web page", "HEIC", "not a regular file", "control character", "5 images"):
        assert text in done.stderr
    assert lines("train.txt") == ["a/good.png 0"]


def test_a_gallery_list_is_read_by_build_gallery() -> None:
    picture("root/红 茶/a b.png")
    picture("root/tea/c.png")
    assert run("from-folder", "root", "-o", "g.txt", "--gallery").exit_code == 0
    entries = list(read_list("g.txt", "root", "\t"))
    assert [(entry.path, entry.label) for entry in entries] == [
        ("root/tea/c.png", "tea"),
        ("root/红 茶/a b.png", "红 茶"),
    ]
    assert everything_but("root") == ["g.txt"]


# Splits


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("by_class", [True, False])
@pytest.mark.parametrize("shares", ["train=0.6,query=0.2,gallery=0.2", "train=.5,val=.2,query=.1,gallery=.2"])
def test_a_split_holds_every_image_once(seed: int, by_class: bool, shares: str) -> None:
    random = np.random.default_rng(seed)
    rows = rows_of({f"类{number}": int(random.integers(1, 20)) for number in range(40)})
    parts = split_rows(rows, parse_shares(shares), seed=seed, by_class=by_class)
    together = [row for part in parts.values() for row in part]
    assert sorted(together, key=str) == sorted(rows, key=str)
    assert split_rows(reversed(rows), parse_shares(shares), seed=seed, by_class=by_class) == parts
    classes = {name: {row.label for row in part} for name, part in parts.items()}
    assert classes["query"] <= classes["gallery"]
    if by_class:
        assert not classes["train"] & (classes["query"] | classes["gallery"] | classes.get("val", set()))
        assert not classes.get("val", set()) & (classes["query"] | classes["gallery"])
        assert abs(len(classes["train"]) - parse_shares(shares)["train"] * 40) <= 0.5
    else:
        assert classes["train"] == {row.label for row in rows}
        counts: dict[str, int] = defaultdict(int)
        for row in parts.get("val", []):
            counts[row.label] += 1
        assert 1 not in counts.values()


@pytest.mark.parametrize("unknown", [0.01, 0.2, 0.5])
@pytest.mark.parametrize("by_class", [True, False])
@pytest.mark.parametrize("shares", ["query=0.3,gallery=0.7", "train=.5,val=.2,query=.1,gallery=.2"])
def test_unknown_classes_are_only_asked_about(shares: str, by_class: bool, unknown: float) -> None:
    rows = rows_of({f"类{number}": 3 + number % 9 for number in range(60)})
    parts = split_rows(rows, parse_shares(shares), seed=1, by_class=by_class, unknown=unknown)
    assert sorted((row for part in parts.values() for row in part), key=str) == sorted(rows, key=str)
    classes = {name: {row.label for row in part} for name, part in parts.items()}
    alone = classes["query"] - classes["gallery"]
    assert not alone & {label for name in set(parts) - {"query"} for label in classes[name]}
    asked = len(classes["query"] | classes["gallery"]) if by_class else 60
    assert len(alone) == max(1, round(unknown * asked))
    plain = split_rows(rows, parse_shares(shares), seed=1, by_class=by_class)
    assert parts["gallery"] == [row for row in plain["gallery"] if row.label not in alone]
    assert parts == split_rows(reversed(rows), parse_shares(shares), seed=1, by_class=by_class, unknown=unknown)


def test_too_many_unknown_classes_leave_no_gallery() -> None:
    with pytest.raises(UsageError, match=r"gallery would hold fewer than 2 of the 5 classes.* or lower --unknown"):
        split_rows(
            rows_of(dict.fromkeys("abcde", 4)), parse_shares("query=.5,gallery=.5"), seed=0, by_class=True, unknown=0.9
        )


def test_split_lists_with_the_labels_themselves() -> None:
    for label in ("红 茶", "tea", "milk", "cola"):
        for number in range(4):
            picture(f"root/{label}/{number}.png")
    done = run("from-folder", "root", "-o", "out", "--split", "query=.25,gallery=.75", "--gallery")
    assert done.exit_code == 0
    assert everything_but("root") == ["out"]
    assert sorted(os.listdir("out")) == ["gallery.txt", "query.txt"]
    entries = {name: list(read_list(f"out/{name}.txt", "root", "\t")) for name in ("query", "gallery")}
    assert {name: len(found) for name, found in entries.items()} == {"query": 4, "gallery": 12}
    both = [*entries["query"], *entries["gallery"]]
    assert {(entry.path, entry.label) for entry in both} == {
        (f"root/{label}/{number}.png", label) for label in ("红 茶", "tea", "milk", "cola") for number in range(4)
    }


def test_another_class_moves_no_image_and_another_seed_does() -> None:
    shares = parse_shares("train=0.5,query=0.25,gallery=0.25")
    few, more = rows_of({"a": 12, "b": 12}), rows_of({"a": 12, "b": 12, "c": 12})
    before = split_rows(few, shares, seed=0, by_class=False)
    after = split_rows(more, shares, seed=0, by_class=False)
    assert {name: len(part) for name, part in before.items()} == {"train": 12, "query": 6, "gallery": 6}
    for name in shares:
        assert before[name] == [row for row in after[name] if row.label != "c"]
    assert split_rows(few, shares, seed=1, by_class=False) != before


def read(name: str, kind: type[Dataset] = ImageNetDataset, **keys: Any) -> dict[str, str]:
    """Path -> class name, as training or evaluation reads a list."""
    images = read_image_list(kind(image_root="", cls_label_path=f"out/{name}.txt", check_files=False), what="x", **keys)
    names = dict(line.split("\t") for line in lines(f"out/{name}.classes.txt"))
    return {images.path(n): names[str(images.original_labels[images.labels[n]])] for n in range(len(images))}


@pytest.mark.parametrize("how", ["--by-class", "--by-image"])
def test_split_lists_agree_on_the_labels(how: str) -> None:
    for label in range(8):
        for number in range(12):
            picture(f"root/c{label}/{number}.png")
    done = run(
        "from-folder", "root", "-o", "out", "--split", "train=.5,val=.25,query=.125,gallery=.125", how, "--seed", 3
    )
    assert done.exit_code == 0
    found = {**read("train"), **read("query", dense=False), **read("gallery", dense=False)}
    found |= read("val", VeriWild, dense=False)
    assert found == {f"c{label}/{number}.png": f"c{label}" for label in range(8) for number in range(12)}
    ids = [line.split(" ")[2] for line in lines("out/val.txt")]
    assert len(set(ids)) == len(ids) > 0


def test_a_part_of_one_class_is_refused() -> None:
    for label in range(8):
        picture(f"root/c{label}/1.png")
    done = run("from-folder", "root", "-o", "out", "--split", "train=.9,val=.1")
    assert done.exit_code == 2
    assert "val would hold fewer than 2 of the 8 classes" in done.stderr
    assert everything_but("root") == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train", "'train': wanted such as"),
        ("train=0.8", "add up to 0.8"),
        ("train=0.8,test=0.2", "'test=0.2'"),
        ("train=0.5,train=0.5", "'train=0.5'"),
        ("train=nan,val=0.5", "'train=nan'"),
        ("train=-1,val=2", "'train=-1'"),
        ("train=0.5,query=0.5", "query and gallery go together"),
        ("", "'': wanted"),
    ],
)
def test_shares_that_make_no_split(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_shares(text)
    assert said in str(caught.value)


# Refusals, interrupts, and the page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("from-folder", "nowhere", "-o", "t.txt"), "nowhere: no such folder"),
        (("from-folder", "empty", "-o", "t.txt"), "no image"),
        (("from-folder", DEMO / "gallery", "-o", "empty"), "is a folder"),
        (("from-folder", DEMO / "gallery", "-o", "t", "--unknown", ".2"), "--unknown takes classes for the query part"),
        (
            ("from-folder", DEMO / "gallery", "-o", "t", "--unknown", ".2", "--split", "train=.5,val=.5"),
            "add such as --split query=0.3,gallery=0.7",
        ),
        (("from-labelme", "empty", "-o", "t.txt"), "no .json file"),
        (("from-coco", "gone.json", "--whole", "-o", "t.txt"), "gone.json: No such file"),
    ],
)
def test_commands_that_cannot_work(arguments: tuple[object, ...], said: str) -> None:
    Path("empty").mkdir()
    done = run(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert everything_but("empty") == []


def test_an_interrupt_leaves_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> Callable[..., None]:
        raise KeyboardInterrupt

    monkeypatch.setattr("shitu.datasets.write_list._write_out", interrupted)
    done = run("from-folder", DEMO / "gallery", "-o", "t.txt")
    assert done.exit_code == 130
    assert os.listdir() == []


def test_the_examples_of_the_page_on_own_data_run() -> None:
    for label in range(8):
        for number in range(10):
            picture(f"photos/{label}/{number}.png", (label * 30, number * 20, 99))
    painted("labelme/a.png", {})
    labelme("labelme/a.json", [shape("红", (0, 0), (5, 5))])
    painted("coco/images/sub/a.png", {})
    Path(coco([{"bbox": [1, 1, 5, 5]}])).rename("coco/instances.json")
    commands = examples("datasets_own.md")
    assert len(commands) == 9
    for command in commands:
        done = run(*command, *(["--no-embeddings"] if command[0] == "check" else []))
        assert done.exit_code == 0, done.output
    assert (len(lines("lists/own/query.txt")), len(lines("lists/own/gallery.txt"))) == (2 * 10 + 6 * 3, 6 * 7)
    assert len(lines("lists/by-class/train.txt")) == 50
    assert len(lines("lists/by-image/val.txt")) == 40
