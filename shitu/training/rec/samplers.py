"""Which images make up a batch: pure functions of (seed, epoch, stream, batch index), with nothing to save or replay.

A stream is one of `streams` independent sequences of batches, world_size x update_freq in all.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Any

import numpy as np

from shitu.errors import ConfigError
from shitu.training.base.loader import IDENTITY, PERMUTATION, PK
from shitu.training.rec import schema_data
from shitu.training.rec.image_list import RowsByClass

log = logging.getLogger("shitu")


def build_sampler(section: schema_data.Sampler, labels: np.ndarray, *, streams: int, seed: int) -> BatchSampler:
    """The sampler that a configuration names, over (n,) labels 0..C-1.

    Raises ConfigError where the classes do not allow such batches. With few images its length may be 0.
    """
    kinds: tuple[type[BatchSampler], ...] = (PKSampler, DistributedRandomIdentitySampler)
    named = {kind.__name__: kind for kind in kinds}
    return named.get(type(section).__name__, DistributedBatchSampler)(section, labels, streams, seed)


class BatchSampler(ABC):
    """`len` is that of every stream and epoch, in batches. Without `shuffle`, every epoch has the same batches."""

    def __init__(self, section: Any, labels: np.ndarray, streams: int, seed: int) -> None:
        self.section, self.image_count, self.streams, self.seed = section, len(labels), streams, seed
        share = math.ceil(len(labels) / streams)
        # as paddle.io.DistributedBatchSampler counts: each stream gets its share of the images, rounded up
        self.length: int = share // section.batch_size if section.drop_last else math.ceil(share / section.batch_size)

    def __len__(self) -> int:
        return self.length

    @abstractmethod
    def batch(self, epoch: int, stream: int, index: int) -> np.ndarray:
        """(batch_size or, for the last, fewer,) int64 rows of the list; the same whatever was asked before."""


class DistributedBatchSampler(BatchSampler):
    """Every image once per epoch, in a new order if `shuffle`, dealt to the streams like cards.

    Where the images do not divide by the streams, a few come twice, so that all streams are equally long. The last
    batch of an epoch may be short unless `drop_last`.
    """

    _order: tuple[int, np.ndarray] | None = None

    def batch(self, epoch: int, stream: int, index: int) -> np.ndarray:
        places = slice(index * self.section.batch_size, (index + 1) * self.section.batch_size)
        return np.array(self._epoch_order(epoch)[stream :: self.streams][places])

    def _epoch_order(self, epoch: int) -> np.ndarray:
        """All rows, (n rounded up to a multiple of the streams,) int64."""
        epoch = epoch if self.section.shuffle else 0
        if self._order is None or self._order[0] != epoch:
            rows = np.arange(self.image_count)
            if self.section.shuffle:
                np.random.default_rng([self.seed, epoch, PERMUTATION]).shuffle(rows)
            # np.resize begins again from the front
            self._order = epoch, np.resize(rows, math.ceil(self.image_count / self.streams) * self.streams)
        return self._order[1]


class PKSampler(BatchSampler):
    """P x K batches: P = batch_size / sample_per_id different classes, K = sample_per_id images of each.

    Classes are drawn one after another without replacement, with equal probability (id_avg_prob) or in proportion to
    their images (sample_avg_prob). Each pair [a, b] of `id_list` multiplies the probability of the classes a to b,
    both included, by its `ratio`. PaddleClas counts a and b in order of first appearance in the list; here they are
    class ids, which is the same where a list's labels ascend.

    A class with fewer than K images gives each of them K // count times and some once more. Batches are independent
    of each other: an epoch, as long as one over all images, is no pass over them.
    """

    def __init__(self, section: schema_data.PKSampler, labels: np.ndarray, streams: int, seed: int) -> None:
        super().__init__(section, labels, streams, seed)
        self.per_class = section.sample_per_id
        self.classes_per_batch = section.batch_size // section.sample_per_id
        self._rows = RowsByClass(labels)
        self.probabilities = class_probabilities(section, self._rows.counts)
        self._drawable = np.flatnonzero(self.probabilities)
        self._check_classes()

    def batch(self, epoch: int, stream: int, index: int) -> np.ndarray:
        """(P * K,) int64 rows, the K of a class next to each other."""
        rng = np.random.default_rng([self.seed, epoch if self.section.shuffle else 0, stream, index, PK])
        return np.concatenate([self._images(label, rng) for label in self._classes(rng)])

    def _classes(self, rng: np.random.Generator) -> np.ndarray:
        """(P,) different class ids.

        The P smallest of one exponential variable per class, with rate p: the same distribution as drawing in turn
        without replacement (Efraimidis & Spirakis 2006, "Weighted random sampling with a reservoir").
        """
        arrivals = rng.standard_exponential(len(self._drawable)) / self.probabilities[self._drawable]
        first = np.argpartition(arrivals, self.classes_per_batch - 1)[: self.classes_per_batch]
        return self._drawable[first[np.argsort(arrivals[first])]]

    def _images(self, label: int, rng: np.random.Generator) -> np.ndarray:
        rows = self._rows[label]
        rounds, rest = divmod(self.per_class, len(rows))
        drawn = rows[rng.choice(len(rows), rest, replace=False)]
        return np.concatenate([np.tile(rows, rounds), drawn]) if rounds else drawn

    def _check_classes(self) -> None:
        classes, wanted = len(self._drawable), self.classes_per_batch
        if classes < wanted:
            left = f" that sampler.ratio {list(self.section.ratio)} leaves" if self.section.ratio else ""
            raise ConfigError(
                f"PKSampler: a batch needs {wanted} classes (batch_size {self.section.batch_size} / sample_per_id "
                f"{self.per_class}), but there are {classes}{left}; a sampler.batch_size of at most "
                f"{classes * self.per_class} is wanted"
            )
        single = int(np.count_nonzero(self._rows.counts == 1))
        if single and self.per_class > 1:
            log.warning(
                "%d of %d classes have only one image, which fills all %d places of its class in a batch "
                "(`shitu dataset check` lists them)",
                single,
                classes,
                self.per_class,
            )


def class_probabilities(section: schema_data.PKSampler, counts: np.ndarray) -> np.ndarray:
    """(C,) float64 with sum 1: how likely each class is to be the first one drawn. Raises ConfigError."""
    weights = (counts if section.sample_method == "sample_avg_prob" else counts > 0).astype(np.float64)
    last = len(counts) - 1
    for low, high, ratio in zip(section.id_list[::2], section.id_list[1::2], section.ratio, strict=True):
        if not 0 <= low <= high <= last:
            raise ConfigError(
                f"sampler.id_list: there is no range of classes from {low} to {high}, for the list's classes go from "
                f"0 to {last}; id_list and ratio belong to one merged data set: take both out, or mend them"
            )
        if not 0 <= ratio < math.inf:
            raise ConfigError(f"sampler.ratio: {ratio} for classes {low} to {high}; a number of at least 0 is wanted")
        weights[low : high + 1] *= ratio
    if not weights.any():
        raise ConfigError(
            f"sampler.ratio {list(section.ratio)} makes the probability of every class 0; make one greater"
        )
    return np.asarray(weights / weights.sum())


class DistributedRandomIdentitySampler(BatchSampler):
    """N = batch_size / num_instances different identities per batch, K = num_instances images of each.

    In an epoch, the images of an identity are shuffled and cut into chunks of K (fewer than K images are repeated to
    fill one chunk; a rest beyond whole chunks waits for the next epoch). Each chunk is in at most one batch, and there
    are as many batches as N different identities can fill. Drawing identities at random until fewer than N are left,
    as re-identification code does, ends sooner or later by chance; here every epoch has the same length. Batches that
    do not divide by the streams are left out.

    `max_iters` sets another number of batches per stream; where it is more, the images are shuffled and cut anew.
    """

    def __init__(
        self, section: schema_data.DistributedRandomIdentitySampler, labels: np.ndarray, streams: int, seed: int
    ) -> None:
        super().__init__(section, labels, streams, seed)
        if section.batch_size % section.num_instances:
            raise ConfigError(
                f"sampler.batch_size is {section.batch_size}; a multiple of num_instances ({section.num_instances}) is "
                "wanted"
            )
        self.per_class = section.num_instances
        self.classes_per_batch = section.batch_size // section.num_instances
        self._rows = RowsByClass(labels)
        counts = self._rows.counts
        self._chunks = np.where(counts, np.maximum(counts // self.per_class, 1), 0)  # (C,) per identity
        self.batches_per_round = _most_batches(self._chunks, self.classes_per_batch)
        if not self.batches_per_round:
            classes = np.count_nonzero(counts)
            raise ConfigError(
                f"DistributedRandomIdentitySampler: a batch needs {self.classes_per_batch} classes (batch_size "
                f"{section.batch_size} / num_instances {self.per_class}), but there are {classes}; a "
                f"sampler.batch_size of at most {classes * self.per_class} is wanted"
            )
        self.length = section.max_iters or self.batches_per_round // streams
        self._arrangement = lru_cache(maxsize=1)(self._arrange)

    def batch(self, epoch: int, stream: int, index: int) -> np.ndarray:
        """(N * K,) int64 rows, the K of an identity next to each other."""
        number, row = divmod(index * self.streams + stream, self.batches_per_round)
        return np.concatenate(self._arrangement(epoch if self.section.shuffle else 0, number)[row])

    def _arrange(self, epoch: int, number: int) -> np.ndarray:
        """All batches of one round over the images, (batches_per_round, N, K) int64 rows."""
        rng = np.random.default_rng([self.seed, epoch, number, IDENTITY])
        batches, capped = self.batches_per_round, np.minimum(self._chunks, self.batches_per_round)
        identities = rng.permutation(len(capped))
        repeats = capped[identities]
        # one identity's chunks after another's; what the batches cannot hold, the last in this random order give up
        identity = np.repeat(identities, repeats)[: batches * self.classes_per_batch]
        chunk = (np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats))[: len(identity)]
        place = _columns(identity.reshape(self.classes_per_batch, batches), rng)
        # place[column, i]: the batch to which the column's chunk i goes
        rows = self._shuffled_rows(identity, chunk, rng).reshape(self.classes_per_batch, batches, self.per_class)
        arranged = np.empty((batches, self.classes_per_batch, self.per_class), np.int64)
        arranged[place, np.arange(self.classes_per_batch)[:, None]] = rows
        return arranged

    def _shuffled_rows(self, identity: np.ndarray, chunk: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(m, K) rows of chunk number `chunk` (m,) of `identity` (m,), each identity's images in a new order."""
        counts = self._rows.counts
        by_class = np.repeat(np.arange(len(counts)), counts)
        shuffled = self._rows.order[np.lexsort((rng.random(len(by_class)), by_class))]
        within = chunk[:, None] * self.per_class + np.arange(self.per_class)
        # the remainder repeats the images of an identity that has fewer than K
        return np.asarray(shuffled[self._rows.starts[identity][:, None] + within % counts[identity][:, None]])


def _most_batches(chunks: np.ndarray, classes_per_batch: int) -> int:
    """The most batches that N different identities each can fill: the largest B with sum(min(chunks, B)) >= N * B."""
    low, high = 0, int(chunks.sum()) // classes_per_batch
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(chunks, middle).sum() >= classes_per_batch * middle:
            low = middle
        else:
            high = middle - 1
    return low


def _columns(identity: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random batches for (N, B) identities, of which equal ones follow each other and none is there more than B times.

    Each column is a permutation of the B batches, so every batch gets one identity from each. An identity that runs
    over from one column into the next has to take other batches there.
    """
    place = np.empty(identity.shape, np.int64)
    for column, names in enumerate(identity):
        order = rng.permutation(len(names))
        if column and names[0] == identity[column - 1, -1]:
            taken = np.isin(order, place[column - 1][identity[column - 1] == names[0]])
            continued = np.count_nonzero(names == names[0])
            first = order[~taken][:continued]
            others = rng.permutation(np.setdiff1d(order, first))
            order = np.concatenate([first, others])
        place[column] = order
    return place
