"""The identity sampler: identities are used up over an epoch, in as many batches as can be filled."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from shitu.training.rec.samplers import build_sampler
from shitu.training.rec.schema_data import DistributedRandomIdentitySampler
from tests.test_train_samplers import SEEDS, all_batches, assert_fits, labels_of, random_labels


def most_batches(chunks: list[int], n: int) -> int:
    """Naive: take the identities with the most chunks left until fewer than n have any."""
    left, batches = sorted(chunks, reverse=True), 0
    while len(left) >= n and left[n - 1]:
        left = sorted([count - 1 for count in left[:n]] + left[n:], reverse=True)
        batches += 1
    return batches


@pytest.mark.parametrize("seed", SEEDS)
def test_identity_invariants(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = random_labels(rng, least_classes=6)
    sizes = np.bincount(labels)
    k, n, streams = int(rng.integers(1, 5)), int(rng.integers(1, 7)), int(rng.integers(1, 4))
    section = DistributedRandomIdentitySampler(batch_size=n * k, num_instances=k)
    sampler = build_sampler(section, labels, streams=streams, seed=seed)
    assert len(sampler) == most_batches([max(int(size) // k, 1) for size in sizes], n) // streams
    for epoch in range(3):
        times: Counter[int] = Counter()
        chunks: Counter[int] = Counter()
        for batch in (batch for batches in all_batches(sampler, streams, epoch) for batch in batches):
            drawn = labels[batch.reshape(n, k)]
            assert (drawn == drawn[:, :1]).all(), "an image of another identity"
            assert len(set(drawn[:, 0].tolist())) == n, "an identity twice"
            times.update(batch.tolist())
            chunks.update(drawn[:, 0].tolist())
        for row, count in times.items():
            size = int(sizes[labels[row]])
            assert chunks[int(labels[row])] <= max(size // k, 1)
            assert count <= 1 if size >= k else k // size <= count <= -(-k // size)


def test_identities_are_used_up() -> None:
    labels = labels_of(*[8] * 10)
    section = DistributedRandomIdentitySampler(batch_size=20, num_instances=4)
    sampler = build_sampler(section, labels, streams=2, seed=0)
    assert len(sampler) == 2
    for epoch in range(20):
        rows = np.concatenate([batch for batches in all_batches(sampler, 2, epoch) for batch in batches])
        assert sorted(rows.tolist()) == list(range(80))


def test_a_rest_beyond_whole_chunks_has_its_turn_in_other_epochs() -> None:
    section = DistributedRandomIdentitySampler(batch_size=6, num_instances=3)
    sampler = build_sampler(section, labels_of(5, 5), streams=1, seed=0)
    seen = np.bincount(np.concatenate([sampler.batch(epoch, 0, 0) for epoch in range(1000)]), minlength=10)
    # 3 of 5 without replacement: the spread of a count is smaller than the binomial's 15.5
    assert np.abs(seen - 600).max() < 4 * 15.5


def test_identities_meet_at_random() -> None:
    """Every pair of 6 identities is as likely in a batch of 2 as any other, and so in every batch of the epoch."""
    labels = labels_of(*[6] * 6)
    section = DistributedRandomIdentitySampler(batch_size=4, num_instances=2)
    sampler = build_sampler(section, labels, streams=1, seed=0)
    assert len(sampler) == 9
    pairs = list(combinations(range(6), 2))
    for index in (0, 4, 8):
        seen = Counter(tuple(sorted(set(labels[sampler.batch(epoch, 0, index)].tolist()))) for epoch in range(1500))
        assert_fits(np.array([seen[pair] for pair in pairs]), np.ones(len(pairs)))


def test_identities_meet_others_within_an_epoch() -> None:
    """aaabbbccc beside dddeeefff in random order: each of the 9 pairs meets with probability 1 - C(6,3) / C(9,3)."""
    labels = labels_of(*[6] * 6)
    sampler = build_sampler(DistributedRandomIdentitySampler(batch_size=4, num_instances=2), labels, streams=1, seed=0)
    met = [
        len({frozenset(labels[sampler.batch(epoch, 0, index)].tolist()) for index in range(9)}) for epoch in range(1000)
    ]
    assert np.mean(met) == pytest.approx(9 * (1 - 20 / 84), abs=0.15)


@pytest.mark.parametrize("max_iters", [1, 3, 50])
def test_max_iters_cuts_or_repeats(max_iters: int) -> None:
    section = DistributedRandomIdentitySampler(batch_size=4, num_instances=2, max_iters=max_iters)
    sampler = build_sampler(section, labels_of(*[6] * 6), streams=2, seed=0)
    assert len(sampler) == max_iters
    batches = [sampler.batch(0, stream, index) for index in range(max_iters) for stream in range(2)]
    rounds = [np.concatenate(batches[start : start + 9]) for start in range(0, len(batches), 9)]
    assert all(len(set(rows.tolist())) == len(rows) for rows in rounds)
    assert len({tuple(rows.tolist()) for rows in rounds}) == len(rounds)
