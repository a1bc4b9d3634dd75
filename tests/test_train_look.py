"""What is looked at before a run: batches as pictures, and a learning rate from a run in which it rises."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from matplotlib.figure import Figure
from PIL import Image

from shitu.cli import main
from shitu.errors import ShituError
from shitu.training.base import curves, find_lr
from shitu.training.base.find_lr import HIGHEST, LOWEST, Rising, suggested
from shitu.training.base.sheet import FONT, MARGIN, Told, as_pixels, draw_sheet
from shitu.training.rec.look import find_lr as of_extractor
from shitu.training.rec.run import run_training
from shitu.training.rec.schema import TrainConfig, load_train_config
from tests.conftest import DEMO, ROOT
from tests.train_det_set import CONFIG as DETECTOR
from tests.train_det_set import no_bar, small, write_coco_set

CONFIG = ROOT / "configs" / "train" / "demo_cpu.yaml"


def settings(output: Path, *more: str) -> tuple[str, ...]:
    return (
        *(f"Global.output_dir={output}", f"DataLoader.Train.dataset.image_root={DEMO}"),
        *(f"DataLoader.Train.dataset.cls_label_path={DEMO / 'gallery.txt'}", "Global.eval_during_train=False"),
        *("DataLoader.Train.sampler.batch_size=24", "DataLoader.Train.loader.num_workers=0", *more),
    )


def config_of(output: Path, *more: str) -> TrainConfig:
    return load_train_config(CONFIG, settings(output, *more))


def train(output: Path, *options: str, more: tuple[str, ...] = ()) -> Result:
    overrides = [part for each in settings(output, *more) for part in ("-o", each)]
    return CliRunner().invoke(main, ["train", "-c", str(CONFIG), *overrides, *options])


# --- batches -----------------------------------------------------------------------------------------------------

PLAIN = (
    "DataLoader.Train.dataset.transform_ops=[{ResizeImage: {size: [64, 64], interpolation: area}}, "
    "{NormalizeImage: {scale: 1/255, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], order: ''}}]"
)


def test_a_sheet_shows_what_the_network_gets(tmp_path: Path) -> None:
    """Resized only, the pictures of a class in a list of one: pixel by pixel the file's."""
    gallery = (DEMO / "gallery.txt").read_text(encoding="utf-8").splitlines()
    chosen = [line.split("\t")[0] for line in gallery[:24]]
    listed = "".join(f"{path}\t苹果{number // 3}\n" for number, path in enumerate(chosen))
    (tmp_path / "list.txt").write_text(listed, encoding="utf-8")
    done = train(
        tmp_path, "--show-batches=1", more=(PLAIN, f"DataLoader.Train.dataset.cls_label_path={tmp_path / 'list.txt'}")
    )
    assert done.exit_code == 0, done.output
    path = tmp_path / "RecModel" / "batch_1.png"
    assert done.stdout == f"{path}\n"
    sheet = np.asarray(Image.open(path).convert("RGB")).astype(int)
    step_x, step_y = 64 + MARGIN, 64 + FONT + 3 * MARGIN
    places = [
        sheet[top : top + 64, left : left + 64]
        for top in range(MARGIN, sheet.shape[0] - 64, step_y)
        for left in range(MARGIN, sheet.shape[1] - 64, step_x)
    ]
    for name in chosen:
        wanted = np.asarray(Image.open(DEMO / name).convert("RGB").resize((64, 64), Image.Resampling.BOX)).astype(int)
        assert min(np.abs(place - wanted).mean() for place in places) < 2, name
    assert not list((tmp_path / "RecModel").glob("*.pd*"))


def test_normalising_is_undone_and_what_is_beyond_is_cut() -> None:
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3))
    planes = ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    found = as_pixels(planes, (-mean / std).tolist(), ((1 - mean) / std).tolist())
    np.testing.assert_array_equal(found, pixels)
    np.testing.assert_array_equal(as_pixels(planes * 0 + 99, [0, 0, 0], [1, 1, 1]), pixels * 0 + 255)


def test_long_names_and_boxes_stay_in_their_place(tmp_path: Path) -> None:
    pictures = np.full((2, 300, 200, 3), 128, np.uint8)
    told = [Told("很长的名字" * 20), Told("", np.array([[0, 0, 199, 299]], np.float32))]
    sheet = Image.open(draw_sheet(pictures, told, tmp_path / "s.png"))
    width, height = 107, 160  # 200 x 300 at 160 / 300
    assert sheet.size == (2 * (width + MARGIN) + MARGIN, height + FONT + 4 * MARGIN)
    assert sheet.getpixel((MARGIN, MARGIN)) == (128, 128, 128)
    assert sheet.getpixel((2 * MARGIN + width, MARGIN)) == (230, 85, 0)
    gap = np.asarray(sheet.crop((MARGIN + width, 0, 2 * MARGIN + width, sheet.height)))
    assert (gap == 255).all()


def test_a_detector_s_batches_have_their_boxes(tmp_path: Path) -> None:
    write_coco_set(tmp_path / "coco", images=8)
    overrides = [part for each in small(tmp_path / "coco", tmp_path / "run") for part in ("-o", each)]
    done = CliRunner().invoke(main, ["train-det", "-c", str(DETECTOR), *overrides, "--show-batches", "2"])
    assert done.exit_code == 0, done.output
    paths = [tmp_path / "run" / DETECTOR.stem / f"batch_{number}.png" for number in (1, 2)]
    assert done.stdout.splitlines() == [str(path) for path in paths]
    for path in paths:
        pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
        assert (np.abs(pixels - [230, 85, 0]).sum(axis=2) < 10).sum() > 100


@pytest.mark.parametrize("options", [("--resume",), ("--find-lr",), ("--dry-run",)])
def test_who_looks_does_nothing_else(options: tuple[str, ...], tmp_path: Path) -> None:
    done = train(tmp_path / "run", "--show-batches=1", *options)
    assert done.exit_code == 2
    assert f"leave out {options[0]}" in done.stderr
    assert not (tmp_path / "run").exists()


# --- the learning rate -------------------------------------------------------------------------------------------


def curve(*, falls_at: float = 1e-3, rises_at: float = 0.3, noise: float = 0.0) -> tuple[list[float], list[float]]:
    """A loss that falls by 3 around one rate and rises from another on."""
    schedule = Rising(100)
    rates = [schedule(step) for step in range(100)]
    rng = np.random.default_rng(0)
    losses = [
        6 - 3 / (1 + (falls_at / rate) ** 2) + (rate / rises_at) ** 2 + noise * float(rng.normal()) for rate in rates
    ]
    return rates, losses


def test_the_rate_rises_by_the_same_factor() -> None:
    schedule = Rising(50)
    rates = [schedule(step) for step in range(50)]
    assert rates[0] == LOWEST
    assert rates[-1] == pytest.approx(HIGHEST)
    factors = np.array(rates[1:]) / rates[:-1]
    np.testing.assert_allclose(factors, factors[0])


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("falls_at", [1e-4, 1e-3])
def test_a_known_curve(falls_at: float, noise: float) -> None:
    """Steepest where it is made to be, within a step's factor of the smoothing; a tenth of where it is least."""
    rates, losses = curve(falls_at=falls_at, noise=noise)
    least = rates[int(np.argmin(curve(falls_at=falls_at)[1]))]
    found = suggested(rates, losses)
    assert math.log10(found.steepest / falls_at) == pytest.approx(0, abs=0.4)
    assert math.log10(found.tenth / (least / 10)) == pytest.approx(0, abs=0.6 if noise else 0.2)


def test_what_is_no_number_ends_the_curve() -> None:
    rates, losses = curve()
    losses[80:] = [float("nan")] * 20
    assert suggested(rates, losses).tenth < rates[80]
    assert len(suggested(rates, losses).smoothed) == 80


@pytest.mark.parametrize("kind", ["rises", "noise", "no number"])
def test_nothing_is_suggested_of_what_does_not_fall(kind: str) -> None:
    rates, _ = curve()
    noise = np.random.default_rng(1).normal(5, 0.5, 100).tolist()
    losses = {"rises": [1 + rate for rate in rates], "noise": noise, "no number": [float("nan")] * 100}[kind]
    with pytest.raises(ShituError, match="none can be suggested"):
        suggested(rates, losses)


def test_it_ends_where_the_loss_is_far_above_its_least() -> None:
    assert not find_lr._over([5.0, 4.0, 4.5])
    assert find_lr._over([5.0, 4.0, *[100.0] * 5])
    assert find_lr._over([5.0, float("nan")])


def test_the_picture_has_both_rates() -> None:
    axes = Figure().subplots()
    found = suggested(*curve())
    curves._draw_rates(axes, found)
    assert [line.get_xdata()[0] for line in axes.lines[2:]] == [found.tenth, found.steepest]


def test_its_first_loss_is_a_run_s_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights, batches and dropped units; the first loss is before any step."""
    seen: list[curves.Found] = []

    def kept(rates: list[float], losses: list[float]) -> curves.Found:
        seen.append(curves.Found(rates, losses, losses, 0.02, 0.002))
        return seen[-1]

    monkeypatch.setattr(find_lr, "suggested", kept)
    config = config_of(tmp_path / "look", "Optimizer.lr.for_batch_size=96")
    record: Any = of_extractor(config, steps=12, progress=no_bar)  # more than the 10 of an epoch
    folder = tmp_path / "look" / "RecModel"
    assert {path.name for path in folder.iterdir()} == {"find_lr.png", "find_lr.jsonl"}
    # batches of 24, for a config that is made for 96: what is found is four times as much there
    picture = str(folder / "find_lr.png")
    assert record == {"learning_rate": 0.008, "steepest": 0.08, "steps": 12, "picture": picture}
    lines = [json.loads(line) for line in (folder / "find_lr.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines] == seen[0].losses
    assert [line["lr"] for line in lines] == [Rising(12)(step) for step in range(12)]
    more = ("Global.max_iters=1", "Global.print_batch_step=1")
    run_training(config_of(tmp_path / "run", *more), resume=False, overwrite=False, progress=no_bar, export=False)
    first = json.loads((tmp_path / "run" / "RecModel" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] == lines[0]["loss"]


def test_the_command_says_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_lr, "suggested", lambda rates, losses: curves.Found(rates, losses, losses, 0.02, 0.002))
    monkeypatch.setattr("shitu.training.rec.look.find_lr", partial(of_extractor, steps=2))
    done = train(tmp_path, "--find-lr")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["steps"] == 2
