"""A detector on annotated images -> COCO's numbers: the network being trained, its weights, or an exported model."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray

from shitu.config.schema import DetPreProcess
from shitu.config.schema import Global as InferenceGlobal
from shitu.engines.paddle import open_session
from shitu.errors import ConfigError, ImageError
from shitu.images.read import read_image
from shitu.models import open_model
from shitu.recognise.from_config import options_from, preprocessor_for
from shitu.training.base import processes
from shitu.training.det.batches import DetLoader
from shitu.training.det.build import PicoDet, build_detector, load_trained
from shitu.training.det.coco_data import DetData, read_coco
from shitu.training.det.schema import DetConfig

Progress = Callable[[int], AbstractContextManager[Any]]  # the number of images -> a bar with update(n)
Metrics = dict[str, float | None]
# in the order of pycocotools' stats; small is below 32 x 32 pixels of the image, large above 96 x 96
METRICS: tuple[str, ...] = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"),
)


@dataclass(frozen=True)
class Found:
    """What was found in image `index` of the data: rows (k, 6) float of class, score, xyxy in the image's pixels."""

    index: int
    rows: NDArray[np.float32]


def eval_data(config: DetConfig) -> DetData:
    """EvalDataset, read and checked. Raises ConfigError."""
    if config.EvalDataset is None:
        raise ConfigError(f"{config.source} has no EvalDataset; it says which images to evaluate on")
    return read_coco(config.EvalDataset, config.num_classes, what="EvalDataset", training=False)


def evaluate_config(config: DetConfig, progress: Progress) -> Metrics:
    """The network with the weights that the config names, on EvalDataset."""
    data, network = eval_data(config), build_detector(config)
    load_trained(network, config.weights)
    return evaluate(network, data, config, progress)


def evaluate(
    network: PicoDet,
    data: DetData,
    config: DetConfig,
    progress: Progress | None = None,
    *,
    rank: int = 0,
    world: int = 1,
) -> Metrics:
    """COCO's numbers, and `images` and `bad_images`, the count of those that could not be read.

    Each of the `world` processes takes its share of the images, and all return the same.
    """
    how = {"seed": config.seed, "workers": config.worker_num}
    loader = DetLoader(data, config.EvalReader, "EvalReader", replace=False, **how)
    share = range(len(data) * rank // world, len(data) * (rank + 1) // world)
    found = (None if data.paths[each.index] in loader.bad else each for each in detected(network, loader, share))
    with progress(len(share)) if progress else nullcontext() as bar:
        usable = _usable(found, bar.update if bar is not None else lambda _: None)
    return _metrics(data, _of_all(usable, world))


def _of_all(found: Sequence[Found], world: int) -> list[Found]:
    """What all processes found, in the order of the images."""
    counts = processes.gather_rows(np.array([(each.index, len(each.rows)) for each in found], np.int64), world)
    rows = [np.asarray(each.rows, np.float32).reshape(-1, 6) for each in found]
    table = processes.gather_rows(np.concatenate(rows) if rows else np.empty((0, 6), np.float32), world)
    ends = np.cumsum(counts[:, 1]) if len(counts) else np.empty(0, np.int64)
    return [Found(int(index), table[end - count : end]) for (index, count), end in zip(counts, ends, strict=True)]


def detected(network: PicoDet, loader: DetLoader, share: range | None = None) -> Iterator[Found]:
    """What the network finds in each image of the loader, or of a share of them, in their order."""
    network.eval()
    for batch in loader.in_order(share):
        with paddle.no_grad():
            scores, boxes = network(batch.images)
            factors = paddle.to_tensor(batch.scales[:, None, [1, 0, 1, 0]])
            rows, counts = network.suppressed(boxes / factors, scores)
        ends = np.cumsum(counts.numpy())
        table = rows.numpy().reshape(-1, 6)
        for index, end, count in zip(batch.indices.tolist(), ends, counts.numpy(), strict=True):
            yield Found(index, table[end - count : end])


def evaluate_model(folder: str, config: DetConfig, progress: Progress) -> Metrics:
    """An exported program on EvalDataset."""
    data = eval_data(config)
    with progress(len(data)) as bar:
        return _metrics(data, _usable(detected_by_model(folder, data.paths), bar.update))


def _usable(found: Iterable[Found | None], step: Callable[[int], object]) -> list[Found]:
    usable = []
    for each in found:
        step(1)
        usable += [each] if each else []
    return usable


def _metrics(data: DetData, usable: Sequence[Found]) -> Metrics:
    return {**coco_metrics(data, usable), "images": len(data), "bad_images": len(data) - len(usable)}


def detected_by_model(folder: str, paths: Sequence[str]) -> Iterator[Found | None]:
    """What an exported program finds, run as `shitu predict-det` runs it, but with every box; None for a bad image."""
    model = open_model(folder, task="detection")
    preprocess = preprocessor_for(model, DetPreProcess())
    session = open_session(model.program, model.params, options_from(InferenceGlobal(use_gpu=False)))
    for index, path in enumerate(paths):
        try:
            image = read_image(path)
        except ImageError:
            yield None
            continue
        height, width = image.shape[:2]
        feeds = {
            "image": preprocess(image)[None],
            "im_shape": np.array([preprocess.resized(height, width)], np.float32),
            "scale_factor": np.array([preprocess.scale_factor(height, width)], np.float32),
        }
        rows = session.run({name: feeds[name] for name in session.input_names})[0]
        yield Found(index, rows if rows.size >= 6 else np.empty((0, 6), np.float32))


def coco_metrics(data: DetData, found: Sequence[Found]) -> dict[str, float | None]:
    """The numbers by the names in METRICS; None where there are no boxes of the kind, such as small ones."""
    from pycocotools.coco import COCO  # type: ignore[import-untyped, unused-ignore]
    from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped, unused-ignore]

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = data.coco
        truth.createIndex()
        records = [record for each in found for record in _records(data, each)]
        # loadRes wants at least one; a box of score 0 that overlaps nothing changes no number
        records = records or [_record(data.image_ids[0], 1, 0.0, [-2.0, -2.0, 1.0, 1.0])]
        evaluation = COCOeval(truth, truth.loadRes(records), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = (float(value) for value in evaluation.stats)
    return {name: None if value < 0 else value for name, value in zip(METRICS, values, strict=True)}


def _records(data: DetData, found: Found) -> list[dict[str, Any]]:
    image_id = data.image_ids[found.index]
    return [
        _record(image_id, int(kind) + 1, score, [x1, y1, x2 - x1, y2 - y1])
        for kind, score, x1, y1, x2, y2 in found.rows.astype(np.float64).tolist()
    ]


def _record(image_id: int, category: int, score: float, xywh: list[float]) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": category, "score": score, "bbox": xywh}
