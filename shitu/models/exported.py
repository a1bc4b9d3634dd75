"""A folder as Paddle's exporters leave it, without a model.yaml: its program, and what the model is evidently for.

PaddleX's folders say more, in inference.yml (paddlex.py).
"""

from __future__ import annotations

from pathlib import Path

from shitu.errors import ModelError
from shitu.models.known import known_model
from shitu.models.model_yaml import DETECTION, INFERENCE_YML, MODEL_YAML, ModelCard

# PaddleClas takes the quantised program where there is one; `model` is what PaddleDetection's exporter writes.
_PREFERRED_STEM, _STEMS = "inference_int8", ("inference", "model")
_SUFFIXES = (".json", ".pdmodel")
# The feed that every detector exported by PaddleDetection has, as a .pdmodel (protobuf: length, text) and a .json
# spell it. Source lines kept in a .pdmodel hold the word too, but not after a byte that says 12.
_DETECTOR_FEED = {".pdmodel": b"\x0cscale_factor", ".json": b'"scale_factor"'}


def inferred_card(path: Path) -> ModelCard:
    """The name, the files of the program, and the task as far as it can be told without an engine.

    Raises ModelError where there is no program, more than one, or none with its weights.
    """
    programs = _programs(path, _PREFERRED_STEM) or [each for stem in _STEMS for each in _programs(path, stem)]
    if not programs:
        raise ModelError(f"{path} holds no model: {_contents(path)}; see `shitu models list`")
    if len(programs) > 1:
        names = " and ".join(program.name for program in programs)
        raise ModelError(f"{path} holds {names}: keep one, or name one in a {MODEL_YAML}")
    program, params = programs[0], programs[0].with_suffix(".pdiparams")
    if not params.is_file():
        raise ModelError(f"{path}: {program.name} is there, but its weights, {params.name}, are missing; copy both")
    name = path.resolve().name  # not path.name, which is empty for "."
    if (path / INFERENCE_YML).is_file():
        from shitu.models.paddlex import read_inference_yml

        said = read_inference_yml(path / INFERENCE_YML)
        return ModelCard(**{"name": name, **said}, program=program.name, params=params.name)
    if _DETECTOR_FEED[program.suffix] in program.read_bytes():
        task: str | None = DETECTION
    else:
        known = known_model(name)
        task = known.task if known else None
    return ModelCard(name=name, program=program.name, params=params.name, task=task)


def _programs(path: Path, stem: str) -> list[Path]:
    return [path / (stem + suffix) for suffix in _SUFFIXES if (path / (stem + suffix)).is_file()]


def _contents(path: Path) -> str:
    """What a folder without a model holds, and what that may mean."""
    names = sorted(entry.name for entry in path.iterdir())
    wanted = "wanted inference.json or inference.pdmodel, and inference.pdiparams"
    if not names:
        return f"it is empty; {wanted}"
    for name in names:
        if any(_programs(path / name, stem) for stem in (_PREFERRED_STEM, *_STEMS)):
            return f"{wanted}; did you mean {path / name}?"
    if any(name.endswith(".pdparams") for name in names):
        return f"its .pdparams are weights for training, to be exported first; {wanted}"
    hint = f"; describe it by: shitu models add {path}" if any(name.endswith(".onnx") for name in names) else ""
    return f"{wanted}; found {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}{hint}"
