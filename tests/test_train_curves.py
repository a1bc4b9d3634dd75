"""The picture of a run: read back pixel by pixel, and what happens where it cannot be drawn."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from shitu.errors import ShituError
from shitu.training.base import curves
from shitu.training.base.log import MetricsLog


def run_file(folder: Path, epochs: int = 3, **more: float) -> Path:
    log = MetricsLog(folder / "metrics.jsonl")
    for epoch in range(1, epochs + 1):
        for step in range(epoch * 10 - 9, epoch * 10 + 1):
            log.write({"epoch": epoch, "step": step, "loss": 5 / step, "lr": 0.01 * step, "images_per_s": 9.5, **more})
        log.write(
            {"epoch": epoch, "step": epoch * 10, "recall1": 0.1 * epoch, "mAP": 0.2, "queries": 7.0, "left_out": 0}
        )
    return log.path


def drawn(path: Path) -> Figure:
    figure = Figure()
    curves._draw(figure, curves.read_records(path))
    return figure


def test_the_picture_is_a_whole_png_that_shows_something(tmp_path: Path) -> None:
    picture = tmp_path / "曲线.png"
    curves.draw_curves(run_file(tmp_path), picture)
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    assert pixels.shape[0] > 400
    blue = (np.abs(pixels.astype(int) - [0x1F, 0x5F, 0xA8]).sum(axis=2) < 30).sum()
    assert blue > 500  # the colour of the loss, drawn as a line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "曲线.png"]


def test_each_curve_has_its_numbers(tmp_path: Path) -> None:
    loss, rate, metrics = drawn(run_file(tmp_path, CELoss=1.0, DMLLoss=2.0)).axes
    raw = loss.lines[0]
    assert raw.get_xdata() == pytest.approx(np.arange(1, 31))
    assert raw.get_ydata() == pytest.approx(5 / np.arange(1, 31))
    assert [line.get_label() for line in loss.lines[1:]] == ["loss", "CELoss", "DMLLoss"]
    assert rate.lines[0].get_ydata() == pytest.approx(0.01 * np.arange(1, 31))
    assert [line.get_label() for line in metrics.lines] == ["recall1", "mAP"]
    assert metrics.lines[0].get_xdata() == pytest.approx([10, 20, 30])
    assert metrics.lines[0].get_ydata() == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    "records",
    [
        [{"step": 1, "loss": 2.0, "lr": 0.1}],
        [{"epoch": 1, "step": 1, "recall1": 0.5}],
        [{"epoch": 1, "step": 1, "loss": float("nan"), "lr": 0.1}, {"epoch": 1, "step": 1, "recall1": float("nan")}],
        [{"step": 1, "note": "text", "lr": 0.0}, {"step": 1, "recall1": "x"}],
        [{"epoch": 1, "step": 5, "lr": 0.1, "loss": 1.0}, {"epoch": 2, "step": 5, "lr": 0.1, "loss": 1.0}],
    ],
    ids=["no evaluation", "evaluation only", "no numbers", "text", "two epochs in one step"],
)
def test_odd_runs_are_drawn(tmp_path: Path, records: list[dict[str, object]]) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for record in records:
        log.write(record)
    curves.draw_curves(log.path, tmp_path / "curves.png")
    Image.open(tmp_path / "curves.png").load()


def test_without_records_there_is_no_picture(tmp_path: Path) -> None:
    curves.draw_curves(tmp_path / "none.jsonl", tmp_path / "curves.png")
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    curves._has_matplotlib.cache_clear()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    path = run_file(tmp_path)
    curves.draw_curves(path, tmp_path / "curves.png")
    curves.draw_curves(path, tmp_path / "curves.png")
    curves._has_matplotlib.cache_clear()
    assert not (tmp_path / "curves.png").exists()
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["no curves.png"]


def test_a_picture_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ShituError, match="cannot be written"):
        curves.draw_curves(run_file(tmp_path), tmp_path / "folder")
    assert not list(tmp_path.glob(".*.part"))


def test_the_mean_starts_at_the_first_number_and_passes_over_gaps() -> None:
    values = [float("nan"), 4.0, float("nan"), *[4.0] * 200, 8.0]
    smooth = curves._smoothed(values)
    assert np.isnan([smooth[0], smooth[2]]).all()
    assert smooth[1:2] + smooth[3:-1] == [4.0] * 201
    assert 4.0 < smooth[-1] < 8.0
