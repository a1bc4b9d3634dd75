"""Which images make up a batch: pure functions of (seed, epoch, stream, batch index), with nothing to save or replay.

A stream is one of `streams` independent sequences of batches, world_size x update_freq in all.
"""

from __future__ import annotations

import logging
import math
from typing import Protocol

import numpy as np

from shitu.errors import ConfigError
from shitu.training.base.loader import PERMUTATION, PK
from shitu.training.rec import schema_data
from shitu.training.rec.identity_sampler import DistributedRandomIdentitySampler
from shitu.training.rec.image_list import RowsByClass

log = logging.getLogger("shitu")


class BatchSampler(Protocol):
    """What a loader knows of a sampler."""

    def __len__(self) -> int:
        """Batches per epoch and stream, the same for every stream and epoch."""

    def batch(self, epoch: int, stream: int, index: int) -> np.ndarray:
        """(batch_size,) int64 rows of the list; the same whatever was asked before."""


def build_sampler(section: schema_data.Sampler, labels: np.ndarray, *, streams: int, seed: int) -> BatchSampler:
    """The sampler that a configuration names, over (n,) labels 0..C-1.

    Raises ConfigError where the classes do not allow such batches. With few images its length may be 0.
    """
    if isinstance(section, schema_data.PKSampler):
        return PKSampler(section, labels, streams=streams, seed=seed)
    if isinstance(section, schema_data.DistributedRandomIdentitySampler):
        return DistributedRandomIdentitySampler(section, labels, streams=streams, seed=seed)
    return DistributedBatchSampler(section, labels, streams=streams, seed=seed)


class DistributedBatchSampler:
    """Every image once per epoch, in a new order if `shuffle`, dealt to the streams like cards.

    Where the images do not divide by the streams, a few come twice, so that all streams are equally long. The last
    batch of an epoch may be short unless `drop_last`.
    """

    def __init__(self, section: schema_data.Sampler, labels: np.ndarray, *, streams: int, seed: int) -> None:
        self.section, self.image_count, self.streams, self.seed = section, len(labels), streams, seed
        self._length = batches_per_stream(section, len(labels), streams)
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return self._length

    def batch(self, epoch: int, stream: int, index: int) -> np.ndarray:
        """(batch_size or, for the last, fewer,) int64 rows."""
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


class PKSampler:
    """P x K batches: P = batch_size / sample_per_id different classes, K = sample_per_id images of each.

    Classes are drawn one after another without replacement, with equal probability (id_avg_prob) or in proportion to
    their images (sample_avg_prob). Each pair [a, b] of `id_list` multiplies the probability of the classes a to b,
    both included, by its `ratio`. PaddleClas counts a and b in order of first appearance in the list; here they are
    class ids, which is the same where a list's labels ascend.

    A class with fewer than K images gives each of them K // count times and some once more. Batches are independent
    of each other: an epoch, as long as one over all images, is no pass over them. Without `shuffle`, every epoch
    draws the same batches.
    """

    def __init__(self, section: schema_data.PKSampler, labels: np.ndarray, *, streams: int, seed: int) -> None:
        self.section, self.seed = section, seed
        self.per_class = section.sample_per_id
        self.classes_per_batch = section.batch_size // section.sample_per_id
        self._length = batches_per_stream(section, len(labels), streams)
        self._rows = RowsByClass(labels)
        self.probabilities = class_probabilities(section, self._rows.counts)
        self._drawable = np.flatnonzero(self.probabilities)
        self._check_classes()

    def __len__(self) -> int:
        return self._length

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


def batches_per_stream(section: schema_data.Sampler, image_count: int, streams: int) -> int:
    """As paddle.io.DistributedBatchSampler counts: each stream gets its share of the images, rounded up."""
    share = math.ceil(image_count / streams)
    return share // section.batch_size if section.drop_last else math.ceil(share / section.batch_size)
