"""What is told of a run before it begins, and the file that it leaves."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

from shitu.errors import ShituError
from shitu.training.base.log import MetricsLog, read_records
from shitu.training.base.memory import Memory, estimate_memory
from shitu.training.base.task import Plan, Scaling, learning_rate_table
from shitu.training.rec.plan import Schedule
from shitu.training.rec.schema_optimizer import Cosine
from shitu.training.rec.summary import NetworkSize, histogram, summarise


def plan(cards: int = 1, **changes: Any) -> Plan:
    """100 epochs of 20 steps; 0.06 made for a total batch of 2,048."""
    section = Cosine(learning_rate=0.06, warmup_epoch=5, for_batch_size=2048)
    schedule = Schedule(section, Scaling.of(section, 256 * cards), steps_per_epoch=20, total_steps=2000)
    made = Plan(cards, 1, batch_size=256, steps_per_epoch=20, total_steps=2000, schedule=schedule, sampler=())
    return replace(made, **changes)


def told(of: Plan, **changes: Any) -> str:
    given: dict[str, Any] = {
        "counts": np.array([1, 2, 3, 4, 9, 40]),
        "size": NetworkSize(5_000_000, 4_900_000, 100_000, 829_000_000, 829_000_000),
        "memory": Memory(20_000_000, 20_000_000, 20_000_000, 9_000_000_000),
        "images_per_class": 4,
        "learning_rate": f"0.06 in the config, {Scaling.of(Cosine(for_batch_size=2048), of.total_batch).reason}",
    }
    return "\n".join(summarise(of, **{**given, **changes}))


def test_histogram_counts_every_class_once() -> None:
    counts = np.random.default_rng(0).geometric(0.02, 3000)
    total = 0
    for part in histogram(counts).split(" · "):
        limits, *_, classes = part.split()
        low, _, high = limits.partition("-")
        expected = ((counts >= int(low)) & (counts <= int(high or low))).sum()
        assert int(classes.replace(",", "")) == expected
        total += int(expected)
    assert total == 3000


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ([], ""),
        ([5], "4-7 █ 1"),
        ([0, 1], "1 █ 2"),
        ([64] * 1000 + [1], "1 ▁ 1 · 2-3   0 · 4-7   0 · 8-15   0 · 16-31   0 · 32-63   0 · 64-127 █ 1,000"),
    ],
)
def test_histogram_of_few(counts: list[int], text: str) -> None:
    assert histogram(np.array(counts, np.int64)) == text


def test_summary_says_what_a_person_wants_to_know() -> None:
    text = told(plan(cards=8))
    assert all(line[14] == " " for line in text.splitlines())
    for part in (
        "59 images, 6 classes; 1 to 40 images each",
        "3 classes have fewer than K = 4",
        "5 M parameters, 100 k of them the head's; 4.9 M learn; 829 M multiply-adds",
        "256 images a card x 8 cards x update_freq 1 = 2,048 images a step",
        "64 classes x 4 images in each batch",
        "100 epochs of 20 steps",
        "0 -> 0.06 in 100 steps of warm-up",
        "0.06 in the config, linear rule, 2048 / 2048 = 1",
        "about 9.06 GB a card",
    ):
        assert part in text


def test_summary_without_what_there_is_not() -> None:
    section = Cosine(learning_rate=0.06)
    at_once = Schedule(section, Scaling.of(section, 256), steps_per_epoch=20, total_steps=2000)
    text = told(plan(schedule=at_once), images_per_class=None, size=NetworkSize(1, 1, 0, 1, 1))
    for absent in ("K =", "classes x", "of them the head's", "warm-up"):
        assert absent not in text


def test_dry_run_shows_the_learning_rate_over_the_run() -> None:
    """A cosine from 0.0075 (0.06 x 256 / 2048) that begins after the warm-up."""
    table = [line.split() for line in learning_rate_table(plan())[1:]]
    rates = {int(row[-2].replace(",", "")): float(row[-1]) for row in table}
    expected = {step: 0.0075 * (1 + math.cos(math.pi * (step - 100) / 1900)) / 2 for step in (500, 1000, 1500, 1999)}
    assert rates == pytest.approx({0: 0.0, 100: 0.0075, **expected}, rel=1e-4)


def test_dry_run_of_a_single_step() -> None:
    section = Cosine(learning_rate=0.0)
    at_once = Schedule(section, Scaling.of(section, 256), steps_per_epoch=20, total_steps=1)
    assert learning_rate_table(plan(total_steps=1, schedule=at_once))[-1].split() == ["start", "0.00", "0", "0"]


def test_memory_by_hand() -> None:
    """3x8x8 -> conv 4x8x8 -> norm 4x8x8 -> pool 4x1x1 -> linear 5; the convolution does not learn."""
    network = nn.Sequential(
        nn.Conv2D(3, 4, 3, padding=1, bias_attr=False), nn.BatchNorm2D(4), nn.AdaptiveAvgPool2D(1), nn.Flatten(),
        nn.Linear(4, 5),
    )  # fmt: skip
    network[0].weight.stop_gradient = True
    network[1].eval()
    learning, frozen, statistics = 4 + 4 + 4 * 5 + 5, 4 * 3 * 9, 4 + 4
    outputs = 4 * 64 + 4 * 64 + 4 + 4 + 5
    found = estimate_memory(network, 10, image_shape=(3, 8, 8), optimizer_slots=2, ema=True)
    assert found.weights == 4 * 2 * (learning + frozen + statistics)
    assert (found.gradients, found.optimizer) == (4 * learning, 4 * 2 * learning)
    assert found.activations == 4 * 10 * outputs
    assert [layer.training for layer in network.children()] == [True, False, True, True, True]
    network(paddle.zeros([2, 3, 8, 8]))  # no hook is left that counts


# --- metrics.jsonl ---------------------------------------------------------------------------------------------


def test_records_come_back(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "训练" / "metrics.jsonl")
    log.write({"epoch": 1, "step": 10, "loss": np.float32(0.5), "lr": 0.1, "名": "中文"})
    log.write({"epoch": 1, "step": 10, "recall1": float("nan"), "mAP": float("inf")})
    lines = log.path.read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0]) == {"epoch": 1, "step": 10, "loss": 0.5, "lr": 0.1, "名": "中文"}
    assert "中文" in lines[0]
    assert json.loads(lines[1]) == {"epoch": 1, "step": 10, "recall1": None, "mAP": None}
    assert read_records(log.path) == [json.loads(line) for line in lines]


def test_a_resume_drops_later_steps_and_a_half_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    for step in range(1, 6):
        log.write({"epoch": 1, "step": step, "loss": step / 10})
    with path.open("ab") as file:
        file.write(b'{"epoch": 1, "step": 6, "lo')
    assert [record["step"] for record in read_records(path)] == [1, 2, 3, 4, 5]
    again = MetricsLog(path)
    again.drop_after(3)
    again.write({"epoch": 1, "step": 4, "loss": 9.0})
    assert [(record["step"], record["loss"]) for record in map(json.loads, path.read_text().splitlines())] == [
        (1, 0.1), (2, 0.2), (3, 0.3), (4, 9.0),
    ]  # fmt: skip
    again.drop_after(0)
    assert path.read_text() == ""
    assert list(tmp_path.iterdir()) == [path]


def test_lines_that_are_no_records_are_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n[1]\n{"loss": 2}\nno json\n{"step": "x"}\n{"step": 2}\n', encoding="utf-8")
    assert [record["step"] for record in read_records(path)] == [1, 2]
    assert [record.getMessage().split(":")[1].split()[0] for record in caplog.records] == ["2", "3", "4", "5"]
    assert read_records(tmp_path / "none") == []


def test_a_full_disk_is_an_error_of_ours(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.path = Path("/dev/full")
    with pytest.raises(ShituError, match="cannot be written: No space left"):
        log.write({"step": 1})
