"""What a model itself says its images go through."""

from __future__ import annotations

from pathlib import Path

from shitu.models import ModelFolder
from shitu.models.model_yaml import DETECTION, INFERENCE_YML, MODEL_YAML
from shitu.recognise.preprocess import Preprocessor, from_model_yaml


def stated_preprocessor(model: ModelFolder) -> Preprocessor | None:
    """Of `preprocess` or `transform_ops` in its card; None where it says nothing. Raises ConfigError."""
    card = model.card
    if card.preprocess:
        return from_model_yaml(**vars(card.preprocess), detection=card.task == DETECTION)
    if not card.transform_ops:
        return None
    from shitu.recognise.transform_ops import compile_ops

    return compile_ops(card.transform_ops, str(described_by(model)))


def described_by(model: ModelFolder) -> Path:
    """The file that describes it."""
    names = (MODEL_YAML, INFERENCE_YML)
    return next((each for name in names if (each := model.path / name).is_file()), model.path / MODEL_YAML)
