"""Which engines, precisions and numbers of threads there are to compare for a config on this machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from shitu.config import Config
from shitu.cores import available_cores
from shitu.engines.base import EngineOptions
from shitu.engines.choose import AUTO, ENGINES
from shitu.errors import UsageError
from shitu.models import ModelFolder, open_model
from shitu.models.model_yaml import DETECTION, RECOGNITION

PRECISIONS = ("fp32", "bf16", "int8")
# Paddle first: what comes first in fp32 is what the others are compared with.
_LIBRARIES = {"paddle": "paddle", "onnxruntime": "onnxruntime", "openvino": "openvino"}


@dataclass(frozen=True)
class Variant:
    """One way to run a config's models."""

    engine: str
    precision: str
    threads: int

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}, {self.threads} thread{'' if self.threads == 1 else 's'}"

    def overrides(self) -> list[str]:
        """As `-o` would set it."""
        settings = {"engine": self.engine, "precision": self.precision, "cpu_num_threads": self.threads}
        return [*(f"Global.{key}={value}" for key, value in settings.items()), "Global.use_int8=False"]


def models_of(config: Config) -> dict[str, ModelFolder]:
    """The detector (where the config has one) and the recogniser. Raises ModelError."""
    section = config.Global
    found = {}
    if section.det_inference_model_dir:
        found["detector"] = open_model(section.det_inference_model_dir, task=DETECTION)
    found["recogniser"] = open_model(section.rec_inference_model_dir or "", task=RECOGNITION)
    return found


def variants_of(
    config: Config,
    engines: Sequence[str] = (),
    precisions: Sequence[str] = (),
    threads: Sequence[int] = (),
) -> tuple[list[Variant], list[tuple[str, str]]]:
    """What can be run, fp32 first, and (what cannot, why). Raises UsageError where nothing is left.

    By default every engine that is installed, in every precision that the models have programs for, with as many
    threads as config and machine allow and with one; a precision that only one of the models has comes as `auto`.
    """
    models = list(models_of(config).values())
    cores = available_cores()
    counts = dict.fromkeys(min(count, cores) for count in (threads or (config.Global.cpu_num_threads, 1)))
    found: list[Variant] = []
    left: list[tuple[str, str]] = []
    for precision in precisions or (*PRECISIONS, AUTO):
        for engine in engines or (*_LIBRARIES, *(name for name in ENGINES if name not in _LIBRARIES)):
            why = _why_not(engine, precision, models, asked=bool(precisions))
            if why:
                left.append((f"{engine} {precision}", why))
            elif why is None:
                found += [Variant(engine, precision, count) for count in counts]
    if not found:
        reasons = "; ".join(f"{name}: {why}" for name, why in left)
        raise UsageError(f"nothing is left to measure ({reasons}); ask for other engines or precisions")
    return found, left


def _why_not(engine: str, precision: str, models: Sequence[ModelFolder], *, asked: bool) -> str | None:
    """None: it can be run; an empty text: it would be the same as another."""
    library = _LIBRARIES.get(engine)
    if library and importlib.util.find_spec(library) is None:
        return "not installed"
    if engine == AUTO:
        return None
    if precision == AUTO:
        has = [_supports(engine, "int8", model) for model in models]
        return None if asked or (any(has) and not all(has)) else ""
    missing = [model.name for model in models if not _supports(engine, precision, model)]
    return f"this engine, or this processor, has no such program of {' and '.join(missing)}" if missing else None


def _supports(engine: str, precision: str, model: ModelFolder) -> bool:
    options = replace(EngineOptions(), engine=engine, precision=precision)
    return ENGINES[engine].supports(model, options) is not None


def batches_of(config: Config, batches: Iterable[int] = ()) -> list[int]:
    """Photos per call: by default the config's and 8."""
    return list(dict.fromkeys(batches or (config.Global.batch_size, 8)))
