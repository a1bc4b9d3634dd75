"""The pairs that mislead, and how similar like and unlike are: against comparing one by one, and on the page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from shitu.cli import main
from shitu.evaluation.pairs_report import _histogram
from shitu.training.rec.hard_pairs import Nearest, alike, compare_all, misled
from shitu.training.rec.retrieval import Embedded
from tests.conftest import DEMO, ROOT

CONFIG = ROOT / "configs" / "train" / "demo_cpu.yaml"


def embedded(count: int, seed: int, *, ids: bool = True) -> Embedded:
    """Few labels and coarse vectors, so that there are equal similarities and labels without a pair."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-1, 2, (count, 4)).astype(np.float32)
    own = np.arange(count, dtype=np.int64) if ids else None
    return Embedded(vectors, rng.integers(0, 6, count), own, np.arange(count, dtype=np.int64))


@pytest.mark.parametrize("one_list", [True, False])
@pytest.mark.parametrize("block", [1, 7, 64])
def test_against_one_by_one(one_list: bool, block: int) -> None:
    queries = embedded(40, 1, ids=one_list)
    gallery = queries if one_list else embedded(23, 2, ids=False)
    found, spread = compare_all(queries, gallery, block=block)
    like, unlike = [], []
    for q in range(40):
        best = {True: (-np.inf, -1), False: (-np.inf, -1)}
        for g in range(len(gallery.vectors)):
            same = bool(queries.labels[q] == gallery.labels[g])
            if one_list and q == g:
                continue
            similarity = float(queries.vectors[q] @ gallery.vectors[g])
            (like if same else unlike).append(similarity)
            if similarity > best[same][0]:
                best[same] = (similarity, g)
        assert (found.same_similarity[q], found.same[q]) == best[True]
        assert (found.other_similarity[q], found.other[q]) == best[False]
    for counts, values in ((spread.like, like), (spread.unlike, unlike)):
        assert counts.sum() == len(values)
        middles = (spread.edges[:-1] + spread.edges[1:]) / 2
        width = spread.edges[1] - spread.edges[0]
        assert np.repeat(middles, counts) == pytest.approx(np.sort(values), abs=width)


def nearest(same: list[float], other: list[float], partner: list[int] | None = None) -> Nearest:
    rows = [np.where(np.isfinite(each), 0, -1) for each in (same, other)]
    if partner:
        rows[1] = np.array(partner)
    return Nearest(rows[0], np.array(same, np.float32), rows[1], np.array(other, np.float32))


def test_the_order_of_what_is_shown() -> None:
    none = -np.inf
    found = nearest([0.9, 0.2, none, 0.5, 0.5], [0.8, 0.7, 0.9, none, 0.6])
    assert misled(found, 10).tolist() == [1, 4, 0]  # by 0.5, 0.1 and -0.1; of the others one side is missing
    assert misled(found, 2).tolist() == [1, 4]
    index = np.arange(5)
    assert alike(found, 10, index, index, one_list=False).tolist() == [2, 0, 1, 4]


def test_a_pair_of_one_list_is_shown_once() -> None:
    found = nearest([0.0] * 4, [0.9, 0.9, 0.7, 0.6], [1, 0, 3, 1])
    assert alike(found, 10, np.arange(4), np.arange(4), one_list=True).tolist() == [0, 2, 3]
    assert alike(found, 10, np.arange(4), np.arange(4), one_list=False).tolist() == [0, 1, 2, 3]


def test_bars_count_what_the_bins_hold() -> None:
    edges = np.linspace(-1, 1, 401)
    one, two = np.zeros(400, np.int64), np.zeros(400, np.int64)
    one[[100, 150, 399]], two[[120, 121]] = [3, 2, 1], [10, 20]
    axis, rows = _histogram(edges, [("right", "like", one), ("wrong", "unlike", two)])
    assert axis.low == pytest.approx(edges[100])
    assert axis.high == pytest.approx(1.0)
    assert [row.count for row in rows] == [6, 30]
    told = [[int(bar[3].rpartition(": ")[2]) for bar in row.bars] for row in rows]
    assert told == [[3, 2, 1], [30]]  # 300 bins become 50 bars of six: 120 and 121 share one
    assert rows[1].bars[0][0] == pytest.approx(axis.place(float(edges[118])), abs=0.1)
    empty = _histogram(edges, [("right", "like", one * 0)])[1][0]
    assert (empty.count, list(empty.bars)) == (0, [])


# --- the page ----------------------------------------------------------------------------------------------------

EVIL = "<script>x</script> 苹果"


def evaluate(report: Path, listed: Path, *more: str) -> Result:
    sides = ("Query", "Gallery")
    overrides = [
        *(f"DataLoader.Eval.{side}.dataset.image_root={DEMO}" for side in sides),
        *(f"DataLoader.Eval.{side}.dataset.cls_label_path={listed}" for side in sides),
        *(f"DataLoader.Eval.{side}.loader.num_workers=0" for side in sides),
        f"Global.pretrained_model={ROOT / 'models' / 'efficientnet_lite0_512'}",
        *("Arch.Backbone.name=EfficientNetLite0", "Arch.Neck.class_num=512", "Arch.Head.embedding_size=512"),
        *("Arch.freeze_norms=True", *more),
    ]
    settings = [part for each in overrides for part in ("-o", each)]
    return CliRunner().invoke(main, ["eval", "-c", str(CONFIG), *settings, "--report", str(report)])


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.pictures: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.pictures.append(dict(attrs)["src"] or "")


def test_the_page_of_an_evaluation(tmp_path: Path) -> None:
    lines = (DEMO / "gallery.txt").read_text(encoding="utf-8").splitlines()[:30]
    paths = [line.split("\t")[0] for line in lines]
    labels = [EVIL if number < 3 else f"thing {number // 3}" for number in range(30)]
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{path}\t{label}\n" for path, label in zip(paths, labels, strict=True)), "utf-8")
    done = evaluate(tmp_path / "page.html", listed)
    assert done.exit_code == 0, done.output
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert "&lt;script&gt;" in text
    assert "苹果" in text
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.pictures)
    assert len(page.pictures) == 24 * 3 + (page.tags.count("tr") - 2 - 24) * 2  # two heads, misled, alike
    assert "pairs of one thing: 60" in text  # 10 things x 3 x 2
    assert "pairs of two things: 810" in text  # 30 x 27
    assert f"<dd>{json.loads(done.stdout)['mAP']:.4f}</dd>" in text
    first = text[text.index("misled most") : text.index("look most alike")]
    told = [float(each) for each in re.findall(r"<b>(-?\d\.\d+)</b>", first)]
    gaps = [other - same for same, other in zip(told[::2], told[1::2], strict=True)]
    assert len(gaps) == 24
    assert gaps == pytest.approx(sorted(gaps, reverse=True), abs=2e-3)  # three digits are shown


@pytest.mark.parametrize(
    ("name", "more", "wanted"),
    [
        ("page.txt", (), "a name that ends in .html"),
        ("nowhere/page.html", (), "the folder"),
        (
            "page.html",
            (
                "DataLoader.Eval={dataset: {name: ImageNetDataset, image_root: demo, cls_label_path: L, transform_ops: "
                "[{ResizeImage: {size: [64, 64]}}, {NormalizeImage: {order: hwc}}]}}",
                "Metric.Eval=[{TopkAcc: {topk: [1]}}]",
            ),
            "--report shows pairs of queries and gallery",
        ),
    ],
)
def test_what_cannot_be_reported_is_said_first(name: str, more: tuple[str, ...], wanted: str, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    lines = (DEMO / "gallery.txt").read_text(encoding="utf-8").splitlines()[:2]
    listed.write_text("".join(f"{DEMO / line.split(chr(9))[0]}\t{number}\n" for number, line in enumerate(lines)))
    settings = [each.replace("cls_label_path: L", f"cls_label_path: {listed}") for each in more]
    if more:
        overrides = [part for each in settings for part in ("-o", each)]
        done = CliRunner().invoke(main, ["eval", "-c", str(CONFIG), *overrides, "--report", str(tmp_path / name)])
    else:
        done = evaluate(tmp_path / name, DEMO / "gallery.txt")
    assert done.exit_code == 2, done.output
    assert wanted in done.stderr
    assert not (tmp_path / name).exists()
