"""Query lists: photos whose right answers are known, `path<delimiter>label` and, if wanted, the box of the object."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shitu.build.list_file import read_list
from shitu.errors import ConfigError
from shitu.results import Box

PURPOSE = "it lists photos with what they show"


@dataclass(frozen=True, slots=True)
class Query:
    """One question: what is this? `image` as written, `path` where it lies, `label` the right answer.

    `box`: the object that is meant, xyxy in pixels of the upright photo; None: the photo's one object.
    """

    image: str
    path: str
    label: str
    box: Box | None
    line: int


def read_queries(path: str | Path, image_root: str | Path | None, delimiter: str) -> list[Query]:
    """The lines of a query list: `path<delimiter>label`, optionally `<TAB>x1,y1,x2,y2` in whole pixels.

    Several lines may name one photo, each for one of its objects; further columns are passed over.
    Raises ConfigError, with file and line, for a missing or empty list, a line without label, a box that is none.
    """
    entries = list(read_list(path, image_root, delimiter, name="The query list", purpose=PURPOSE))
    if not entries:
        raise ConfigError(f"{path}: no line in it; {PURPOSE}, one `path<delimiter>label` per line")
    boxes = [box_of("".join(one.more[:1]), f"{path}:{one.line}") for one in entries]
    return [Query(one.image, one.path, one.label, box, one.line) for one, box in zip(entries, boxes, strict=True)]


def box_of(text: str, where: str) -> Box | None:
    """`x1,y1,x2,y2`; None for nothing. Raises ConfigError."""
    if not text:
        return None
    try:
        left, top, right, bottom = (int(part) for part in text.split(","))
    except ValueError:
        left, top, right, bottom = 0, 0, 0, 0
    if not (left < right and top < bottom):
        raise ConfigError(
            f"{where}: {text[:80]!r} is no box; wanted x1,y1,x2,y2 in whole pixels, left < right and top < bottom, or "
            "no third column where the photo shows one thing"
        )
    return left, top, right, bottom
