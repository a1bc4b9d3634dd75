"""The triplet losses against a loop over triplets, a memory kept in a list, and central differences."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from shitu.errors import ConfigError
from shitu.training.base.precision import unit_vectors
from shitu.training.rec.losses import EmbeddingMemory, TotalLoss, build_losses
from shitu.training.rec.schema_loss import TripletAngularMarginLoss, TripletAngularMarginLoss_XBM
from tests.loss_twins import V2, batch, triplet_twin, value
from tests.numeric_gradient import check_gradient

VARIANTS: list[dict[str, Any]] = [
    {},
    V2,
    {"margin": 0.1, "reduction": "sum"},
    {**V2, "reduction": "sum"},
    {"normalize_feature": False, "margin": 3.0},
]
CLASSES = [(4, 4, 4), (1, 2, 4, 3), (1, 1), (5, 1)]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("classes", CLASSES, ids=str)
def test_triplet_equals_a_loop_over_triplets(options: dict[str, Any], classes: tuple[int, ...]) -> None:
    section = TripletAngularMarginLoss(**options)
    for seed in range(10):
        both = batch(seed, classes)
        assert value(build_losses((section,)), *both) == pytest.approx(triplet_twin(section, both, both), rel=1e-4)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_gradient_of_triplet_by_central_differences(options: dict[str, Any]) -> None:
    features, labels = batch(1)
    total, target = build_losses((TripletAngularMarginLoss(**options),)), paddle.to_tensor(labels)
    gradient = check_gradient(lambda x: total({"features": x}, target)["loss"], features.astype(np.float64))
    assert np.abs(gradient).max() > 0.01


def test_gradient_against_a_memory_by_central_differences() -> None:
    features, labels = batch(1)
    others, other_labels = (paddle.to_tensor(each) for each in batch(2, (3, 3, 3, 3)))
    others = unit_vectors(others.astype("float64"))
    loss = build_losses((TripletAngularMarginLoss(**V2),)).TripletAngularMarginLoss
    target = paddle.to_tensor(labels)
    gradient = check_gradient(
        lambda x: loss.compare(unit_vectors(x), target, others, other_labels), features.astype(np.float64)
    )
    assert np.abs(gradient).max() > 0.01


def test_satisfied_rows_add_nothing_to_the_absolute_loss() -> None:
    """PaddleClas counts 1 for each."""
    features, labels = np.repeat(np.eye(3, dtype=np.float32), 2, axis=0), np.repeat(np.arange(3), 2)
    assert value(build_losses((TripletAngularMarginLoss(add_absolute=True),)), features, labels) == 0


@pytest.mark.parametrize("options", [{}, V2], ids=str)
def test_one_class_one_image_and_zero_vectors_give_no_nan(options: dict[str, Any]) -> None:
    total = build_losses((TripletAngularMarginLoss(**options),))
    same_direction = np.array([[1, 0], [2, 0], [3, 0]], np.float32)
    for features, labels in (
        (same_direction, [4, 4, 4]),  # no negatives, and positives as they should be
        (same_direction[:1], [0]),
    ):
        x = paddle.to_tensor(features, stop_gradient=False)
        loss = total({"features": x}, paddle.to_tensor(labels))["loss"]
        loss.backward()
        assert float(loss) == 0
        np.testing.assert_array_equal(x.grad.numpy(), np.zeros(features.shape))
    x = paddle.to_tensor(np.zeros((4, 2)), "float32", stop_gradient=False)
    loss = total({"features": x}, paddle.to_tensor([0, 0, 1, 1]))["loss"]
    loss.backward()
    # all similarities are 0, of an image to itself too
    assert float(loss) == pytest.approx(0.5 + (0.1 * 0.8 if options else 0))
    assert np.isfinite(x.grad.numpy()).all()


def test_one_class_that_is_spread_still_has_its_absolute_loss() -> None:
    features = np.array([[1, 0], [0, 1]], np.float32)
    total = build_losses((TripletAngularMarginLoss(**V2),))
    assert value(total, features, np.array([3, 3])) == pytest.approx(0.1 * 0.8)


# --- memory ----------------------------------------------------------------------------------------------------


def xbm(**options: Any) -> TotalLoss:
    return build_losses((TripletAngularMarginLoss_XBM(**options),))


@pytest.mark.parametrize("size", [3, 10, 12, 25, 1000], ids=lambda size: f"size{size}")
@pytest.mark.parametrize("options", [{}, V2, {"normalize_feature": False, "xbm_weight": 0.3}], ids=str)
def test_xbm_equals_a_queue_kept_by_hand(size: int, options: dict[str, Any]) -> None:
    """Batches of 10, so that a memory of 12 or 25 wraps around, and one of 3 is smaller than a batch."""
    section = TripletAngularMarginLoss_XBM(start_iter=2, xbm_size=size, **options)
    total = build_losses((section,))
    queue: deque[tuple[np.ndarray, int]] = deque(maxlen=size)
    for step in range(1, 9):
        both = batch(step)
        expected = triplet_twin(section, both, both)
        if step > 2:
            queue.extend(zip(*both, strict=True))
            others = (np.array([x for x, _ in queue]), np.array([label for _, label in queue]))
            expected += section.xbm_weight * triplet_twin(section, both, others)
        assert value(total, *both) == pytest.approx(expected, rel=1e-4), step


def test_memory_drops_the_oldest_first() -> None:
    rng = np.random.default_rng(11)
    memory, kept, number = EmbeddingMemory(7), deque[int](maxlen=7), 0
    for count in rng.integers(1, 12, size=40):
        numbers = np.arange(number, number + count)
        number += count
        memory.push(paddle.to_tensor(numbers[:, None] * [1.0, -1.0], "float32"), paddle.to_tensor(numbers % 3))
        kept.extend(numbers.tolist())
        embeddings, labels = (each.numpy() for each in memory.content())
        assert sorted(embeddings[:, 0].tolist()) == list(kept)
        np.testing.assert_array_equal(embeddings[:, 1], -embeddings[:, 0])
        np.testing.assert_array_equal(labels, embeddings[:, 0].astype(int) % 3)


def test_memory_holds_unit_vectors_without_history() -> None:
    total = xbm(start_iter=0, xbm_size=30)
    for step in range(2):
        features, labels = batch(step)
        x = paddle.to_tensor(features, stop_gradient=False)
        total({"features": x}, paddle.to_tensor(labels))["loss"].backward()
    embeddings, _ = total.TripletAngularMarginLoss_XBM.memory.content()
    assert embeddings.stop_gradient
    np.testing.assert_allclose(np.linalg.norm(embeddings.numpy(), axis=1), np.ones(20), rtol=1e-6)


def test_two_forwards_may_wait_for_their_backwards() -> None:
    total = xbm(start_iter=0, xbm_size=12)
    tensors = [paddle.to_tensor(batch(step)[0], stop_gradient=False) for step in range(2)]
    labels = [paddle.to_tensor(batch(step)[1]) for step in range(2)]
    losses = [total({"features": x}, y)["loss"] for x, y in zip(tensors, labels, strict=True)]
    (losses[0] + losses[1]).backward()
    alone = paddle.to_tensor(batch(0)[0], stop_gradient=False)
    xbm(start_iter=0, xbm_size=12)({"features": alone}, labels[0])["loss"].backward()
    np.testing.assert_array_equal(tensors[0].grad.numpy(), alone.grad.numpy())


@pytest.mark.parametrize("before", [0, 1, 2, 3, 6])
def test_a_resumed_memory_gives_the_same_losses(before: int, tmp_path: Path) -> None:
    """Saved before any batch, before the memory is in use, in its first round and in a later one."""
    options = {"start_iter": 2, "xbm_size": 23}
    total = xbm(**options)
    for step in range(before):
        value(total, *batch(step))
    paddle.save(total.state_dict(), str(tmp_path / "losses.pdparams"))
    resumed = xbm(**options)
    missing, unexpected = resumed.set_state_dict(paddle.load(str(tmp_path / "losses.pdparams")))
    assert (missing, unexpected) == ([], [])
    after = [(value(total, *batch(step)), value(resumed, *batch(step))) for step in range(before, before + 5)]
    assert all(a == b for a, b in after)
    assert all(a != value(xbm(**options), *batch(before + i)) for i, (a, _) in enumerate(after) if before + i >= 2)


def test_a_memory_of_another_size_is_refused() -> None:
    total = xbm(start_iter=0, xbm_size=8)
    value(total, *batch(0))
    with pytest.raises(ConfigError, match="remembers 8 embeddings, the configuration wants 9; set xbm_size to 8"):
        xbm(start_iter=0, xbm_size=9).set_state_dict(total.state_dict())


def test_eval_mode_neither_uses_nor_fills_the_memory() -> None:
    total = xbm(start_iter=0, xbm_size=40)
    value(total, *batch(0))
    total.eval()
    state = {key: each.numpy().copy() for key, each in total.state_dict().items()}
    both = batch(1)
    assert value(total, *both) == pytest.approx(triplet_twin(TripletAngularMarginLoss(), both, both), rel=1e-4)
    for key, each in total.state_dict().items():
        np.testing.assert_array_equal(each.numpy(), state[key])
