"""The lists of an evaluation, read and checked against each other: queries and gallery, or images of known classes."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from shitu.errors import ConfigError
from shitu.training.rec.image_list import ImageList, read_image_list
from shitu.training.rec.retrieval import Integers, Pairs
from shitu.training.rec.schema_data import Data, EvalData
from shitu.training.rec.transforms import Transform, compile_transform

_log = logging.getLogger("shitu")


@dataclass(frozen=True)
class Side:
    """Queries or gallery: images, what is done to them, and what is compared of them.

    labels: (n,) int64, numbered alike on both sides; ids: (n,) int64, comparable over the two sides,
    or None where no pair is to be taken out.
    """

    images: ImageList
    transform: Transform
    labels: Integers
    ids: Integers | None
    batch_size: int
    workers: int


@dataclass(frozen=True)
class EvalSet:
    """Both sides, read and checked; `gallery` is `queries` where one list serves as both."""

    queries: Side
    gallery: Side

    @property
    def image_count(self) -> int:
        """How many images one evaluation embeds."""
        return len(self.queries.images) + (len(self.gallery.images) if self.gallery is not self.queries else 0)


@dataclass(frozen=True)
class ClassSet:
    """Images of the classes that are trained; their labels are the outputs of the head."""

    images: Side

    @property
    def image_count(self) -> int:
        return len(self.images.images)


def open_eval(data: EvalData | None, source: str = "the config") -> EvalSet | ClassSet:
    """Read the lists of DataLoader.Eval. Raises ConfigError, also where no query could ever find anything."""
    if data is not None and data.dataset is not None:
        return _open_classes(Data(data.dataset, data.sampler, data.loader))
    if data is None or data.Query is None or data.Gallery is None:
        missing = "Gallery" if data and data.Query else "Query"
        raise ConfigError(f"{source} has no DataLoader.Eval.{missing}; both Query and Gallery are wanted to evaluate")
    same = data.Query.dataset == data.Gallery.dataset
    queries = _images(data.Query, "Query")
    gallery = queries if same else _images(data.Gallery, "Gallery")
    query_labels, gallery_labels = _common_labels(queries, gallery)
    query_ids, gallery_ids = _pair_ids(queries, gallery)
    pairs = Pairs(gallery_labels, gallery_ids)
    if not any(len(pairs.of(query_labels, query_ids, row)[0]) for row in range(len(queries))):
        raise ConfigError(
            "no image of DataLoader.Eval.Query has another of its label in DataLoader.Eval.Gallery: nothing could be "
            "found; do the two lists number their classes alike?"
        )
    side = _side(data.Query, queries, query_labels, query_ids, "Query")
    return EvalSet(side, side if same else _side(data.Gallery, gallery, gallery_labels, gallery_ids, "Gallery"))


def _open_classes(data: Data) -> ClassSet:
    what = "DataLoader.Eval.dataset"
    images = read_image_list(data.dataset, what=what, dense=False)
    values = images.original_labels
    if values.dtype.kind != "i" or values[0] < 0:
        raise ConfigError(f"{what}: TopkAcc compares labels with the head's outputs: numbers from 0 on are wanted")
    transform = compile_transform(data.dataset.transform_ops, f"{what}.transform_ops")
    labels = values[images.labels]
    return ClassSet(Side(images, transform, labels, None, data.sampler.batch_size, data.loader.num_workers))


def _images(data: Data, name: str) -> ImageList:
    return read_image_list(data.dataset, what=f"DataLoader.Eval.{name}.dataset", dense=False)


def _common_labels(queries: ImageList, gallery: ImageList) -> tuple[Integers, Integers]:
    """The labels of both lists, numbered alike."""
    values = [queries.original_labels, gallery.original_labels]
    if values[0].dtype.kind != values[1].dtype.kind:  # one list has texts
        values = [each.astype(str) for each in values]
    _, numbers = np.unique(np.concatenate(values), return_inverse=True)
    numbers = numbers.astype(np.int64)
    return numbers[: len(values[0])][queries.labels], numbers[len(values[0]) :][gallery.labels]


def _side(data: Data, images: ImageList, labels: Integers, ids: Integers | None, name: str) -> Side:
    transform = compile_transform(data.dataset.transform_ops, f"DataLoader.Eval.{name}.dataset.transform_ops")
    return Side(images, transform, labels, ids, data.sampler.batch_size, data.loader.num_workers)


def _pair_ids(queries: ImageList, gallery: ImageList) -> tuple[Integers | None, Integers | None]:
    """Ids that tell which pairs are one image: the lists' own, or else numbers of the paths that are in both.

    Without the latter a query finds itself and recall is a meaningless 1.0, as in PaddleClas (#3224).
    """
    if queries.ids is not None and gallery.ids is not None:
        return queries.ids, gallery.ids
    numbers = {queries.path(row): row for row in range(len(queries))}
    query_ids = np.array([numbers[queries.path(row)] for row in range(len(queries))], np.int64)
    gallery_ids = np.array([numbers.get(gallery.path(row), -1) for row in range(len(gallery))], np.int64)
    own = len(np.intersect1d(query_ids, gallery_ids))
    if not own:
        return None, None
    _log.info(
        "%d of %d query images are in the gallery list, too; each is left out of its own ranking, where it would "
        "always come first. A third column with unique ids (name: VeriWild) says so explicitly",
        own, len(queries),
    )  # fmt: skip
    return query_ids, gallery_ids
