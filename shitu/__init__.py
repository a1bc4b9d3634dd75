"""PP-ShiTu image recognition: find the objects in a photo, name them from a gallery.

from shitu import SystemPredictor, load_config, read_image

predictor = SystemPredictor(load_config("configs/inference_general.yaml"))
(result,) = predictor.predict([read_image("photo.jpg")], ["photo.jpg"])
for region in result.regions:
    print(region.bbox, region.label, region.score)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Imported when first used: `shitu --help` needs none of it.
_PLACES = {
    "Config": "config",
    "load_config": "config",
    "read_image": "images.read",
    "decode_image": "images.read",
    "Gallery": "gallery.gallery",
    "Item": "gallery",
    "GalleryBuilder": "build.builder",
    "DetPredictor": "recognise.from_config",
    "RecPredictor": "recognise.from_config",
    "SystemPredictor": "recognise.from_config",
    "Detection": "results",
    "Match": "results",
    "Region": "results",
    "Recognition": "results",
    "ShituError": "errors",
}

if TYPE_CHECKING:
    from shitu.build.builder import GalleryBuilder as GalleryBuilder
    from shitu.config import Config as Config
    from shitu.config import load_config as load_config
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
    if name not in _PLACES:
        raise AttributeError(f"module 'shitu' has no attribute {name!r}")
    return getattr(import_module(f"shitu.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
