"""Annotation files that are no text tables: iNaturalist's JSON, Stanford Cars' MATLAB files."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from shitu.datasets.layouts.folders import LayoutError, find_file, find_folder, read_image_folder, relative
from shitu.datasets.read_text import read_json
from shitu.datasets.rows import Row
from shitu.errors import ConfigError, UsageError


def read_inaturalist(root: Path, split: str) -> Iterator[Row]:
    """`<split>.json`, such as train2019: images with file_name, annotations with image_id and category_id, perhaps
    categories. The edition of 2017 has its images in `train_val_images`.
    """
    path = find_file(root, f"{split}.json", f"annotations/{split}.json")
    images = relative(find_folder(root, "train_val_images" if split.endswith("2017") else "train_val2019").parent, root)
    content = read_json(path, "a JSON object with images and annotations")
    try:
        files = {image["id"]: str(image["file_name"]) for image in content["images"]}
        names = {category["id"]: str(category["name"]) for category in content.get("categories", [])}
        pairs = [(files[note["image_id"]], note["category_id"]) for note in content["annotations"]]
    except (KeyError, TypeError, AttributeError) as error:
        wanted = "images (id, file_name), annotations (image_id, category_id)"
        raise LayoutError(f"{path}: wanted {wanted}; stumbled over {type(error).__name__} {error}") from error
    for file, category in pairs:
        label, name = str(category), names.get(category, "")
        yield Row(posixpath.join(images, file), label if name in ("", label) else f"{label} {name}")


def read_cars(root: Path, split: str) -> Iterator[Row]:
    """A folder per class, or Stanford's `cars_train/` with `devkit/cars_train_annos.mat`."""
    try:
        images = find_folder(root, f"cars_{split}/cars_{split}", f"cars_{split}")
    except LayoutError:
        return read_image_folder(root, split, f"car_data/{split}", f"car_data/car_data/{split}")
    name = "cars_train_annos.mat" if split == "train" else "cars_test_annos_withlabels.mat"
    notes = find_file(root, f"devkit/{name}", f"car_devkit/devkit/{name}", name)
    return _stanford_cars(relative(images, root), notes)


def _stanford_cars(images: str, notes: Path) -> Iterator[Row]:
    top = notes.parent
    meta = next((path for path in (top / "cars_meta.mat", top / "devkit/cars_meta.mat") if path.is_file()), None)
    names = [str(name) for name in _load_mat(meta, "class_names")] if meta else []
    for note in _load_mat(notes, "annotations"):
        try:
            number, file = int(note["class"]), str(note["fname"])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise LayoutError(f"{notes}: wanted the fields class and fname; stumbled over {error}") from error
        name = names[number - 1] if 1 <= number <= len(names) else ""
        yield Row(posixpath.join(images, file), f"{number} {name}".strip())


def _load_mat(path: Path, variable: str) -> Any:
    """A one-dimensional array of a MATLAB file. loadmat reads numbers, text and structs; it runs nothing."""
    try:
        loadmat = import_module("scipy.io").loadmat
    except ImportError as error:
        raise UsageError(f"{path} needs scipy: pip install 'shitu[train]'") from error
    try:
        return import_module("numpy").atleast_1d(loadmat(str(path), squeeze_me=True)[variable])
    except KeyError:
        raise LayoutError(f"{path}: wanted a variable {variable!r}") from None
    except Exception as error:  # scipy tells of damaged files in many ways
        raise ConfigError(
            f"{path}: not a MATLAB file that can be read ({type(error).__name__}: {error}); fetch it anew"
        ) from error
