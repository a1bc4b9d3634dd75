"""The main bodies of the gallery images as files, with a list of them, to weed out by hand before indexing."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image

from shitu.build.list_file import Entry, read_list
from shitu.config import Config
from shitu.errors import ConfigError, ImageError, UsageError
from shitu.images.read import read_image
from shitu.recognise.from_config import DetPredictor

LIST_NAME = "crops.txt"


def write_crops(
    config: Config,
    folder: str,
    progress: Callable[[int], object] = lambda count: None,
    entries: Iterable[Entry] | None = None,
) -> tuple[str, list[tuple[str, str]]]:
    """Write what `IndexProcess.crop` says of each entry (default: the list's) as JPEG: bodies, or the largest one.

    Returns what was done and what comes next, in words, and (path, reason) of each image that failed.
    """
    index = config.IndexProcess
    if index.crop == "none":
        raise ConfigError("IndexProcess.crop is none, so there are no crops; add -o IndexProcess.crop=all (or largest)")
    if entries is None and not index.data_file:
        raise ConfigError(
            "IndexProcess.data_file is empty; it lists the images to crop: -o IndexProcess.data_file=LIST"
        )
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is not an empty folder; give a new one, nothing is overwritten")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{target}: cannot make this folder: {error.strerror}; name another") from None
    detector = DetPredictor(config)
    lines: list[str] = []
    failed: list[tuple[str, str]] = []
    listed = entries if entries is not None else read_list(index.data_file or "", index.image_root, index.delimiter)
    for entry in listed:
        progress(1)
        try:
            image = read_image(entry.path)
        except ImageError as error:
            failed.append((entry.path, str(error)))
            continue
        boxes = detector.bodies(image, index.crop)
        for number, (left, top, right, bottom) in enumerate(boxes):
            name = f"{entry.line:07d}_{number}_{os.path.splitext(os.path.basename(entry.image))[0]}.jpg"
            Image.fromarray(image[top:bottom, left:right]).save(target / name, quality=95)
            lines.append(f"{name}\t{entry.label}\n")
    (target / LIST_NAME).write_text("".join(lines), encoding="utf-8")
    settings = {"image_root": target, "data_file": target / LIST_NAME, "crop": "none", "delimiter": "\\t"}
    if index.index_dir:
        settings["index_dir"] = index.index_dir
    advice = " ".join(f"-o {shlex.quote(f'IndexProcess.{key}={value}')}" for key, value in settings.items())
    done = f"{len(lines)} crops in {target}. Delete those that are wrong, then (with your other options):\n"
    return f"{done}  shitu build-gallery -c {shlex.quote(config.source)} --skip-missing {advice}", failed
