"""The 17 public sets: their original layouts, in miniature, become the lists written by hand."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from shitu.datasets.convert import convert
from shitu.datasets.public_sets import PUBLIC_SETS, Split, public_set
from shitu.datasets.rows import Row
from shitu.errors import UsageError
from tests.dataset_commands import converted, run
from tests.miniatures import MINIATURES

SPLITS = [(known.name, split) for known in PUBLIC_SETS for split in known.splits]


def test_the_published_table() -> None:
    """Against the issue's row of numbers; and the sum is not the 192,612 of the published configuration."""
    published = (
        "2,498,771 / 50,030; 1,580,470 / 81,313; 277,797 / 30,671; 155,427 / 3,000; 59,551 / 11,318; 25,882 / 3,997; "
        "58,388 / 400; 12,753 / 104; 58,315 / 112; 44,441 / 47; 24,123 / 59; 101,000 / 101; 225,639 / 262; "
        "265,213 / 1,010; 15,588 / 67; 141,931 / 9,691; 16,016 / 431"
    )
    pairs = [tuple(int(part.replace(",", "")) for part in pair.split("/")) for pair in published.split(";")]
    assert [known.counts for known in PUBLIC_SETS] == pairs
    assert sum(classes for _, classes in pairs) == 192_613


def test_every_set_has_a_miniature_with_all_splits() -> None:
    assert {(name, split) for name, small in MINIATURES.items() for split in small.lists} == set(SPLITS)


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_convert(name: str, split: str, tmp_path: Path) -> None:
    root = MINIATURES[name].write(tmp_path / name)
    text, done = converted(name, root, tmp_path / "list.txt", split=split)
    assert text == MINIATURES[name].expected(split)
    assert done.written.images == len(text.splitlines())
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "list.classes.txt", "list.txt"])


@pytest.mark.parametrize("name", MINIATURES)
def test_every_listed_image_is_there(name: str, tmp_path: Path) -> None:
    """Paths lead from the converted folder to the files, also where an archive was unpacked two folders deeper."""
    MINIATURES[name].write(tmp_path / "data" / "unpacked" / "here")
    text, done = converted(name, tmp_path / "data", tmp_path / "list.txt", check_files=True)
    missing = 1 if name == "fashion-product-images" else 0
    assert done.written.missing.count == missing
    assert len(text.splitlines()) == len(MINIATURES[name].expected("train").splitlines()) - missing
    for line in text.splitlines():
        assert (tmp_path / "data" / line.rsplit("\t" if "\t" in line else " ", 1)[0]).is_file()


def test_classes_file_offset_and_prefix(tmp_path: Path) -> None:
    root = MINIATURES["gldv2"].write(tmp_path / "GLDv2")
    text, _ = converted("gldv2", root, tmp_path / "list.txt", offset=50_030, prefix="GLDv2", delimiter="tab")
    assert text.splitlines()[:2] == [
        "GLDv2/train/6/e/1/6e158a47eb2ca3f6.jpg\t50030",
        "GLDv2/train/0/0/0/000a1b2c3d4e5f60.jpg\t50031",
    ]
    assert (tmp_path / "list.classes.txt").read_text() == "50030\t7\n50031\t12\n"


def test_counts_against_the_published(tmp_path: Path) -> None:
    """With a set that was published as 1,001 images of 3 classes."""
    for count, report in (
        (1000, "1,000 images where 1,001 were published (1 fewer), 3 classes"),
        (1001, "1,001 images, 3 classes: as published"),
        (1003, "1,003 images where 1,001 were published (2 more), 3 classes"),
        (2, "2 images where 1,001 were published (999 fewer), 2 classes where 3 were published (1 fewer)"),
    ):
        rows = [Row(f"{number}.jpg", str(number % 3)) for number in range(count)]
        small = replace(public_set("sop"), splits={"train": Split(lambda root, rows=rows: iter(rows), (1001, 3))})
        done = convert(small, tmp_path, tmp_path / "a.txt")
        assert (done.report, done.as_published) == (report, count == 1001)


def test_command_line(tmp_path: Path) -> None:
    root = MINIATURES["sop"].write(tmp_path / "sop")
    out = tmp_path / "new folder" / "sop.txt"
    done = run("convert", "SOP", root, "-o", out)
    assert done.exit_code == 0
    assert "Warning: 3 images where 59,551 were published (59,548 fewer), 2 classes where 11,318" in done.stderr
    assert out.read_text() == MINIATURES["sop"].expected("train")
    assert run("convert", "sop", root, "-o", out, "--strict").exit_code == 1
    assert run("convert", "sop", root, "-o", out, "--split", "test", "--strict").exit_code == 1


def test_list_shows_the_sets() -> None:
    lines = run("convert", "--list").stdout.splitlines()
    assert [line.split()[0] for line in lines[2:-1]] == [known.name for known in PUBLIC_SETS]
    assert lines[-1].split() == ["together", "5,561,305", "192,613"]


def test_names_are_read_generously() -> None:
    for name in ("Products_10K", "products 10k", "products-10k"):
        assert public_set(name).name == "products-10k"
    with pytest.raises(UsageError, match="did you mean inaturalist"):
        public_set("inaturalis")
    with pytest.raises(UsageError, match="known: aliproduct"):
        public_set("mnist")


def test_the_table_loads_nothing_heavy() -> None:
    code = "import sys, shitu.datasets.convert; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"paddle", "faiss", "cv2", "numpy", "PIL", "scipy", "pandas"} & set(loaded)


def test_every_error_is_of_the_family(tmp_path: Path) -> None:
    for arguments in (
        ["convert"],
        ["convert", "sop", str(tmp_path)],
        ["convert", "sop", str(tmp_path / "no"), "-o", "x"],
    ):
        done = run(*arguments)
        assert done.exit_code == 2
        assert "wanted" in done.stderr
    done = run("convert", "gldv2", tmp_path, "-o", tmp_path / "a.txt", "--split", "test")
    assert "gldv2 has no split 'test'; it has train" in done.stderr
