"""`shitu.open`: from a gallery's folder to what names pictures by it."""

from __future__ import annotations

import gc
import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shitu.api.pipeline import Pipeline


def open(where: str | os.PathLike[str] | None = None, *overrides: str) -> Pipeline:
    """Open a gallery's folder (or URL) with the models and settings it was made with, or all that a config.yaml names.

    None is the bundled inference_general.yaml. `overrides` are those of `-o`: `shitu.open("mine",
    "IndexProcess.score_thres=0.3")`. Raises ConfigError, ModelError, EngineError, GalleryError.
    """
    collecting = gc.isenabled()
    gc.disable()  # what is imported now is a million objects, none of them garbage: see cli/options.py, read_config
    try:
        from shitu.api.pipeline import Pipeline
        from shitu.made_with import load_config_for_gallery

        place = None if where is None else os.fspath(where)
        if place is None or (place.lower().endswith((".yaml", ".yml")) and not os.path.isdir(place)):
            return Pipeline(load_config_for_gallery(place, overrides))
        gallery = f"IndexProcess.index_dir={json.dumps(place, ensure_ascii=False)}"
        return Pipeline(load_config_for_gallery(None, (*overrides, gallery)))
    finally:
        if collecting:
            gc.enable()
