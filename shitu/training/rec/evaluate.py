"""Network and lists -> Recall@k, mAP, mINP; over one process or several."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import nn

from shitu.errors import ConfigError, ShituError
from shitu.training.base import processes
from shitu.training.base.memory import evaluation_mode
from shitu.training.base.processes import gather_rows
from shitu.training.rec.image_list import ImageList, read_image_list
from shitu.training.rec.loader import EvalLoader
from shitu.training.rec.networks import build_network, freeze, part
from shitu.training.rec.pretrained import load_named
from shitu.training.rec.prune import prune
from shitu.training.rec.retrieval import Embedded, Integers, Pairs, Sums, Vectors, metrics_of, score
from shitu.training.rec.schema import Global, MeanAP, MeanINP, MetricKind, Recallk, TrainConfig
from shitu.training.rec.schema_arch import Arch
from shitu.training.rec.schema_data import Data, EvalData
from shitu.training.rec.transforms import Transform, compile_transform

_log = logging.getLogger("shitu")
Progress = Callable[[int], None]


def evaluate(
    network: nn.Layer,
    data: EvalData | EvalSet,
    config: TrainConfig,
    *,
    rank: int = 0,
    world: int = 1,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Metrics in the order of Metric.Eval, the first of which decides what is best; then counts.

    recall<k>, mAP, mINP in 0..1 over `queries` queries; `left_out` more have no image of their label in the gallery;
    `bad_images` could not be read. The network may be in any mode and keeps it. Each of the `world` processes embeds
    and compares its share, and all return the same. `progress` is told how many images were embedded.
    Raises ConfigError; ShituError where a feature is no number.
    """
    wanted = check_metrics(config)
    both = data if isinstance(data, EvalSet) else open_eval(data, config.source)
    embedded = partial(_embed, network, config, rank=rank, world=world, progress=progress)
    with evaluation_mode(network), paddle.no_grad():
        queries = embedded(both.queries)
        gallery = queries if both.gallery is both.queries else embedded(both.gallery)
    sums = score(
        queries.rows(_share(len(queries.labels), rank, world)),
        gallery,
        topk=tuple(k for kind in wanted if isinstance(kind, Recallk) for k in kind.topk),
        precision=any(isinstance(kind, (MeanAP, MeanINP)) for kind in wanted),
        block=config.Global.sim_block_size,
    )
    total = Sums.of_rows(sums.topk, processes.summed(sums.as_row()[0], world)[None])
    if not total.queries:
        raise ShituError(
            "no query has an image of its label in the gallery, once unreadable images are left out; mend these"
        )
    found = metrics_of(total)
    counts = {"queries": total.queries, "left_out": total.left_out}
    bad = both.image_count - len(queries.labels) - (len(gallery.labels) if gallery is not queries else 0)
    return {name: found[name] for name in metric_names(wanted)} | counts | {"bad_images": float(bad)}


def check_metrics(config: TrainConfig) -> Sequence[MetricKind]:
    """Metric.Eval. Raises ConfigError where it is empty."""
    if not config.Metric.Eval:
        raise ConfigError(f"Metric.Eval of {config.source} is empty; [{{Recallk: {{topk: [1, 5]}}}}] is wanted")
    return config.Metric.Eval


def open_network(config: TrainConfig) -> nn.Layer:
    """The network of a config without its heads, which an evaluation does not need, and with its weights.

    They are those of Global.pretrained_model, else of Arch's own `pretrained`. Raises ConfigError, ModelError.
    """
    network = build_network(config.Arch.without_heads(), 1, image_shape=config.Global.image_shape)
    prune(network, config)
    freeze(network, replace(config.Arch, freeze_layers=()))  # an exported model is loaded into norms that stand still
    if not load_named(network, config):
        raise ConfigError(
            "Global.pretrained_model is null: which weights are to be evaluated? "
            "-o Global.pretrained_model=output/RecModel/best_model"
        )
    return network


def metric_names(kinds: Sequence[MetricKind]) -> list[str]:
    """
    >>> metric_names([Recallk(topk=(1, 5)), MeanAP()])
    ['recall1', 'recall5', 'mAP']
    """
    names: list[str] = []
    for kind in kinds:
        names += [f"recall{k}" for k in kind.topk] if isinstance(kind, Recallk) else [type(kind).yaml_name]
    return list(dict.fromkeys(names))


# --- embedding -------------------------------------------------------------------------------------------------


def _embed(
    network: nn.Layer, config: TrainConfig, side: Side, *, rank: int, world: int, progress: Progress | None
) -> Embedded:  # fmt: skip
    """Every readable image of a side, embedded in shares by all processes."""
    share = np.arange(len(side.images), dtype=np.int64)[_share(len(side.images), rank, world)]
    features, rows = [np.empty((0, 0), np.float32)], [np.empty(0, np.int64)]
    for batch in EvalLoader(side.images, side.transform, share, side.batch_size, side.workers):
        output = _features(network, batch.images, config.Arch, config.Global.retrieval_feature_from)
        features.append(finish(output.numpy(), config.Global))
        rows.append(batch.index)
        if progress:
            progress(len(batch.index))
    vectors = gather_rows(np.concatenate(features[1:] or features), world)
    kept = gather_rows(np.concatenate(rows)[:, None], world)[:, 0]
    broken = int((~np.isfinite(vectors).all(axis=1)).sum())
    if broken:
        raise ShituError(
            f"the network gives vectors that are no numbers for {broken} of {len(vectors)} images; its weights are "
            "those of a run that failed, or not whole; name an earlier checkpoint"
        )
    return Embedded(vectors, side.labels[kept], None if side.ids is None else side.ids[kept])


def _features(network: nn.Layer, images: paddle.Tensor, arch: Arch, feature: str) -> paddle.Tensor:
    output: paddle.Tensor = part(network, arch.inferring).embed(images)[feature]
    return output.astype("float32").flatten(1)


def finish(features: Vectors, settings: Global) -> Vectors:
    """(n, d) float32 -> unit vectors (a zero stays zero), then ±1 codes, as the keys of Global say.

    The codes are those that recognition makes (recognise/binarize.py): `sign` is 1 above 0, `round` from 0.5 on.
    """
    if settings.feature_normalize:
        norms = np.linalg.norm(features, axis=1, keepdims=True)
        features = features / np.where(norms == 0, 1, norms)
    if settings.feature_binarize:
        above: NDArray[np.bool_] = features > 0 if settings.feature_binarize == "sign" else features >= 0.5
        features = np.where(above, 1, -1)
    return features.astype(np.float32)


def _share(count: int, rank: int, world: int) -> slice:
    """The part of `count` rows that falls to a process; sizes differ by one at most."""
    return slice(count * rank // world, count * (rank + 1) // world)


# --- the lists of queries and gallery, read and checked against each other ---------------------------------------


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


def open_eval(data: EvalData | None, source: str = "the config") -> EvalSet:
    """Read the lists of DataLoader.Eval. Raises ConfigError, also where no query could ever find anything."""
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
