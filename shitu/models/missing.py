"""What to say where there is no model: of a name that was not found, and of a folder that holds none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from shitu.models.known import KNOWN_MODELS, known_model, nearest


def not_found(path: Path, task: str | None, bundled: Path, downloads: Path, here: Sequence[Sequence[str]]) -> str:
    """`here`: the names of the models in the two homes, `bundled` and `downloads`."""
    kind = f"{task} model" if task else "model"
    looked = f"no {kind} {path}: there is no such folder, and no {path.name} in {bundled} or {downloads}"
    known = known_model(path.name)
    if known and known.url:
        return f"{looked}; get it by: shitu models download {known.name}"
    if known:
        return f"{looked}; no address of it is known: place its folder at {downloads / known.name}"
    near = nearest(path.name, [*here[0], *here[1], *(model.name for model in KNOWN_MODELS)])
    hint = f"; did you mean {near}?" if near else ""
    return f"{looked}{hint}; bundled models: {', '.join(here[0]) or 'none'}"


def no_model_in(path: Path, holds_program: Callable[[Path], bool]) -> str:
    """What a folder without a program holds, and what that may mean."""
    names = sorted(entry.name for entry in path.iterdir())
    wanted = "wanted inference.json or inference.pdmodel, and inference.pdiparams"
    inner = next((path / name for name in names if holds_program(path / name)), None)
    if not names:
        found = f"it is empty; {wanted}"
    elif inner:
        found = f"{wanted}; did you mean {inner}?"
    elif any(name.endswith(".pdparams") for name in names):
        found = f"its .pdparams are weights for training, to be exported first; {wanted}"
    else:
        found = f"{wanted}; found {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}"
    return f"{path} holds no model: {found}; see `shitu models list`"
