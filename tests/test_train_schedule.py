"""The learning rate at each step against Paddle's own schedulers, and the linear rule against its table."""

from __future__ import annotations

import math
import sys
from typing import Any

import paddle
import pytest

from shitu.errors import ConfigError
from shitu.training.base.task import Scaling
from shitu.training.rec.plan import Schedule, most_steps
from shitu.training.rec.schema_optimizer import (
    Constant,
    Cosine,
    LearningRate,
    Linear,
    MultiStepDecay,
    Piecewise,
    ReduceOnPlateau,
    Step,
)

STEPS, EPOCHS, WARMUP = 7, 10, 2
UNSCALED = Scaling(1.0, "")


def ours(section: LearningRate) -> list[float]:
    schedule = Schedule(section, UNSCALED, STEPS, STEPS * EPOCHS)
    return [schedule(step) for step in range(STEPS * EPOCHS)]


def paddles(scheduler: paddle.optimizer.lr.LRScheduler) -> list[float]:
    rates = []
    for _ in range(STEPS * EPOCHS):
        rates.append(scheduler.get_lr())
        scheduler.step()
    return rates


@pytest.mark.parametrize("eta_min", [0.0, 0.003])
def test_cosine_after_warmup(eta_min: float) -> None:
    lr = paddle.optimizer.lr
    inner = lr.CosineAnnealingDecay(0.06, T_max=(EPOCHS - WARMUP) * STEPS, eta_min=eta_min)
    wanted = paddles(lr.LinearWarmup(inner, WARMUP * STEPS, 0.001, 0.06))
    found = ours(Cosine(learning_rate=0.06, eta_min=eta_min, warmup_epoch=WARMUP, warmup_start_lr=0.001))
    assert found == pytest.approx(wanted, abs=1e-12)


def test_linear() -> None:
    scheduler = paddle.optimizer.lr.PolynomialDecay(0.1, STEPS * EPOCHS, end_lr=0.01, power=2.0)
    assert ours(Linear(learning_rate=0.1, end_lr=0.01, power=2.0)) == pytest.approx(paddles(scheduler), abs=1e-12)


def test_step() -> None:
    scheduler = paddle.optimizer.lr.StepDecay(0.1, 3 * STEPS, 0.5)
    assert ours(Step(learning_rate=0.1, step_size=3, gamma=0.5)) == pytest.approx(paddles(scheduler))


def test_piecewise() -> None:
    scheduler = paddle.optimizer.lr.PiecewiseDecay([3 * STEPS, 6 * STEPS], [0.1, 0.01, 0.001])
    section = Piecewise(decay_epochs=(3, 6), values=(0.1, 0.01, 0.001))
    assert ours(section) == pytest.approx(paddles(scheduler))


def test_constant() -> None:
    assert ours(Constant(learning_rate=0.02)) == [0.02] * (STEPS * EPOCHS)


def test_warmup_longer_than_the_run() -> None:
    schedule = Schedule(Cosine(learning_rate=1.0, warmup_epoch=100), UNSCALED, STEPS, 10)
    assert [schedule(step) for step in range(10)] == pytest.approx([step / 10 for step in range(10)])


# V2's 0.06 is for 8 cards x 256 (pp-shitu.md 3.1); the FAQ's rule: k times the batch, k times the rate
@pytest.mark.parametrize(
    ("cards", "batch", "wanted"), [(8, 256, 0.06), (4, 256, 0.03), (1, 256, 0.0075), (1, 64, 0.001875), (16, 256, 0.12)]
)
def test_the_linear_rule(cards: int, batch: int, wanted: float) -> None:
    section = Cosine(learning_rate=0.06, for_batch_size=2048)
    scaling = Scaling.of(section, cards * batch)
    assert Schedule(section, scaling, STEPS, 100).peak == pytest.approx(wanted)
    assert f"{cards * batch} / 2048" in scaling.reason


def test_every_number_is_scaled() -> None:
    section = Piecewise(decay_epochs=(3,), values=(0.1, 0.01), for_batch_size=64)
    schedule = Schedule(section, Scaling.of(section, 128), STEPS, 100)
    assert (schedule(0), schedule(3 * STEPS)) == pytest.approx((0.2, 0.02))


def test_told_not_to() -> None:
    assert Scaling.of(Cosine(for_batch_size=64, scaling="none"), 128).factor == 1
    assert Scaling.of(Cosine(), 128).factor == 1
    assert "for_batch_size" in Scaling.of(Cosine(), 128).reason


def test_iterations_by_the_inverse_where_asked() -> None:
    asked = Cosine(for_batch_size=64, scale_iters=True)
    assert most_steps(asked, Scaling.of(asked, 128), 1000) == 500
    assert most_steps(asked, Scaling.of(asked, 16), 1000) == 4000
    assert most_steps(asked, Scaling.of(asked, 16), None) == sys.maxsize
    unasked = Cosine(for_batch_size=64)
    assert most_steps(unasked, Scaling.of(unasked, 128), 1000) == 1000


def test_values_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="one number more than in decay_epochs"):
        Piecewise(decay_epochs=(3, 6), values=(0.1, 0.01))
    assert math.isclose(Schedule(Cosine(learning_rate=1.0), UNSCALED, 1, 2)(1), 0.5)


@pytest.mark.parametrize("warmup", [0, WARMUP])
def test_multi_step_decay(warmup: int) -> None:
    lr = paddle.optimizer.lr
    inner = lr.MultiStepDecay(0.1, [3 * STEPS, 5 * STEPS], 0.5)
    wanted = paddles(lr.LinearWarmup(inner, warmup * STEPS, 0.001, 0.1) if warmup else inner)
    section = MultiStepDecay(
        learning_rate=0.1, milestones=(3, 5), gamma=0.5, warmup_epoch=warmup, warmup_start_lr=0.001
    )
    assert ours(section) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("last_epoch", [-1, 0])
@pytest.mark.parametrize("warmup", [0, 4])
def test_by_epoch(warmup: int, last_epoch: int) -> None:
    """PaddleClas then steps its scheduler at the end of each epoch."""
    lr = paddle.optimizer.lr
    inner = lr.PiecewiseDecay([3, 5], [0.35, 0.035, 0.0035], last_epoch=last_epoch)
    scheduler = lr.LinearWarmup(inner, warmup, 0.0035, 0.35, last_epoch=last_epoch) if warmup else inner
    wanted = []
    for _ in range(EPOCHS):
        wanted += [scheduler()] * STEPS
        scheduler.step()
    section = Piecewise(
        decay_epochs=(3, 5), values=(0.35, 0.035, 0.0035), by_epoch=True, last_epoch=last_epoch,
        warmup_epoch=warmup, warmup_start_lr=0.0035,
    )  # fmt: skip
    assert ours(section) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("mode", ["rel", "abs"])
def test_reduce_on_plateau(mode: str) -> None:
    """PaddleClas steps its scheduler with the metric after each evaluation; here one an epoch."""
    scores = [0.2, 0.3, 0.3001, 0.29, 0.3, 0.31, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.4, 0.1, 0.1, 0.1, 0.1, 0.1]
    options: dict[str, Any] = {"factor": 0.5, "patience": 2, "threshold": 0.01, "cooldown": 1, "min_lr": 0.02}
    theirs = paddle.optimizer.lr.ReduceOnPlateau(0.1, "max", threshold_mode=mode, **options)
    schedule = Schedule(
        ReduceOnPlateau(learning_rate=0.1, threshold_mode=mode, by_epoch=True, **options),  # type: ignore[arg-type]
        UNSCALED, STEPS, STEPS * len(scores),
    )  # fmt: skip
    found, wanted = [], []
    for epoch, score in enumerate(scores):
        found.append(schedule(epoch * STEPS))
        wanted.append(theirs())
        theirs.step(score)
        schedule.scores.append(score)
    assert found == pytest.approx(wanted)
    assert len(set(wanted)) > 2
