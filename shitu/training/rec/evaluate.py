"""Network and lists -> Recall@k, Precision@k, mAP, mINP, or TopkAcc; over one process or several."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import nn

from shitu.errors import ConfigError, ShituError
from shitu.training.base import processes
from shitu.training.base.memory import evaluation_mode
from shitu.training.base.processes import gather_rows
from shitu.training.rec.eval_lists import ClassSet, EvalSet, Side, open_eval
from shitu.training.rec.loader import EvalLoader
from shitu.training.rec.networks import build_network, freeze, part
from shitu.training.rec.pretrained import load_named
from shitu.training.rec.prune import prune
from shitu.training.rec.retrieval import Embedded, Sums, Vectors, metrics_of, score
from shitu.training.rec.schema import Global, MeanAP, MeanINP, MetricKind, Precisionk, Recallk, TopkAcc, TrainConfig
from shitu.training.rec.schema_arch import Arch, DistillationModel
from shitu.training.rec.schema_data import EvalData

_log = logging.getLogger("shitu")
Progress = Callable[[int], None]
_TOPK: dict[type[MetricKind], str] = {Recallk: "recall", Precisionk: "precision", TopkAcc: "top"}


def evaluate(
    network: nn.Layer,
    data: EvalData | EvalSet | ClassSet,
    config: TrainConfig,
    *,
    rank: int = 0,
    world: int = 1,
    progress: Progress | None = None,
    look: Callable[[Embedded, Embedded], object] = lambda queries, gallery: None,
) -> dict[str, float]:
    """Metrics in the order of Metric.Eval, the first of which decides what is best; then counts.

    recall<k>, precision<k>, mAP, mINP in 0..1 over `queries` queries, or top<k> over all images; `left_out` more have
    no image of their label in the gallery; `bad_images` could not be read. The network may be in any mode and keeps it.
    Each of the `world` processes embeds and compares its share, and all return the same. `progress` is told how many
    images were embedded, and `look`, in each process, gets queries and gallery, which are one where their lists are.
    Raises ConfigError; ShituError where a feature is no number.
    """
    wanted = check_metrics(config)
    both = open_eval(data, config.source) if isinstance(data, EvalData) else data
    if isinstance(both, ClassSet):
        return _accuracy(network, config, both.images, rank=rank, world=world, progress=progress)
    embedded = partial(_embed, network, config, rank=rank, world=world, progress=progress)
    with evaluation_mode(network), paddle.no_grad():
        queries = embedded(both.queries)
        gallery = queries if both.gallery is both.queries else embedded(both.gallery)
    look(queries, gallery)
    sums = score(
        queries.rows(_share(len(queries.labels), rank, world)),
        gallery,
        topk=tuple(k for kind in wanted if isinstance(kind, (Recallk, Precisionk)) for k in kind.topk),
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
    """Metric.Eval. Raises ConfigError where it is empty, or does not go with DataLoader.Eval."""
    wanted, data = config.Metric.Eval, config.DataLoader.Eval
    if not wanted:
        raise ConfigError(f"Metric.Eval of {config.source} is empty; [{{Recallk: {{topk: [1, 5]}}}}] is wanted")
    of_classes = data is not None and data.dataset is not None
    if any(isinstance(kind, TopkAcc) != of_classes for kind in wanted):
        lists = "dataset (images of the classes that are trained)" if not of_classes else "Query and Gallery"
        names = ", ".join(type(kind).called() for kind in wanted)
        raise ConfigError(
            f"Metric.Eval of {config.source} is {names}: TopkAcc is worked out with DataLoader.Eval.dataset, the "
            f"others with Query and Gallery; give it {lists}, or name other metrics"
        )
    if of_classes and isinstance(config.Arch, DistillationModel):
        raise ConfigError("TopkAcc is for one network, and DistillationModel has several; evaluate with Recallk")
    return wanted


def open_network(config: TrainConfig) -> nn.Layer:
    """The network of a config, without its heads where an evaluation does not need them, and with its weights.

    They are those of Global.pretrained_model, else of Arch's own `pretrained`. Raises ConfigError, ModelError.
    """
    of_classes = config.DataLoader.Eval is not None and config.DataLoader.Eval.dataset is not None
    arch = config.Arch if of_classes else config.Arch.without_heads()
    network = build_network(arch, 1, image_shape=config.Global.image_shape)
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
        prefix = _TOPK.get(type(kind))
        names += [f"{prefix}{k}" for k in kind.topk] if prefix else [type(kind).yaml_name]  # type: ignore[attr-defined]
    return list(dict.fromkeys(names))


def _accuracy(
    network: nn.Layer, config: TrainConfig, side: Side, *, rank: int, world: int, progress: Progress | None
) -> dict[str, float]:  # fmt: skip
    """top<k>: the share of images whose class is among the k highest outputs; the highest of equals is the first."""
    ks = [k for kind in config.Metric.Eval if isinstance(kind, TopkAcc) for k in kind.topk]
    share = np.arange(len(side.images), dtype=np.int64)[_share(len(side.images), rank, world)]
    found = np.zeros(len(ks) + 1)
    with evaluation_mode(network), paddle.no_grad():
        for batch in EvalLoader(side.images, side.transform, share, side.batch_size, side.workers):
            logits = network(batch.images)["logits"].astype("float32").numpy()
            labels = side.labels[batch.index]
            if labels.max() >= logits.shape[1]:
                raise ConfigError(
                    f"DataLoader.Eval.dataset has the label {labels.max()}, the head {logits.shape[1]} outputs"
                )
            own = logits[np.arange(len(labels)), labels][:, None]
            places = (logits > own).sum(axis=1) + (
                (logits == own) & (np.arange(logits.shape[1]) < labels[:, None])
            ).sum(1)
            found += [*((places < k).sum() for k in ks), len(labels)]
            if progress:
                progress(len(labels))
    *hits, images = processes.summed(found, world).tolist()
    accuracy = {f"top{k}": hit / max(images, 1) for k, hit in zip(ks, hits, strict=True)}
    return {**accuracy, "queries": images, "bad_images": len(side.images) - images}


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
    return Embedded(vectors, side.labels[kept], None if side.ids is None else side.ids[kept], kept)


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
