"""Lists with class ids that follow each other: against a table made by hand, and as a whole with 17 sets."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from shitu.datasets.merge import merge
from shitu.datasets.public_sets import PUBLIC_SETS
from shitu.errors import ConfigError, ShituError, UsageError
from shitu.training.rec.image_list import read_image_list
from shitu.training.rec.schema_data import ImageNetDataset
from tests.dataset_commands import converted, run
from tests.miniatures import MINIATURES


def lists(folder: Path, **texts: str) -> list[Path]:
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return [folder / f"{name}.txt" for name in texts]


def refusal(folder: Path, *paths: Path) -> str:
    with pytest.raises(ShituError) as caught:
        merge(paths, folder / "all.txt")
    assert not (folder / "all.txt").exists()
    assert not list(folder.glob(".shitu-*"))
    return str(caught.value)


def test_ids_follow_each_other(tmp_path: Path) -> None:
    """b is neither dense nor begins at 0, and its labels come in another order; c has a byte-order mark."""
    parts = lists(
        tmp_path, a="a/1.jpg 0\na/2.jpg 1\na/3.jpg 0\n", b="b/1.jpg 900\nb/2.jpg 7\n\n", c="\ufeffc/1.jpg 0\r\n"
    )
    done = merge(parts, tmp_path / "all.txt")
    assert (tmp_path / "all.txt").read_text() == ("a/1.jpg 0\na/2.jpg 1\na/3.jpg 0\nb/1.jpg 3\nb/2.jpg 2\nc/1.jpg 4\n")
    assert [(part.first, part.last, part.images, part.classes) for part in done] == [
        (0, 1, 3, 2),
        (2, 3, 2, 2),
        (4, 4, 1, 1),
    ]
    assert (tmp_path / "all.offsets.tsv").read_text().splitlines()[2] == f"2\t3\t2\t2\t{tmp_path / 'b.txt'}"
    assert not (tmp_path / "all.classes.txt").exists()


def test_paths_with_spaces_and_third_columns(tmp_path: Path) -> None:
    parts = lists(tmp_path, a="a/1.jpg 0 17\n", b="b c/1.jpg\t0\t18\n")
    merge(parts, tmp_path / "all.txt")
    assert (tmp_path / "all.txt").read_text() == "a/1.jpg\t0\t17\nb c/1.jpg\t1\t18\n"
    with pytest.raises(UsageError, match="hold a space"):
        merge(parts, tmp_path / "other.txt", delimiter="space")


def test_all_sets_together(tmp_path: Path) -> None:
    """Ranges as computed by hand from the sizes; classes keep their names; every image keeps its class."""
    names = [known.name for known in PUBLIC_SETS]
    truth, sizes = [], []
    for name in names:
        root = MINIATURES[name].write(tmp_path / name)
        target = tmp_path / "lists" / name / "train.txt"
        text, done = converted(name, root, target, prefix=name, delimiter="tab")
        classes = dict(line.split("\t") for line in target.with_name("train.classes.txt").read_text().splitlines())
        pairs = (line.split("\t") for line in text.splitlines())
        truth += [(path, f"{name}/train/{classes[label]}") for path, label in pairs]
        sizes.append(done.written.classes)
    out = tmp_path / "lists" / "all.txt"
    done = run("merge", *(tmp_path / "lists" / name / "train.txt" for name in names), "-o", out)
    assert done.exit_code == 0
    rows = [line.split() for line in done.stdout.splitlines()[2:]]
    assert [(int(row[0]), int(row[1])) for row in rows] == [
        (sum(sizes[:i]), sum(sizes[: i + 1]) - 1) for i in range(len(sizes))
    ]
    merged = dict(line.split("\t") for line in out.with_name("all.classes.txt").read_text().splitlines())
    assert list(map(int, merged)) == list(range(sum(sizes)))
    found = [line.split("\t") for line in out.read_text().splitlines()]
    assert [(path, merged[label]) for path, label in found] == truth


def test_the_training_reads_it(tmp_path: Path) -> None:
    """bird400's paths hold spaces, so the merged list has TABs; labels are dense, as a training wants them."""
    targets = []
    for name in ("sop", "bird400"):
        targets.append(tmp_path / f"{name}.txt")
        converted(name, MINIATURES[name].write(tmp_path / name), targets[-1], prefix=name)
    merge(targets, tmp_path / "all.txt")
    section = ImageNetDataset(image_root=str(tmp_path), cls_label_path=str(tmp_path / "all.txt"))
    images = read_image_list(section, what="DataLoader.Train.dataset")
    assert images.labels.tolist() == [0, 0, 1, 2, 2, 3]
    assert images.path(5) == str(tmp_path / "bird400/train/ZEBRA DOVE/001.jpg")


def test_what_id_list_of_the_v2_config_means() -> None:
    """[50030, 80700, 92019, 96015]: VeRI-Wild and In-shop, if Aliproduct, VeRI-Wild, SOP, In-shop come first."""
    sizes = {known.name: known.counts[1] for known in PUBLIC_SETS}
    first, ranges = 0, {}
    for name in ("aliproduct", "veri-wild", "sop", "inshop"):
        ranges[name] = (first, first + sizes[name] - 1)
        first += sizes[name]
    assert (*ranges["veri-wild"], *ranges["inshop"]) == (50030, 80700, 92019, 96015)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a.jpg\n", "a.txt:1: 'a.jpg': wanted a path, a label"),
        ("a.jpg cat\n", "wanted a path, a label"),
        ("a.jpg -1\n", "wanted a path, a label"),
        ("a.jpg ²\n", "wanted a path, a label"),
        (f"a.jpg {'9' * 5000}\n", "wanted a path, a label"),
        ("ok.jpg 0\na b c.jpg 1\n", "a.txt:2: 'a b c.jpg 1': wanted"),
        ("../../x.jpg 0\n", "it leaves the folder"),
        ("/x.jpg 0\n", "it is absolute"),
        ("a.jpg 0\nb.jpg 0 3\n", "entry 2 has 3 columns, those before 2"),
    ],
)
def test_bad_lines(text: str, message: str, tmp_path: Path) -> None:
    assert message in refusal(tmp_path, *lists(tmp_path, a=text))


def test_lists_that_do_not_go_together(tmp_path: Path) -> None:
    a, b = lists(tmp_path, a="a.jpg 0\n", b="a.jpg 0 1\n")
    assert "different numbers of columns" in refusal(tmp_path, a, b)
    assert "given twice" in refusal(tmp_path, a, tmp_path / "." / "a.txt")
    assert "nothing to merge" in refusal(tmp_path)
    assert "No such file" in refusal(tmp_path, a, tmp_path / "no.txt")
    with pytest.raises(UsageError, match="one of the lists"):
        merge([a], a)
    assert a.read_text() == "a.jpg 0\n"
    (tmp_path / "latin.txt").write_bytes(b"\xe9.jpg 0\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        merge([tmp_path / "latin.txt"], tmp_path / "all.txt")
    done = run("merge", a)
    assert (done.exit_code, "wanted -o FILE" in done.stderr) == (2, True)


def test_memory_grows_with_labels_only(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        parts = lists(tmp_path, a="".join(f"train/{n}.jpg {n % 50}\n" for n in range(count)))
        tracemalloc.start()
        merge(parts, tmp_path / "all.txt")
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(20_000) < peak(2_000) + 100_000
