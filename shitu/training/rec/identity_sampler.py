"""Batches of N identities x K images that use up each identity's images over an epoch, as in re-identification."""

from __future__ import annotations

import numpy as np

from shitu.errors import ConfigError
from shitu.training.base.loader import IDENTITY
from shitu.training.rec import schema_data
from shitu.training.rec.image_list import RowsByClass


class DistributedRandomIdentitySampler:
    """N = batch_size / num_instances different identities per batch, K = num_instances images of each.

    In an epoch, the images of an identity are shuffled and cut into chunks of K (fewer than K images are repeated to
    fill one chunk; a rest beyond whole chunks waits for the next epoch). Each chunk is in at most one batch, and there
    are as many batches as N different identities can fill. Drawing identities at random until fewer than N are left,
    as re-identification code does, ends sooner or later by chance; here every epoch has the same length. Batches that
    do not divide by the streams are left out.

    `max_iters` sets another number of batches per stream; where it is more, the images are shuffled and cut anew.
    Without `shuffle`, every epoch has the same batches.
    """

    def __init__(
        self, section: schema_data.DistributedRandomIdentitySampler, labels: np.ndarray, *, streams: int, seed: int
    ) -> None:
        if section.batch_size % section.num_instances:
            raise ConfigError(
                f"sampler.batch_size is {section.batch_size}; a multiple of num_instances ({section.num_instances}) is "
                "wanted"
            )
        self.section, self.streams, self.seed = section, streams, seed
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
        self._length = section.max_iters or self.batches_per_round // streams
        self._round: tuple[int, int, np.ndarray] | None = None

    def __len__(self) -> int:
        return self._length

    def batch(self, epoch: int, stream: int, index: int) -> np.ndarray:
        """(N * K,) int64 rows, the K of an identity next to each other."""
        number, row = divmod(index * self.streams + stream, self.batches_per_round)
        return np.concatenate(self._arrangement(epoch if self.section.shuffle else 0, number)[row])

    def _arrangement(self, epoch: int, number: int) -> np.ndarray:
        """All batches of one round over the images, (batches_per_round, N, K) int64 rows; the last is kept."""
        if self._round is None or self._round[:2] != (epoch, number):
            rng = np.random.default_rng([self.seed, epoch, number, IDENTITY])
            self._round = epoch, number, self._arrange(rng)
        return self._round[2]

    def _arrange(self, rng: np.random.Generator) -> np.ndarray:
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
