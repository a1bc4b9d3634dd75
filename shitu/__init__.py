"""PP-ShiTu image recognition: find the objects in a photo, name them from a gallery.

import shitu

mine = shitu.open("my_gallery")
for photo in mine.predict("shelf.jpg"):
    for region in photo:
        print(region.label, region.score, region.bbox)
"""

from __future__ import annotations

from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Imported when first used: `shitu --help` needs none of it.
_PLACES = {
    "api.open": ("open",),
    "api.pipeline": ("Pipeline",),
    "api.answers": ("Answer", "Answers"),
    "api.client": ("Client",),
    "config": ("Config", "load_config"),
    "images.read": ("read_image", "decode_image"),
    "gallery.base": ("Item",),
    "gallery.gallery": ("Gallery",),
    "build.builder": ("GalleryBuilder",),
    "recognise.from_config": ("DetPredictor", "RecPredictor", "SystemPredictor"),
    "results": ("Detection", "Match", "Region", "Recognition"),
    "errors": ("ShituError", "ServiceError"),
}

if TYPE_CHECKING:
    from shitu.api.answers import Answer as Answer
    from shitu.api.answers import Answers as Answers
    from shitu.api.client import Client as Client
    from shitu.api.open import open as open
    from shitu.api.pipeline import Pipeline as Pipeline
    from shitu.build.builder import GalleryBuilder as GalleryBuilder
    from shitu.config import Config as Config
    from shitu.config import load_config as load_config
    from shitu.errors import ServiceError as ServiceError
    from shitu.errors import ShituError as ShituError
    from shitu.gallery import Item as Item
    from shitu.gallery.gallery import Gallery as Gallery
    from shitu.images.read import decode_image as decode_image
    from shitu.images.read import read_image as read_image
    from shitu.recognise.from_config import DetPredictor as DetPredictor
    from shitu.recognise.from_config import RecPredictor as RecPredictor
    from shitu.recognise.from_config import SystemPredictor as SystemPredictor
    from shitu.results import Detection as Detection
    from shitu.results import Match as Match
    from shitu.results import Recognition as Recognition
    from shitu.results import Region as Region


def __getattr__(name: str) -> Any:
    for place, names in _PLACES.items():
        if name in names:
            return getattr(import_module(f"shitu.{place}"), name)
    raise AttributeError(f"module 'shitu' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *chain.from_iterable(_PLACES.values())])
