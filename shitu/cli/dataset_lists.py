"""`shitu dataset from-folder`, `from-labelme`, `from-coco`: own data -> list files."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shitu.cli import out
from shitu.cli.options import Within, example, reading, together
from shitu.errors import UsageError

if TYPE_CHECKING:
    from shitu.datasets.rows import Row
    from shitu.errors import ImageError


# -o, --split, --by-class, --seed, --gallery, --unknown.
output_options = together(
    click.option(
        "-o",
        "--output",
        required=True,
        metavar="PATH",
        help="The list file; with --split the folder for train.txt and the others.",
    ),
    click.option(
        "--split",
        metavar="SHARES",
        help="E.g. train=0.8,query=0.1,gallery=0.1, or train=0.9,val=0.1; val is query and gallery at once, and has "
        "three columns.",
    ),
    click.option(
        "--by-class/--by-image",
        default=True,
        show_default=True,
        help="By class: the classes of query, gallery and val are not in train, so recall is that of things never "
        "trained on, which is what a gallery is for. By image: every class is in every list.",
    ),
    click.option("--seed", type=int, default=0, show_default=True, help="Another seed, another split."),
    click.option(
        "--gallery",
        is_flag=True,
        help="Write path<TAB>label text, as build-gallery and evaluate read it, instead of numbered labels.",
    ),
    click.option(
        "--unknown",
        type=Within(0, 1, max_open=True),
        default=0.0,
        metavar="SHARE",
        help="With a query part: all images of this share of its classes go to query, so that the gallery does not "
        "know them; evaluate and calibrate need such to find a threshold.",
    ),
)


@dataclass(frozen=True)
class _Output:
    """What the output options say. Raises UsageError where they do not go together, before any work."""

    output: str
    split: str | None
    by_class: bool
    seed: int
    gallery: bool
    unknown: float

    def __post_init__(self) -> None:
        if self.unknown and "query" not in self.shares:
            raise UsageError("--unknown takes classes for the query part; add such as --split query=0.3,gallery=0.7")

    @cached_property
    def shares(self) -> dict[str, float]:
        """Of each part; none without --split."""
        from shitu.datasets.split import parse_shares

        return parse_shares(self.split) if self.split else {}

    def parts(self, rows: list[Row], failed: list[tuple[str, str]]) -> dict[str, list[Row]]:
        """The parts of the split; without one, all rows are `train`."""
        from shitu.datasets.split import split_rows

        if not rows:
            out.failures(failed)
            raise UsageError(
                "no image with a label was found; nothing is written. Is this the folder, or file, of your data?"
            )
        if not self.shares:
            return {"train": rows}
        return split_rows(rows, self.shares, seed=self.seed, by_class=self.by_class, unknown=self.unknown)

    def write(self, parts: dict[str, list[Row]], failed: list[tuple[str, str]], image_root: str) -> None:
        """Write the lists, say what they are, and end with status 1 where images failed."""
        from shitu.datasets.write_list import write_parts

        whole = Path(self.output)
        paths = {name: whole / f"{name}.txt" if self.split else whole for name in parts}
        lists = list(write_parts(parts, paths, text=self.gallery))
        out.failures(failed)
        for one in lists:
            out.log.info(f"{one.path}: {out.plural(one.images, 'image')} of {one.classes:,} classes, {one.columns}")
        out.log.info(f"Paths are below {image_root}: that is the image_root of these lists.")
        out.end_with(failed)


with_output = reading(output_options, "into", _Output)


@click.command("from-folder", epilog=example("dataset from-folder demo/gallery -o train.txt"))
@click.argument("root")
@click.option(
    "--depth", type=click.IntRange(1), default=1, show_default=True, help="How many folder levels name a class."
)
@with_output
def from_folder(root: str, depth: int, into: _Output) -> None:
    """A folder per class -> list files. What lies deeper than the class folder belongs to the class."""
    from shitu.datasets.from_folder import read_folder

    rows, failed = _collect(([row] for row in read_folder(root, depth)), None)
    into.write(into.parts(rows, failed), failed, root)


@click.command("from-labelme", epilog=example("dataset from-labelme photos -o train.txt --crops crops"))
@click.argument("root")
@click.option("--crops", metavar="DIR", help="Cut out each shape's box into this new folder and list those.")
@click.option("--min-size", type=click.IntRange(1), default=1, help="Leave out crops with fewer pixels on a side.")
@with_output
def from_labelme(root: str, crops: str | None, min_size: int, into: _Output) -> None:
    """LabelMe's JSON files beside the images -> list files.

    Without --crops an image is listed whole, with the one label that all its shapes (or its flags) have.
    """
    from shitu.datasets.from_labelme import find_labelme, read_labelme

    names = find_labelme(root)
    _boxes_to_lists(
        (read_labelme(root, name) for name in names), len(names), root, into, crops=crops, min_size=min_size
    )


@click.command("from-coco", epilog=example("dataset from-coco instances.json --image-root images --whole -o a.txt"))
@click.argument("annotations")
@click.option("--image-root", metavar="DIR", help="The folder of the images.  [default: that of the annotations]")
@click.option("--crops", metavar="DIR", help="Cut out each box into this new folder and list those.")
@click.option("--whole", is_flag=True, help="List whole images, those with boxes of one category.")
@click.option("--min-size", type=click.IntRange(1), default=1, help="Leave out crops with fewer pixels on a side.")
@with_output
def from_coco(
    *, annotations: str, image_root: str | None, crops: str | None, whole: bool, min_size: int, into: _Output
) -> None:
    """A COCO annotation file -> list files, labels being the categories."""
    from shitu.datasets.from_coco import CocoFile

    if bool(crops) == whole:
        raise UsageError("give --crops DIR for a crop per box, or --whole for whole images")
    coco = CocoFile(annotations)
    root = image_root or str(Path(annotations).parent)
    _boxes_to_lists(coco, len(coco), root, into, crops=crops, min_size=min_size)


def _boxes_to_lists(images: Any, total: int, root: str, into: _Output, *, crops: str | None, min_size: int) -> None:
    from shitu.datasets.crops import new_folder, whole_images, write_crops

    with ExitStack() as stack:
        if crops:
            folder = stack.enter_context(new_folder(Path(crops)))
            found = write_crops(images, root, folder, min_size=min_size)
        else:
            found = whole_images(images, root)
        rows, failed = _collect(found, total)
        parts = into.parts(rows, failed)  # may refuse, and then no crops stay behind
    into.write(parts, failed, crops or root)


def _collect(found: Iterable[list[Row | ImageError]], total: int | None) -> tuple[list[Row], list[tuple[str, str]]]:
    from shitu.datasets.rows import Row

    rows: list[Row] = []
    failed: list[tuple[str, str]] = []
    with out.progress(total, "reading") as bar:
        for batch in found:
            rows += [one for one in batch if isinstance(one, Row)]
            failed += [("", str(one)) for one in batch if not isinstance(one, Row)]
            bar.update(1)
    return rows, failed
