"""Samplers by their invariants over many random label sets, and by chi-square against the stated probabilities."""

from __future__ import annotations

import logging
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from shitu.errors import ConfigError
from shitu.training.rec.samplers import BatchSampler, build_sampler
from shitu.training.rec.schema_data import DistributedBatchSampler, DistributedRandomIdentitySampler, PKSampler, Sampler

SEEDS = range(40)


def random_labels(rng: np.random.Generator, least_classes: int = 1) -> np.ndarray:
    """Dense labels in random order; some classes have a single image, some have many."""
    sizes = rng.geometric(rng.uniform(0.05, 0.9), size=int(rng.integers(least_classes, least_classes + 30)))
    return rng.permutation(np.repeat(np.arange(len(sizes)), sizes))


def labels_of(*sizes: int) -> np.ndarray:
    return np.repeat(np.arange(len(sizes)), sizes)


def all_batches(sampler: BatchSampler, streams: int, epoch: int = 0) -> list[list[np.ndarray]]:
    return [[sampler.batch(epoch, stream, index) for index in range(len(sampler))] for stream in range(streams)]


def assert_fits(seen: np.ndarray, probabilities: np.ndarray) -> None:
    """Chi-square; the seeds are fixed, so what passes once passes always."""
    assert stats.chisquare(seen, probabilities / probabilities.sum() * seen.sum()).pvalue > 1e-3


# --- what every sampler promises -------------------------------------------------------------------------------

KINDS = {
    "plain": DistributedBatchSampler(batch_size=12, shuffle=True),
    "PK": PKSampler(batch_size=12, sample_per_id=3),
    "identity": DistributedRandomIdentitySampler(batch_size=12, num_instances=3),
    "identity, more rounds": DistributedRandomIdentitySampler(batch_size=12, num_instances=3, max_iters=30),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_depends_on_seed_epoch_stream_and_index_alone(kind: str) -> None:
    section, labels = KINDS[kind], labels_of(*range(1, 30))
    forwards = build_sampler(section, labels, streams=3, seed=5)
    asked = [(epoch, stream, index) for epoch in range(2) for stream in range(3) for index in range(len(forwards))]
    batches = {each: forwards.batch(*each).tolist() for each in asked}
    resumed = build_sampler(section, labels, streams=3, seed=5)
    for each in np.random.default_rng(0).permutation(asked).tolist():
        assert resumed.batch(*each).tolist() == batches[tuple(each)]
    assert len({tuple(batch) for batch in batches.values()}) == len(asked)
    other = build_sampler(section, labels, streams=3, seed=6)
    assert all(other.batch(*each).tolist() != batch for each, batch in batches.items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_belongs_to_who_asked_for_it(kind: str) -> None:
    sampler = build_sampler(KINDS[kind], labels_of(*range(1, 30)), streams=2, seed=0)
    batch = sampler.batch(0, 1, 2)
    assert batch.dtype == np.int64
    kept = batch.tolist()
    batch[:] = -1
    assert sampler.batch(0, 1, 2).tolist() == kept


@pytest.mark.parametrize("kind", KINDS)
def test_without_shuffle_every_epoch_is_the_same(kind: str) -> None:
    section = type(KINDS[kind])(batch_size=12, shuffle=False)
    sampler = build_sampler(section, labels_of(*range(1, 30)), streams=2, seed=0)
    assert sampler.batch(0, 1, 1).tolist() == sampler.batch(7, 1, 1).tolist()


# --- DistributedBatchSampler -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_plain_streams_are_disjoint_and_cover_everything(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, size, streams = int(rng.integers(1, 300)), int(rng.integers(1, 20)), int(rng.integers(1, 9))
    section = DistributedBatchSampler(batch_size=size, shuffle=bool(rng.integers(2)))
    sampler = build_sampler(section, np.zeros(count, np.int64), streams=streams, seed=seed)
    dealt = [np.concatenate(batches) for batches in all_batches(sampler, streams)]
    assert len({len(rows) for rows in dealt}) == 1
    together = np.concatenate(dealt)
    assert len(together) == -(-count // streams) * streams
    times = np.bincount(together, minlength=count)
    assert times.min() >= 1
    # fewer images than streams: everybody has one, some several times; otherwise the padding repeats some once
    assert times.max() <= -(-len(together) // count)


def test_plain_streams_are_disjoint_over_8_ranks() -> None:
    sampler = build_sampler(DistributedBatchSampler(batch_size=7), np.zeros(800, np.int64), streams=8, seed=0)
    rows = [set(np.concatenate(batches).tolist()) for batches in all_batches(sampler, 8)]
    assert not any(a & b for a, b in combinations(rows, 2))
    assert set.union(*rows) == set(range(800))


def test_plain_is_in_order_without_shuffle() -> None:
    sampler = build_sampler(DistributedBatchSampler(batch_size=4), np.zeros(10, np.int64), streams=1, seed=0)
    assert [batch.tolist() for batch in all_batches(sampler, 1)[0]] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_first_images_of_shuffled_epochs_are_uniform() -> None:
    section = DistributedBatchSampler(batch_size=1, shuffle=True)
    sampler = build_sampler(section, np.zeros(6, np.int64), streams=1, seed=0)
    first = [int(sampler.batch(epoch, 0, 0)[0]) for epoch in range(3000)]
    assert_fits(np.bincount(first), np.ones(6))


def test_as_many_batches_as_paddle_has() -> None:
    from paddle.io import DistributedBatchSampler as PaddlesOwn

    for count in (1, 5, 16, 17, 100):
        for streams in (1, 2, 8):
            for size in (1, 4, 16):
                for drop_last in (False, True):
                    own = len(PaddlesOwn(range(count), size, streams, 0, drop_last=drop_last))
                    for section in (
                        DistributedBatchSampler(batch_size=size, drop_last=drop_last),
                        PKSampler(batch_size=size, sample_per_id=size, drop_last=drop_last),
                    ):
                        assert len(build_sampler(section, labels_of(count), streams=streams, seed=0)) == own


# --- PKSampler -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_pk_invariants(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = random_labels(rng)
    sizes = np.bincount(labels)
    k, p = int(rng.integers(1, 9)), int(rng.integers(1, len(sizes) + 1))
    method = ("id_avg_prob", "sample_avg_prob")[seed % 2]
    section = PKSampler(batch_size=p * k, sample_per_id=k, sample_method=method)
    sampler = build_sampler(section, labels, streams=2, seed=seed)
    for batches in all_batches(sampler, 2):
        for batch in batches[:10]:
            groups = batch.reshape(p, k)
            drawn = labels[groups]
            assert (drawn == drawn[:, :1]).all(), "an image of another class"
            assert len(set(drawn[:, 0].tolist())) == p, "a class twice"
            for rows, label in zip(groups.tolist(), drawn[:, 0].tolist(), strict=True):
                times = Counter(rows).values()
                if sizes[label] >= k:
                    assert max(times) == 1, "an image twice although there are enough"
                else:
                    assert len(times) == sizes[label], "an image left out although there are too few"
                    assert max(times) - min(times) <= 1


def test_pk_streams_draw_different_batches() -> None:
    sampler = build_sampler(PKSampler(batch_size=16), labels_of(*[20] * 50), streams=8, seed=0)
    batches = [tuple(batch.tolist()) for stream in all_batches(sampler, 8) for batch in stream]
    assert len(set(batches)) == 8 * len(sampler)
    classes = {frozenset(row // 20 for row in batch) for batch in batches}
    assert len(classes) > 0.9 * len(batches)  # 230,300 sets of four classes


SIZES = (1, 2, 3, 5, 8, 13)
FREQUENCIES = {
    "id_avg_prob": (PKSampler(sample_method="id_avg_prob"), [1, 1, 1, 1, 1, 1]),
    "sample_avg_prob": (PKSampler(), SIZES),
    "ratio": (PKSampler(sample_method="id_avg_prob", id_list=(1, 2, 5, 5), ratio=(4, 0.5)), [1, 4, 4, 1, 1, 0.5]),
    "ratio by images": (PKSampler(id_list=(0, 3), ratio=(2,)), [2, 4, 6, 10, 8, 13]),
    "ratios that overlap": (
        PKSampler(sample_method="id_avg_prob", id_list=(0, 2, 2, 3), ratio=(2, 3)),
        [2, 2, 6, 3, 1, 1],
    ),
}


def drawn_classes(section: PKSampler, p: int, times: int, sizes: tuple[int, ...] = SIZES) -> list[tuple[int, ...]]:
    """The classes of many batches, ascending."""
    keys = {key: getattr(section, key) for key in ("sample_method", "id_list", "ratio")}
    labels = labels_of(*sizes)
    sampler = build_sampler(PKSampler(batch_size=p, sample_per_id=1, **keys), labels, streams=1, seed=1)
    return [tuple(sorted(labels[sampler.batch(0, 0, index)].tolist())) for index in range(times)]


@pytest.mark.parametrize("name", FREQUENCIES)
def test_one_class_has_the_stated_probability(name: str) -> None:
    section, weights = FREQUENCIES[name]
    seen = Counter(drawn_classes(section, 1, 6000))
    assert_fits(np.array([seen[(label,)] for label in range(6)]), np.array(weights, float))


@pytest.mark.parametrize("name", FREQUENCIES)
def test_two_classes_have_the_probability_of_drawing_in_turn(name: str) -> None:
    section, weights = FREQUENCIES[name]
    p = np.array(weights, float) / sum(weights)
    pairs = list(combinations(range(6), 2))
    exact = np.array([p[a] * p[b] / (1 - p[a]) + p[b] * p[a] / (1 - p[b]) for a, b in pairs])
    assert exact.sum() == pytest.approx(1)
    seen = Counter(drawn_classes(section, 2, 6000))
    assert_fits(np.array([seen[pair] for pair in pairs]), exact)


def test_many_classes_of_equal_probability_are_uniform_by_symmetry() -> None:
    triples = list(combinations(range(6), 3))
    seen = Counter(drawn_classes(PKSampler(sample_method="id_avg_prob"), 3, 6000))
    assert_fits(np.array([seen[triple] for triple in triples]), np.ones(len(triples)))


def test_images_of_a_class_are_uniform() -> None:
    sampler = build_sampler(PKSampler(batch_size=3, sample_per_id=3), labels_of(5), streams=1, seed=0)
    triples = list(combinations(range(5), 3))
    seen = Counter(tuple(sorted(sampler.batch(0, 0, index).tolist())) for index in range(3000))
    assert_fits(np.array([seen[triple] for triple in triples]), np.ones(len(triples)))
    few = build_sampler(PKSampler(batch_size=5, sample_per_id=5), labels_of(4), streams=1, seed=0)
    twice = [int(np.bincount(few.batch(0, 0, index)).argmax()) for index in range(3000)]
    assert_fits(np.bincount(twice), np.ones(4))


def test_a_ratio_of_zero_leaves_classes_out() -> None:
    section = PKSampler(batch_size=4, sample_per_id=1, id_list=(1, 2), ratio=(0,))
    sampler = build_sampler(section, labels_of(*SIZES), streams=1, seed=0)
    labels = labels_of(*SIZES)
    assert all(set(labels[sampler.batch(0, 0, index)].tolist()) == {0, 3, 4, 5} for index in range(20))


def test_single_images_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "shitu"):
        build_sampler(PKSampler(batch_size=8), labels_of(1, 5, 1, 5), streams=1, seed=0)
        assert "2 of 4 classes have only one image, which fills all 4 places" in caplog.text
        caplog.clear()
        build_sampler(PKSampler(batch_size=8), labels_of(2, 5, 2, 5), streams=1, seed=0)
        build_sampler(PKSampler(batch_size=2, sample_per_id=1), labels_of(1, 5), streams=1, seed=0)
        assert not caplog.text


# --- bad input -------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[Sampler, str]] = {
    "P above C": (
        PKSampler(batch_size=28, sample_per_id=4),
        "PKSampler: a batch needs 7 classes (batch_size 28 / sample_per_id 4), but there are 6; a sampler.batch_size "
        "of at most 24 is wanted",
    ),
    "P above what is left": (
        PKSampler(batch_size=8, sample_per_id=2, id_list=(0, 2), ratio=(0,)),
        "needs 4 classes (batch_size 8 / sample_per_id 2), but there are 3 that sampler.ratio [0] leaves; a "
        "sampler.batch_size of at most 6 is wanted",
    ),
    "id_list beyond": (
        PKSampler(batch_size=4, id_list=(50030, 80700), ratio=(4,)),
        "sampler.id_list: there is no range of classes from 50030 to 80700, for the list's classes go from 0 to 5",
    ),
    "id_list partly beyond": (PKSampler(batch_size=4, id_list=(3, 6), ratio=(4,)), "from 3 to 6, for the list's"),
    "id_list backwards": (PKSampler(batch_size=4, id_list=(3, 2), ratio=(4,)), "no range of classes from 3 to 2"),
    "id_list below": (PKSampler(batch_size=4, id_list=(-1, 2), ratio=(4,)), "no range of classes from -1 to 2"),
    "negative ratio": (
        PKSampler(batch_size=4, id_list=(0, 2), ratio=(-1.0,)),
        "sampler.ratio: -1.0 for classes 0 to 2",
    ),
    "ratio NaN": (PKSampler(batch_size=4, id_list=(0, 2), ratio=(float("nan"),)), "sampler.ratio: nan for classes"),
    "ratio infinite": (
        PKSampler(batch_size=4, id_list=(0, 2), ratio=(float("inf"),)),
        "sampler.ratio: inf for classes",
    ),
    "ratio 0 for all": (
        PKSampler(batch_size=4, id_list=(0, 5), ratio=(0.0,)),
        "sampler.ratio [0.0] makes the probability of every class 0",
    ),
    "N above C": (
        DistributedRandomIdentitySampler(batch_size=28, num_instances=4),
        "DistributedRandomIdentitySampler: a batch needs 7 classes (batch_size 28 / num_instances 4), but there are 6; "
        "a sampler.batch_size of at most 24 is wanted",
    ),
    "no multiple": (
        DistributedRandomIdentitySampler(batch_size=10, num_instances=4),
        "sampler.batch_size is 10; a multiple of num_instances (4) is wanted",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_sections(name: str) -> None:
    section, message = BAD[name]
    with pytest.raises(ConfigError) as caught:
        build_sampler(section, labels_of(*SIZES), streams=1, seed=0)
    assert message in str(caught.value)


@pytest.mark.parametrize("kind", ["plain", "PK", "identity"])
def test_too_few_images_for_a_batch_are_seen_by_the_length(kind: str) -> None:
    section = type(KINDS[kind])(batch_size=12, drop_last=True)
    assert len(build_sampler(section, labels_of(4, 4, 4), streams=2, seed=0)) == 0
