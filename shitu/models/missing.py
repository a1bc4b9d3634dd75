"""What to say of a model that was not found."""

from __future__ import annotations

from collections.abc import Sequence
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
