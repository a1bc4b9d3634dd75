"""`--format csv` and `parquet`: the same as the JSON, read back by Python's csv and by pyarrow."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from shitu.cli import main, sheets
from shitu.gallery import Item
from shitu.gallery.gallery import Gallery
from tests.conftest import DEMO, index_overrides
from tests.test_gallery_formats import unit

LABEL = '绿茶, "0.5 l"\nnew'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    items = [
        Item(LABEL if n == 1 else "tea", f"图 {n}.jpg", f"{n:064x}", (0, 0, n + 1, 2) if n else None) for n in range(5)
    ]
    Gallery.create(tmp_path, unit(5), items, index_method="Flat", dist_type="IP", fingerprint="f")
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments], catch_exceptions=False)


def entries(folder: Path) -> list[dict[str, object]]:
    found = [json.loads(line) for line in run("gallery", "list", folder).stdout.splitlines()]
    return [record | corners(record.pop("box")) for record in found]


def corners(box: list[int] | None) -> dict[str, int | None]:
    return dict(zip(("x1", "y1", "x2", "y2"), box or [None] * 4, strict=True))


def test_a_gallery_as_csv(folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run("gallery", "list", folder, "--format", "csv").stdout)))
    wanted = [{name: "" if value is None else str(value) for name, value in entry.items()} for entry in entries(folder)]
    assert rows == wanted
    assert rows[1]["label"] == LABEL


def test_a_gallery_as_parquet(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(sheets, "AT_ONCE", 2)
    done = run("gallery", "list", folder, "--format", "parquet")
    assert parquet.read_table(io.BytesIO(done.stdout_bytes)).to_pylist() == entries(folder)


@pytest.mark.parametrize("command", ["predict", "predict-det"])
def test_what_was_found_as_csv(command: str, small_list: Path, tmp_path: Path) -> None:
    """A row per region; an image without one, and one that failed, have a row of their own."""
    overrides = [part for each in index_overrides(small_list, tmp_path / "g", score_thres=-1) for part in ("-o", each)]
    assert run("build-gallery", *overrides).exit_code == 0
    (tmp_path / "bad.jpg").write_text("text")
    arguments = [*overrides, "--no-pictures", DEMO / "photos" / "beach.jpg", tmp_path / "bad.jpg"]
    records = [json.loads(line) for line in run(command, *arguments).stdout.splitlines()]
    done = run(command, "--format", "csv", *arguments)
    assert done.exit_code == 1, "one failed"
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    *found, failed = rows
    regions = records[0]["regions"]
    assert len(regions) > 1
    assert [[int(row[name]) for name in corners(None)] for row in found] == [region["bbox"] for region in regions]
    if command == "predict":
        told = [(row["label"], float(row["score"]), int(row["id"]), row["gallery_image"]) for row in found]
        best = [(region, region["matches"][0]) for region in regions]
        assert told == [(one["rec_docs"], one["rec_scores"], match["id"], match["image"]) for one, match in best]
    assert (failed["image"], failed["error"]) == (records[1]["image"], records[1]["error"])
    assert failed["x1"] == ""


def test_parquet_without_pyarrow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    done = run("gallery", "list", folder, "--format", "parquet")
    assert (done.exit_code, "pip install 'shitu[parquet]'" in done.stderr) == (2, True)
