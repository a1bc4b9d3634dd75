"""Images -> embeddings: the feature extractor alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.engines.base import Session, Streams
from shitu.errors import ConfigError, EngineError
from shitu.images.read import Picture, several
from shitu.models import ModelFolder, Program
from shitu.recognise.preprocess import Preprocessor, Tensor

CROPS_AT_ONCE = 4  # more gain little on a CPU (benchmarks/streams.py), and oneDNN keeps memory for every batch size


class Extractor:
    """A feature extractor with the preprocessing that belongs to it. Any number of threads may call at once.

    `dimension` counts floats (or bits, when `packed`); `fingerprint` names the vectors, so that a gallery of others is
    refused, `apart` says why the card's word does not hold. The vectors of the middle crops of `shares` are averaged.
    """

    at_once = 1  # calls that files are to be embedded in side by side

    def __init__(
        self, model: ModelFolder, program: Program, session: Session, preprocess: Preprocessor,
        *, streams: int = 1, shares: tuple[float, ...] = (1.0,), packed: bool = False, binarize: str = "sign",
    ) -> None:  # fmt: skip
        if len(session.input_names) != 1:
            raise ConfigError(
                f"{model.path} is not a feature extractor: its inputs are {', '.join(session.input_names)}, "
                "wanted one. Is it a detector, given as Global.rec_inference_model_dir?"
            )
        self.model, self.preprocess, self.packed = model, preprocess, packed
        self._shares, self._pack = shares, None
        if packed:
            from shitu.recognise.binarize import Packer

            self._pack = Packer(binarize)
        recipe = model.vectors(program, preprocess.describe())
        self.apart = "" if recipe == model.card.vectors else model.apart(program)  # which reads the files once more
        if shares != (1.0,):
            recipe += f" mean of crops {shares}"
        self.fingerprint: str = hashlib.sha256(recipe.encode()).hexdigest()
        self._streams = Streams(session, streams)
        self.dimension: int = model.card.dimension or self._probe()

    def predict(self, images: Sequence[Picture]) -> NDArray[Any]:
        """(h, w, 3) uint8 RGB images -> (n, dimension) float32 unit vectors, or (n, dimension / 8) uint8 codes.

        Raises EngineError when the network returns a zero or non-finite vector: it would match everything alike;
        UsageError for one image in place of several.
        """
        return self._finish(self._raw(several(images), self._run_images), len(images))

    def prepare(self, image: Picture) -> Tensor:
        """The network's inputs (m, 3, H, W) float32 for an image: one for each of `RecPreProcess.multi_crop`."""
        views = [self.preprocess(middle(image, share))[None] for share in self._shares]
        return views[0] if len(views) == 1 else np.concatenate(views)  # one view is not copied

    def predict_tensors(self, tensors: Sequence[Tensor]) -> NDArray[Any]:
        """The same as `predict` from what `prepare` made of the images (in another thread)."""
        return self._finish(self._raw(tensors, self._run_tensors), len(tensors))

    def _raw(self, items: Sequence[Any], run: Any) -> list[Tensor]:
        size = min(CROPS_AT_ONCE, max(1, -(-len(items) // len(self._streams))))
        return self._streams.map(run, [items[start : start + size] for start in range(0, len(items), size)])

    def _run_images(self, session: Session, images: Sequence[Picture]) -> Tensor:
        return self._run_tensors(session, [self.prepare(image) for image in images])

    def _run_tensors(self, session: Session, tensors: Sequence[Tensor]) -> Tensor:
        together = np.concatenate(tensors)
        if self.model.card.batch:
            features = np.concatenate([self._features(session, one[None]) for one in together])
        else:
            features = self._features(session, together)
        if len(self._shares) == 1:
            return features.reshape(len(tensors), -1)
        views = features.reshape(len(tensors), len(self._shares), -1)
        with np.errstate(invalid="ignore", divide="ignore"):  # a zero vector becomes NaN, which _finish refuses
            mean: Tensor = (views / np.linalg.norm(views, axis=2, keepdims=True)).mean(axis=1)
        return mean

    def _features(self, session: Session, inputs: Tensor) -> Tensor:
        """The output that holds the vectors, (n, dimension) or (n, dimension, 1, 1)."""
        outputs, wanted = session.run({session.input_names[0]: inputs}), self.model.card.feature
        if wanted is None:
            return outputs[0]
        features: Tensor = outputs[wanted.output]
        if wanted.pool == "none":
            return features
        return features[:, 0] if wanted.pool == "first" else features.mean(axis=1)

    def _finish(self, parts: list[Tensor], count: int) -> NDArray[Any]:
        features = np.concatenate(parts) if parts else np.empty((0, self.dimension), np.float32)
        norms = np.linalg.norm(features, axis=1, keepdims=True)
        if count and not (np.isfinite(norms).all() and norms.all()):
            raise EngineError(
                f"{self.model.path}: the network returned a zero or non-finite vector for one of {count} images; "
                "the weights or the preprocessing are not those of this model; `shitu models verify` compares the files"
            )
        features = features / norms
        return self._pack(features) if self._pack else features

    def _probe(self) -> int:
        """The output's size, for models without a model.yaml."""
        return int(self._raw([np.zeros((224, 224, 3), np.uint8)], self._run_images)[0].shape[1])


def middle(image: Picture, share: float) -> Picture:
    """The middle of an image, `share` of its height and width; at least one pixel."""
    if share == 1.0:
        return image
    rows, columns = (max(1, round(side * share)) for side in image.shape[:2])
    top, left = (image.shape[0] - rows) // 2, (image.shape[1] - columns) // 2
    return image[top : top + rows, left : left + columns]
