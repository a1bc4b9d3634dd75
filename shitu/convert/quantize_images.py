"""The photos by which a network is quantised: named by a list, a folder or a gallery; read once, in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from shitu.errors import ConfigError, ImageError, UsageError
from shitu.gallery import open_reader
from shitu.images.find import find_images
from shitu.images.read import Picture
from shitu.images.read_ahead import read_ahead
from shitu.list_line import split_label

T = TypeVar("T")
FEW = 30  # photos below which ranges depend on which ones they are


@dataclass(frozen=True)
class Photo:
    """Where a photo lies, and what it shows, where that is known."""

    path: str
    label: str = ""


def listed_photos(images: str, root: str | None = None) -> list[Photo]:
    """The photos that `images` means: a list file (`path<TAB>label`, or a path alone), a gallery folder, a folder.

    Paths of a list or a gallery start at `root`. Raises UsageError, ConfigError and GalleryError.
    """
    place = Path(images).expanduser()
    if place.is_dir() and (place / "gallery.json").is_file():
        with closing(open_reader(str(place))) as gallery:
            items = [Photo(os.path.join(root or "", item.image), item.label) for item in gallery.items()]
        return list({photo.path: photo for photo in items}.values())
    if place.is_dir():
        return [Photo(path) for path in find_images([str(place)])]
    try:
        lines = place.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{place} is no list of images in UTF-8 ({error.reason}); wanted `path<TAB>label` lines, or a folder"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{place}: {error.strerror}; wanted a list of photos, a folder of them, or a gallery"
        ) from error
    found = []
    for line in lines:
        name, *columns = split_label(line, "\t")
        if name:
            found.append(Photo(os.path.join(root or "", name), *columns[:1]))
    if not found:
        raise UsageError(f"{place}: no photo in it; wanted at least {FEW} that look like those to come")
    return found


def spread(photos: Sequence[Photo], count: int) -> list[Photo]:
    """`count` of them at even distances, so that a list sorted by label gives some of each."""
    if count >= len(photos):
        return list(photos)
    return [photos[number * len(photos) // count] for number in range(count)]


def read_photos(photos: Sequence[Photo], prepare: Callable[[Picture], T]) -> tuple[list[tuple[Photo, T]], list[str]]:
    """What `prepare` makes of those that can be read, (h, w, 3) uint8 RGB, and what is said of the others."""
    found, bad = [], []
    for photo, (_, image) in zip(photos, read_ahead(each.path for each in photos), strict=True):
        if isinstance(image, ImageError):
            bad.append(str(image))
        else:
            found.append((photo, prepare(image)))
    return found, bad
