"""`shitu dataset`: list files from public sets and from one's own data, merged and checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shitu.cli import out
from shitu.cli.dataset_check import check
from shitu.cli.dataset_lists import from_coco, from_folder, from_labelme
from shitu.cli.dataset_mainbody import mainbody, mainbody_merge
from shitu.cli.options import InOrder, choice, example, together
from shitu.errors import UsageError

if TYPE_CHECKING:
    from shitu.datasets.convert import Converted


@click.group(cls=InOrder, epilog=example("dataset convert sop datasets/sop -o sop.txt"))
def dataset() -> None:
    """Make, merge and check the list files of a training."""


_writes_list = together(
    click.option("-o", "--output", metavar="FILE", help="The list file to write."),
    choice(
        "--delimiter",
        ("auto", "space", "tab"),
        "Between the columns; auto is a space, or a TAB where a path holds a space.",
    ),
)


@dataset.command(
    epilog=example(
        "dataset convert --list", "dataset convert inshop datasets/inshop -o query.txt --split query --prefix inshop"
    )
)
@click.argument("name", required=False)
@click.argument("root", required=False, type=click.Path(path_type=Path))
@_writes_list
@click.option("--split", default="train", show_default=True, help="Which of the set's lists; see --list.")
@click.option("--offset", type=click.IntRange(0), default=0, show_default=True, help="The first class id.")
@click.option("--prefix", default="", metavar="FOLDER", help="Put before each path, for an image_root above ROOT.")
@click.option("--column", help="Another column for the class; fashion-product-images only.")
@click.option("--check-files", is_flag=True, help="Leave out entries whose image is not there.")
@click.option("--strict", is_flag=True, help="Status 1 where the counts are not the published ones.")
@click.option("--list", "list_sets", is_flag=True, help="Print the sets, their published counts and their splits.")
def convert(name: str | None, root: Path | None, output: str | None, list_sets: bool, strict: bool, **how: Any) -> None:
    """List a public set of PP-ShiTuV2, unpacked at ROOT.

    Writes FILE, lines of path and label, and a classes file beside it. Classes are numbered 0, 1, 2 ... in the natural
    order of their names. docs/datasets has a page for each set.
    """
    from shitu.datasets.convert import convert as run
    from shitu.datasets.public_sets import public_set

    if list_sets:
        _print_sets()
        return
    if not (name and root and output):
        raise UsageError("wanted NAME, ROOT and -o FILE; `shitu dataset convert --list` shows the names")
    source = public_set(name)
    total = source.counts[0] if how["split"] == "train" else None
    with out.progress(total, "reading") as bar:
        done = run(source, root, Path(output), told=bar.update, **how)
    _print_converted(done, output)
    if done.written.refused.count or (strict and done.as_published is False):
        raise SystemExit(1)


def _print_sets() -> None:
    from shitu.datasets.public_sets import PUBLIC_SETS

    rows = [(known.name, *(f"{count:,}" for count in known.counts), ", ".join(known.splits)) for known in PUBLIC_SETS]
    rows.append(("together", *(f"{sum(known.counts[i] for known in PUBLIC_SETS):,}" for i in (0, 1)), ""))
    headers = ["name", "images", "classes", "splits"]
    out.line(out.table(rows, headers, colalign=("left", "right", "right", "left")))


def _print_converted(done: Converted, output: str) -> None:
    (out.log.warning if done.as_published is False else out.log.info)("%s", done.report)
    for left_out, why in ((done.written.missing, "not there"), (done.written.refused, "refused")):
        if left_out.count:
            out.log.warning("%s %s, left out", out.plural(left_out.count, "image"), why)
        for line in left_out.first:
            out.message(f"  {line}")
    mark = ", columns separated by TABs" if done.written.delimiter == "\t" else ""
    out.log.info("Wrote %s%s.", output, mark)


@dataset.command(epilog=example("dataset merge sop.txt inshop.txt -o train_reg_all_data.txt"))
@click.argument("lists", nargs=-1, required=True, type=click.Path(path_type=Path))
@_writes_list
def merge(lists: tuple[Path, ...], output: str | None, **how: Any) -> None:
    """Join lists; class ids follow each other as given.

    Prints each list's first and last id, which is what PKSampler's id_list wants, and writes them beside the list.
    """
    from shitu.datasets.merge import merge as run
    from shitu.datasets.merge import offsets_file

    if not output:
        raise UsageError("wanted -o FILE for the merged list")
    with out.progress(None, "merging") as bar:
        parts = run(lists, Path(output), told=bar.update, **how)
    rows = [(part.first, part.last, f"{part.images:,}", f"{part.classes:,}", part.list) for part in parts]
    out.line(out.table(rows, ["first", "last", "images", "classes", "list"]))
    images, classes = sum(part.images for part in parts), parts[-1].last + 1
    where = offsets_file(Path(output))
    out.log.info("Wrote %s: %s, %d classes; this table: %s.", output, out.plural(images, "image"), classes, where)


@dataset.command(epilog=example("dataset unpack datasets/flower-tfrecords -o 104flowers"))
@click.argument("root", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, metavar="FOLDER", help="Where to write <split>/<class>/<id>.jpeg.")
def unpack(root: Path, output: str) -> None:
    """Unpack the TFRecord files of 104flowers.

    Writes folders of JPEG files, which `convert` reads.
    """
    from shitu.datasets.tfrecords import unpack as run

    with out.progress(None, "unpacking") as bar:
        count = run(root, Path(output), bar.update)
    out.log.info("Wrote %s below %s.", out.plural(count, "image"), output)


for _command in (from_folder, from_labelme, from_coco, check, mainbody, mainbody_merge):
    dataset.add_command(_command)
