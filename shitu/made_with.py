"""The settings that a gallery was made with, kept in it, so that they need not be said again.

They stand in for those of the bundled config; what the user says, in a file or by options, wins over them. A gallery
may come from a stranger: only the keys below are read, and of models only names that shitu knows, never a path.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shitu.config import Config, load_config
from shitu.config.layers import Layer
from shitu.errors import GalleryError
from shitu.gallery import settings_of
from shitu.models.folder import model_folders
from shitu.resources import bundled

log = logging.getLogger("shitu")
ENVIRONMENT = "SHITU_GALLERY"
MODELS = ("Global.rec_inference_model_dir", "Global.det_inference_model_dir")
_KEPT = (
    *(f"Global.{key}" for key in ("threshold", "max_det_results", "whole_image", "rec_nms_thresold")),
    *("Global.rec_nms_within_labels", "RecPreProcess.multi_crop", "RecPostProcess.main_indicator"),
    *(f"IndexProcess.{key}" for key in ("crop", "delimiter", "dist_type", "embedding_size", "hamming_radius")),
    *(f"IndexProcess.{key}" for key in ("score_thres", "vote_k")),
)
_OF_BUILDING = ("IndexProcess.crop", "IndexProcess.delimiter")  # they change no answer
_METHOD, _ROOT, _DIR = "RecPostProcess.Binarize.method", "IndexProcess.image_root", "IndexProcess.index_dir"
_LONGEST = 20_000  # characters; ours have some hundred
_SAID: set[str] = set()  # what this process has told already


def settings_to_keep(config: Config) -> str:
    """What a gallery made with `config` remembers, as JSON: the models, and what is not as in the bundled config.

    `image_root` is kept as it lies beside the gallery's folder, so that both can be moved together.
    """
    usual = load_config(None)
    kept = {key: _name_of(_of(config, key)) for key in MODELS}
    kept |= {key: _of(config, key) for key in (*_KEPT, _METHOD) if _of(config, key) != _of(usual, key)}
    index = config.IndexProcess
    if index.image_root and index.index_dir and "://" not in index.index_dir + index.image_root:
        kept[_ROOT] = os.path.relpath(index.image_root, index.index_dir)
    return json.dumps(kept, ensure_ascii=True)


def load_config_for_gallery(path: str | Path | None, overrides: Sequence[str] = ()) -> Config:
    """As load_config; where the file has a base, the gallery's own settings and $SHITU_GALLERY stand in for that.

    Raises ConfigError, and GalleryError where the gallery wants a model by its path and the user names none.
    """
    return load_config(path, overrides, stand_in)


def gallery_of(path: str | Path | None, overrides: Sequence[str] = ()) -> str | None:
    """The gallery that a config names, else $SHITU_GALLERY; nothing in it is read. Raises ConfigError."""
    return load_config(path, overrides, _named).IndexProcess.index_dir


def _named(every: Callable[[str], Any], above: Callable[[str], bool]) -> Layer | None:
    found = None if above(_DIR) else os.environ.get(ENVIRONMENT)
    return Layer(f"${ENVIRONMENT}", {"IndexProcess": {"index_dir": found}}) if found else None


def stand_in(every: Callable[[str], Any], above: Callable[[str], bool]) -> Layer | None:
    """Between the bundled config and what the user says: the gallery of $SHITU_GALLERY, and what it remembers."""
    named = _named(every, above)
    sections: dict[str, dict[str, Any]] = {} if named is None else named.raw
    index_dir = every(_DIR) if named is None else named.raw["IndexProcess"]["index_dir"]
    if not isinstance(index_dir, str) or not index_dir:
        return None
    told = []
    for key, value in _kept_in(index_dir).items():
        if above(key):
            continue
        if key in MODELS and value is not None and not _is_known(value):
            raise GalleryError(_refusal(index_dir, key, value))
        if key == _ROOT:
            if root := _root_beside(index_dir, value):
                _put(sections, key, root)
            continue
        if key not in _OF_BUILDING and every(key) != value:
            told.append(f"{key}={value}")
        _put(sections, key, value)
    if told:
        _say(f"As {index_dir} was made: {', '.join(told)}")
    return Layer(f"the gallery {index_dir}", sections) if sections else None


def image_root_of(index_dir: str) -> str:
    """Where the paths of a gallery's entries begin, as it remembers; "" where it does not, or they are not there."""
    kept = _kept_in(index_dir)
    return _root_beside(index_dir, kept[_ROOT]) if _ROOT in kept else ""


def _root_beside(index_dir: str, kept: Any) -> str:
    root = os.path.relpath(os.path.join(os.path.expanduser(index_dir), str(kept)))
    return root if os.path.isdir(root) else ""  # the gallery was moved without its pictures


def _kept_in(index_dir: str) -> dict[str, Any]:
    """The keys that a gallery remembers, of those that it may; nothing where there is no gallery, or it is no JSON."""
    try:
        text = settings_of(os.path.expanduser(index_dir))
    except GalleryError:
        return {}  # told by who opens it
    if not text:
        return {}
    try:
        found = json.loads(text) if len(text) <= _LONGEST else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        _say(f"Warning: {index_dir} does not say legibly with what settings it was made")
        return {}
    may = (*MODELS, *_KEPT, _METHOD, _ROOT)
    return {key: found[key] for key in may if key in found and not isinstance(found[key], dict)}


def _is_known(model: Any) -> bool:
    """Whether it is the name of a bundled or official model, and nothing that could be a path."""
    if not isinstance(model, str):
        return False
    if model in {path.name for path in model_folders(bundled("models"))}:
        return True
    from shitu.models.known import known_model

    return known_model(model) is not None


def _name_of(model: str | None) -> str | None:
    """The name alone of a model that is not in a folder of the user's: of `./models/NAME` in PaddleClas's configs."""
    if model is None or os.path.isdir(model) or not _is_known(Path(model).name):
        return model
    return Path(model).name


def _refusal(index_dir: str, key: str, value: Any) -> str:
    shown = repr(value)[:200]
    return (
        f"the gallery {index_dir} was made with a model in the folder {shown}; a gallery alone does not make shitu "
        f"load a folder, since it may be a stranger's. If you trust it, say so: -o {key}=FOLDER, or write that into a "
        "config (`shitu init`)"
    )


def _of(config: Config, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part, None)
    return list(value) if isinstance(value, tuple) else value


def _put(sections: dict[str, dict[str, Any]], key: str, value: Any) -> None:
    *above, name = key.split(".")
    here: dict[str, Any] = sections
    for part in above:
        here = here.setdefault(part, {})
    here[name] = value


def _say(text: str) -> None:
    if text not in _SAID:
        _SAID.add(text)
        log.info(text)
