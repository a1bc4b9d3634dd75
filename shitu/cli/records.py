"""Records of pictures: each printed as soon as it is there, its annotated picture written beside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple

from shitu.cli import out, sheets

if TYPE_CHECKING:
    from shitu.images.read import Picture
    from shitu.results import DetectedObjects, Recognition


class Shown(NamedTuple):
    """How results are told."""

    style: str
    pictures: bool
    unnamed: bool = False


def finish(
    records: Iterable[tuple[Picture | None, Recognition | DetectedObjects]],
    total: int | None,
    output_dir: str | None,
    shown: Shown,
) -> None:
    """Print every record as soon as it is there, draw beside it, end with status 1 where an image failed."""
    from shitu.draw import draw_recognition, draw_unnamed
    from shitu.draw.annotated_writer import PictureWriter

    draw = draw_unnamed if shown.unnamed else draw_recognition
    counts, table = Counter[str](), out.Rows(["image", "label", "score", "det", "x1 y1 x2 y2"])
    with (
        PictureWriter(output_dir, draw if shown.pictures else None) as writer,
        out.progress(total, "images") as bar,
        sheets.Sheet(shown.style, sheets.REGION) if shown.style in sheets.STYLES else nullcontext() as sheet,
    ):
        for image, record in records:
            counts.update(_counts(record))
            if record.error is not None:
                out.log.error("Failed: %s", record.error)
            if image is not None:
                writer.write(record.image, image, record)
            if sheet is not None:
                sheet.add(sheets.regions(record.to_dict(unnamed=shown.unnamed)))
            elif shown.style == "table":
                table.add(_rows(record, shown.unnamed))
            else:
                out.record(record.to_dict(unnamed=shown.unnamed))
            bar.update()
    out.log.info(_closing(counts, writer.count, output_dir))
    if counts["failed"] or writer.failed:
        raise SystemExit(1)


def _counts(record: Recognition | DetectedObjects) -> dict[str, int]:
    found = {"images": 1, "failed": int(record.error is not None)}
    if hasattr(record, "unnamed"):
        return found | {"named": len(record.regions), "no name": len(record.unnamed)}
    return found | {"found": len(record.regions)}  # the detector alone names nothing


def _closing(counts: Counter[str], pictures: int, folder: str | None) -> str:
    """What came of it, in one line."""
    words = [f"{out.plural(counts[key], 'object')} {key}" for key in ("found", "named") if key in counts]
    words += [f"{counts['no name']:,} without a name"] if "no name" in counts else []
    words += [f"{out.plural(counts['failed'], 'image')} failed"] if counts["failed"] else []
    told = f"{out.plural(counts['images'], 'image')}: {', '.join(words) or 'nothing'}"
    return f"{told}; {out.plural(pictures, 'annotated picture')} in {folder}" if pictures else told


def _rows(record: Recognition | DetectedObjects, unnamed: bool) -> list[list[str]]:
    rows = []
    for region in record.regions:
        scores = [region.score, getattr(region, "det_score", None)]  # a Detection has one score
        cells = ["" if score is None else f"{score:.3f}" for score in scores]
        rows.append([record.image, region.label, *cells, " ".join(map(str, region.bbox))])
    for region in getattr(record, "unnamed", ()) if unnamed else ():
        rows.append([record.image, "(no name)", "", f"{region.det_score:.3f}", " ".join(map(str, region.bbox))])
    return rows or [[record.image, "(nothing)" if record.error is None else "(failed)", "", "", ""]]
