"""`shitu dataset check` against lists whose faults are known, plain twins, and demo pictures with swapped labels."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shitu.datasets import suspects
from shitu.datasets.check import groups_of_several
from shitu.datasets.suspects import find_suspects
from tests.conftest import DEMO
from tests.dataset_commands import run


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def picture(path: str, seed: int, size: tuple[int, int] = (16, 12)) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(path)


def write(name: str, lines: list[str]) -> str:
    Path(name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return name


def check(*arguments: object) -> tuple[int, dict[str, Any]]:
    """Exit status and the JSON report, without embeddings."""
    done = run("check", *arguments, "--no-embeddings", "--format", "json")
    assert done.exit_code in (0, 1), done.stderr
    return done.exit_code, json.loads(done.stdout)


def found(report: dict[str, Any]) -> set[tuple[str, int]]:
    return {(kind, finding.get("line", 0)) for kind, each in report["findings"].items() for finding in each}


def test_every_fault_is_found_where_it_is() -> None:
    for seed, name in enumerate("abcdefgh"):
        picture(f"root/{name}.png", seed)
    picture("root/图 片.png", 50)
    picture("root/tiny.png", 60, (16, 3))
    Path("root/copy.png").write_bytes(Path("root/a.png").read_bytes())
    Image.open("root/b.png").save("root/b.bmp")
    Path("root/cut.png").write_bytes(Path("root/c.png").read_bytes()[:200])
    listed = write(
        "train.txt",
        [
            "a.png 0",  # 1
            "copy.png 0",  # 2: the same file
            "b.png 0",
            "b.bmp 0",  # 4: the same picture
            "",
            "c.png 1",  # 6 and 7: one picture, two labels
            "./c.png 2",
            "图 片.png 1",
            "gone.png 1",  # 9
            "cut.png 1",  # 10
            "tiny.png 1",  # 11
            "d.png one",  # 12
            "nothing",  # 13
            "d.png 1",
            "e.png 4",  # 15: the only one of its class; 2 and 3 have none
        ],
    )
    status, report = check(listed, "--image-root", "root", "--min-size", 4, "--k", 3, "--write-clean", "clean.txt")
    assert status == 1
    assert found(report) == {
        *{("duplicate", 2), ("duplicate", 4), ("conflict", 6), ("conflict", 7), ("missing", 9), ("unreadable", 10)},
        *{("small", 11), ("label", 12), ("columns", 13), ("single", 0), ("few", 0), ("gap", 0)},
    }
    details = {finding.get("line"): finding["detail"] for each in report["findings"].values() for finding in each}
    assert details[2] == "the same file as line 1, a.png"
    assert details[4] == "the same picture as line 3, b.png"
    assert details[6] == details[7] == "labels 1 in line 6, 2 in line 7"
    assert report["images_per_label"] == {"0": 2, "1": 2, "4": 1}
    assert report["histogram"] == [{"from": 1, "to": 1, "classes": 1}, {"from": 2, "to": 3, "classes": 2}]
    assert (report["lines"], report["usable"]) == (14, 5)
    clean = Path("clean.txt").read_text(encoding="utf-8").splitlines()
    assert clean == ["a.png 0", "b.png 0", "图 片.png 1", "d.png 1", "e.png 4"]
    assert not [
        kind for kind, _ in found(check("clean.txt", "--image-root", "root")[1]) if kind not in ("single", "few", "gap")
    ]


def test_a_clean_list_ends_with_0(tmp_path: Path) -> None:
    for seed in range(8):
        picture(f"{seed}.png", seed)
    listed = write("train.txt", [f"{seed}.png\t{seed % 2}\t{seed}" for seed in range(8)])
    done = run("check", listed, "--no-embeddings")
    assert done.exit_code == 0
    assert "Nothing wrong was found." in done.stdout
    assert "4-7 ######################################## 2" in done.stdout


def test_overlap_with_query_lists_by_content_and_by_path() -> None:
    for seed in range(6):
        picture(f"root/{seed}.png", seed)
    Path("root/renamed.png").write_bytes(Path("root/1.png").read_bytes())
    train = write("train.txt", [f"{seed}.png 0" for seed in range(4)] + ["gone.png 0"])
    first, second = write("q.txt", ["5.png 0", "sub/../2.png 0"]), write("g.txt", ["renamed.png 0", "gone.png 0"])
    Path("root/sub").mkdir()
    _, report = check(train, "--image-root", "root", "--query", first, "--query", second, "--write-clean", "clean.txt")
    overlaps = {finding["line"]: finding["detail"] for finding in report["findings"]["overlap"]}
    assert overlaps == {
        2: "the same file as g.txt:1, renamed.png",
        3: "the same path as q.txt:2, sub/../2.png",
        5: "the same path as g.txt:2, gone.png",
    }
    assert {(finding["source"], finding["line"]) for finding in report["findings"]["missing"]} == {
        ("train.txt", 5),
        ("g.txt", 2),
    }
    assert Path("clean.txt").read_text() == "0.png 0\n3.png 0\n"


def test_a_data_file_has_text_labels_and_may_have_single_images() -> None:
    picture("a b.png", 1)
    picture("c.png", 2)
    status, report = check(write("g.txt", ["a b.png\t青 茶\tmore", "c.png\t红茶"]), "--gallery")
    assert (status, report["images_per_label"]) == (0, {"青 茶": 1, "红茶": 1})


@pytest.mark.parametrize(
    ("text", "columns", "labels"),
    [
        (b"a b.png 0\nc.png 1\n", 0, 0),
        ("\ufeffa b.png 0\r\nc.png 1\r\n".encode(), 0, 0),
        (b"a b.png\t0\nc.png\t1\n", 0, 0),
        (b"c.png 0 5\na b.png 1 6\nc.png 1\n", 1, 0),
        (b"c.png 0\nc.png 1_0\nc.png 1.0\nc.png 99999999999999999999\n", 0, 3),
        (b"c.png\t0\nc.png 1\n", 1, 0),
        (b"c.png 0\n 1\n\t\nx\0y 3\n", 2, 0),
    ],
)
def test_lines_are_split_as_training_splits_them(text: bytes, columns: int, labels: int) -> None:
    Path("list.txt").write_bytes(text)
    _, report = check("list.txt")
    assert (report["found"]["columns"], report["found"]["label"]) == (columns, labels)


def test_report_file_and_table_agree() -> None:
    listed = write("train.txt", [f"gone{number}.png {number}" for number in range(9)])
    done = run("check", listed, "--no-embeddings", "--report", "report.json")
    report = json.loads(Path("report.json").read_text(encoding="utf-8"))
    assert [finding["line"] for finding in report["findings"]["missing"]] == list(range(1, 10))
    assert "9 missing files" in done.stdout
    assert "... and 4 more" in done.stdout
    assert done.stdout.count("no file gone") == 5


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        (None, (), "list.txt: No such file"),
        (b"", (), "no line of `path label` in it"),
        (b"\xff\xfe1\0", (), "not UTF-8"),
        (b"hello\n", (), "(1 others); name a list file"),
        (b"a.png 0\n", ("--drop-suspects",), "goes with --write-clean"),
        (b"a.png 0\n", ("--query", "gone.txt"), "gone.txt: No such file"),
        (b"a.png 0\n", ("--report", "."), "is a folder"),
        (b"a.png 0\n", ("--write-clean", "list.txt/x"), "cannot write"),
    ],
)
def test_checks_that_cannot_be_made(content: bytes | None, arguments: tuple[str, ...], said: str) -> None:
    if content is not None:
        Path("list.txt").write_bytes(content)
    done = run("check", "list.txt", *arguments, "--no-embeddings")
    assert done.exit_code == 2
    assert said in done.stderr
    assert not [name for name in os.listdir() if name != "list.txt"]


def test_groups_of_equal_digests_against_comparing_all() -> None:
    random = np.random.default_rng(0)
    digests = [bytes(digest) for digest in random.integers(0, 7, (200, 2)).astype(np.uint8)]
    twin = {tuple(place for place in range(200) if digests[place] == digest) for digest in digests}
    assert {tuple(group) for group in groups_of_several(digests)} == {places for places in twin if len(places) > 1}
    assert groups_of_several([]) == groups_of_several([b"", b""]) == []


def twin_of_suspects(vectors: np.ndarray, labels: list[int], contents: list[int]) -> dict[int, tuple[int, float]]:
    """The rule of find_suspects, one image and one neighbour at a time."""
    found = {}
    for image in range(len(labels)):
        others = [other for other in range(len(labels)) if contents[other] != contents[image]]
        similar = {other: float(vectors[image] @ vectors[other]) for other in others}
        nearest = sorted(others, key=lambda other: -similar[other])[:5]
        mine = [similar[other] for other in others if labels[other] == labels[image]]
        if not mine or labels.count(labels[image]) < 3 or any(labels[n] == labels[image] for n in nearest):
            continue
        votes = [labels[n] for n in nearest]
        best = max(sorted(set(votes)), key=votes.count)
        needed = max(2, (min(5, labels.count(best)) + 1) // 2)
        confidence = np.mean([similar[n] for n in nearest if labels[n] == best]) - max(mine)
        if votes.count(best) >= needed and confidence >= 0.15:
            found[image] = (best, float(confidence))
    return found


@pytest.mark.parametrize("block", [1, 1 << 25])
def test_suspects_against_a_plain_twin(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspects, "_BLOCK", block)
    total = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        truth = random.integers(0, 12, 80)
        vectors = random.normal(size=(12, 16))[truth] + 0.5 * random.normal(size=(80, 16))
        vectors[70:] = vectors[:10] + 1e-3 * random.normal(size=(10, 16))  # ten pictures are there twice
        contents = np.arange(80)
        contents[70:] = contents[:10]
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        labels = np.where(random.random(80) < 0.15, random.integers(0, 12, 80), truth)
        found = find_suspects(vectors, labels, contents)
        twin = twin_of_suspects(vectors, labels.tolist(), contents.tolist())
        assert {suspect.place: suspect.suggested for suspect in found} == {
            place: best for place, (best, _) in twin.items()
        }
        for suspect in found:
            assert suspect.confidence == pytest.approx(twin[suspect.place][1], abs=1e-5)
        assert [suspect.confidence for suspect in found] == sorted((s.confidence for s in found), reverse=True)
        total += len(found)
    assert total > 50


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_few_images_have_no_suspects(count: int) -> None:
    vectors = np.eye(8, dtype=np.float32)[:count]
    assert find_suspects(vectors, np.arange(count), np.arange(count)) == []


def test_swapped_labels_of_demo_pictures_are_found() -> None:
    """12 of 240 pictures get another thing's label; each class has 3 pictures by 3 makers, which is little to go by."""
    lines = [line.split("\t") for line in (DEMO / "gallery.txt").read_text(encoding="utf-8").splitlines()]
    names = sorted({label for _, label in lines})
    random = np.random.default_rng(7)
    swapped = set(random.choice(len(lines), 12, replace=False).tolist())
    for place in swapped:
        lines[place][1] = str(random.choice([name for name in names if name != lines[place][1]]))
    write("g.txt", ["\t".join(line) for line in lines])
    done = run(
        "check",
        "g.txt",
        "--image-root",
        DEMO,
        "--gallery",
        "--format",
        "json",
        "--write-clean",
        "c.txt",
        "--drop-suspects",
    )
    assert done.exit_code == 1
    suspected = [finding["line"] - 1 for finding in json.loads(done.stdout)["findings"]["suspect"]]
    hits = [place for place in suspected if place in swapped]
    assert len(hits) / len(swapped) >= 0.5  # recall
    assert len(hits) / len(suspected) >= 0.6  # precision
    assert set(suspected[:6]) <= swapped  # the most doubtful come first
    kept = Path("c.txt").read_text(encoding="utf-8").splitlines()
    assert kept == ["\t".join(line) for place, line in enumerate(lines) if place not in suspected]
