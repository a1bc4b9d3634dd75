"""The five data sets of PaddleDetection's mainbody detector in their original layouts -> images with boxes."""

from __future__ import annotations

import csv
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from shitu.datasets.boxed_image import BoxedImage, boxed_image, inner_path
from shitu.datasets.from_coco import CocoFile
from shitu.datasets.rows import path_problem
from shitu.errors import ImageError, UsageError
from shitu.images.find import is_image_name

Images = Iterable[BoxedImage | ImageError]
MAX_XML = 16 << 20  # bytes; LogoDet-3K's are a few thousand


@dataclass(frozen=True)
class Source:
    """`published` images, rounded to thousands as in PaddleDetection's README of the mainbody detector."""

    title: str
    published: int
    files: str
    read: Callable[[Path], Images]


def read_source(name: str, root: Path) -> Images:
    """The images of a set, paths relative to `root`. Raises UsageError where the layout is another one."""
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder; wanted {SOURCES[name].title} with {SOURCES[name].files}")
    return SOURCES[name].read(root)


def merged(files: Sequence[tuple[str, str]]) -> Iterator[BoxedImage | ImageError]:
    """The images of several COCO files, one file in memory at a time; (prefix of the paths, file).

    Raises UsageError where two images have the same path.
    """
    seen: set[str] = set()
    for prefix, file in files:
        if prefix and (problem := path_problem(prefix)):
            raise UsageError(f"prefix {prefix!r}: {problem}; wanted the folder of the images below dataset_dir")
        for image in CocoFile(file, partial(posixpath.join, prefix)):
            if isinstance(image, BoxedImage):
                if image.file_name in seen:
                    raise UsageError(
                        f"{file}: {image.file_name} is listed twice; tell the files' images apart: PREFIX={file}"
                    )
                seen.add(image.file_name)
            yield image


def _coco(split: str, *files: str) -> Callable[[Path], Images]:
    """A set of one COCO file, whose images lie in the folder `split`."""
    return lambda root: CocoFile(_first(root, *files), lambda name: f"{split}/{name}")


def _objects365(root: Path) -> Images:
    annotations = _first(root, "annotations/zhiyuan_objv2_train.json", "train/zhiyuan_objv2_train.json")

    def where(name: str) -> str:
        """The file says images/v1/patch8/x.jpg, and the archives unpack to train/patch8/x.jpg."""
        short = "/".join(name.split("/")[-2:])
        tried = (name, f"train/{name}", f"train/{short}", f"images/train/{os.path.basename(name)}")
        return next((path for path in tried if os.path.isfile(root / path)), f"train/{short}")

    return CocoFile(annotations, where)


def _icartoonface(root: Path) -> Images:
    annotations = _first(
        root,
        "personai_icartoonface_dettrain_anno_updatedv1.0.csv",
        "personai_icartoonface_dettrain_anno_updatedv1.0/personai_icartoonface_dettrain_anno_updatedv1.0.csv",
        "icartoonface_dettrain.csv",
        "personai_icartoonface_dettrain/icartoonface_dettrain.csv",
    )
    folder = _first(root, "icartoonface_dettrain", "personai_icartoonface_dettrain/icartoonface_dettrain")
    return _boxes_of_csv(annotations, folder.relative_to(root).as_posix())


def _boxes_of_csv(path: Path, folder: str) -> Iterator[BoxedImage | ImageError]:
    """Lines `name,x1,y1,x2,y2` without a header, several for an image with several faces; images are in `folder`."""
    boxes: dict[str, list[tuple[str, object, bool]]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, line in enumerate(csv.reader(file), start=1):
                if not line or (number == 1 and len(line) == 5 and not line[1].strip().replace(".", "").isdigit()):
                    continue  # empty, or a header that somebody added
                if len(line) != 5:
                    raise UsageError(f"{path}:{number}: {len(line)} columns; wanted name,x1,y1,x2,y2")
                boxes.setdefault(line[0], []).append(("face", [_number(value) for value in line[1:]], False))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: {error}; wanted lines name,x1,y1,x2,y2") from None
    for name, faces in boxes.items():
        try:
            yield boxed_image(posixpath.join(folder, inner_path(name)), None, faces)
        except ImageError as error:
            yield error


def _logodet3k(root: Path) -> Images:
    for folder, folders, names in os.walk(root):
        folders.sort()
        images = {os.path.splitext(name)[0]: name for name in sorted(names, reverse=True) if is_image_name(name)}
        for name in sorted(names):
            if name.lower().endswith(".xml"):
                path = Path(folder, name)
                image = images.get(path.stem, f"{path.stem}.jpg")
                yield read_voc(path, path.with_name(image).relative_to(root).as_posix())


def read_voc(path: Path, file_name: str) -> BoxedImage | ImageError:
    """A VOC XML file; `file_name` is the image's, since the name inside is often a stale one.

    A file with a DOCTYPE is refused before anything of it is expanded.
    """
    try:
        if path.stat().st_size > MAX_XML:
            raise ImageError(f"{path}: more than {MAX_XML >> 20} MB of XML; wanted a VOC annotation")
        parser = ElementTree.XMLParser(target=_NoDoctype())
        parser.feed(path.read_bytes())
        tree: ElementTree.Element = parser.close()
        boxes = [
            (item.findtext("name") or "", [_number(item.findtext(f"bndbox/{side}")) for side in SIDES], False)
            for item in tree.iter("object")
        ]
        size = (_number(tree.findtext("size/width")), _number(tree.findtext("size/height")))
        return boxed_image(inner_path(file_name), size, boxes)
    except ImageError as error:
        return error
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        return ImageError(f"{path}: not a VOC annotation ({error}); copy it again")


class _NoDoctype(ElementTree.TreeBuilder):
    def doctype(self, name: str, pubid: str, system: str) -> None:
        raise ImageError(f"a DOCTYPE ({str(name)[:40]}) has no place in a VOC annotation, and is not read; take it out")


SIDES = ("xmin", "ymin", "xmax", "ymax")


def _number(text: str | None) -> float | None:
    """None where it is none, which makes the box one that is none."""
    try:
        return float(text or "")
    except ValueError:
        return None


def _first(root: Path, *candidates: str) -> Path:
    for candidate in candidates:
        if (root / candidate).exists():
            return root / candidate
    raise UsageError(f"{root}: none of {', '.join(candidates)} is there; docs/datasets/mainbody.md shows the layout")


_COCO = _coco("train2017", "annotations/instances_train2017.json", "instances_train2017.json")
_RPC = _coco("train2019", "instances_train2019.json")
SOURCES = {
    "objects365": Source("Objects365", 173_000, "annotations/zhiyuan_objv2_train.json and train/patch*/", _objects365),
    "coco2017": Source("COCO2017", 118_000, "annotations/instances_train2017.json and train2017/", _COCO),
    "icartoonface": Source(
        "iCartoonFace", 48_000, "icartoonface_dettrain.csv and icartoonface_dettrain/", _icartoonface
    ),
    "logodet3k": Source("LogoDet-3K", 155_000, "<group>/<brand>/<number>.jpg and .xml", _logodet3k),
    "rpc": Source("RPC", 54_000, "instances_train2019.json and train2019/", _RPC),
}
