"""Network and lists -> Recall@k, mAP, mINP; over one process or several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import nn

from shitu.errors import ConfigError, ShituError
from shitu.training.base import processes
from shitu.training.base.processes import gather_rows
from shitu.training.rec.eval_lists import EvalSet, Side, open_eval
from shitu.training.rec.loader import EvalLoader
from shitu.training.rec.networks import build_network, without_heads
from shitu.training.rec.pretrained import load_start_weights, load_weights
from shitu.training.rec.retrieval import Embedded, Sums, Vectors, metrics_of, score
from shitu.training.rec.schema import Global, MeanAP, MeanINP, MetricKind, Recallk, TrainConfig
from shitu.training.rec.schema_arch import Arch, DistillationModel
from shitu.training.rec.schema_data import EvalData

Progress = Callable[[int], None]


def evaluate(
    network: nn.Layer,
    data: EvalData | EvalSet,
    config: TrainConfig,
    *,
    workers: int | None = None,
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
    wanted = config.Metric.Eval
    if not wanted:
        raise ConfigError(f"Metric.Eval of {config.source} is empty; [{{Recallk: {{topk: [1, 5]}}}}] is wanted")
    both = data if isinstance(data, EvalSet) else open_eval(data, config.source)

    def embedded(side: Side) -> Embedded:
        return _embed(network, side, config, workers=workers, rank=rank, world=world, progress=progress)

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


def open_network(config: TrainConfig) -> nn.Layer:
    """The network of a config without its heads, which an evaluation does not need, and with its weights.

    They are those of Global.pretrained_model, else of Arch's own `pretrained`. Raises ConfigError, ModelError.
    """
    network = build_network(without_heads(config.Arch), 1, image_shape=config.Global.image_shape)
    if config.Global.pretrained_model:
        load_weights(network, config.Global.pretrained_model)
    elif not load_start_weights(network, config.Arch):
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


@contextmanager
def evaluation_mode(network: nn.Layer) -> Iterator[None]:
    """`network.eval()` for the time being; then each layer is as before, frozen norms included."""
    layers = network.sublayers(include_self=True)
    before = [layer.training for layer in layers]
    network.eval()
    try:
        yield
    finally:
        for layer, training in zip(layers, before, strict=True):
            layer.training = training


# --- embedding -------------------------------------------------------------------------------------------------


def _embed(
    network: nn.Layer, side: Side, config: TrainConfig, *, workers: int | None, rank: int, world: int,
    progress: Progress | None,
) -> Embedded:  # fmt: skip
    """Every readable image of a side, embedded in shares by all processes."""
    share = np.arange(len(side.images), dtype=np.int64)[_share(len(side.images), rank, world)]
    workers = side.workers if workers is None else workers
    loader = EvalLoader(side.images, side.transform, share, side.batch_size, workers)
    features, rows = [np.empty((0, 0), np.float32)], [np.empty(0, np.int64)]
    for batch in loader:
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
    model = getattr(network, arch.infer_model_name) if isinstance(arch, DistillationModel) else network
    output: paddle.Tensor = model.embed(images)[feature]
    return output.astype("float32").flatten(1)


def finish(features: Vectors, settings: Global) -> Vectors:
    """(n, d) float32 -> unit vectors (a zero stays zero), then ±1 codes, as the keys of Global say.

    The codes are those that recognition makes (predict_rec.pack_bits): `sign` is 1 above 0, `round` from 0.5 on.
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
