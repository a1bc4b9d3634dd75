"""`shitu gallery`: look into a gallery, check it, take entries out of it, export it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shitu.cli import out, sheets
from shitu.cli.options import choice, config_options, example, format_option, reading, together
from shitu.errors import GalleryError, UsageError

if TYPE_CHECKING:
    from shitu.gallery import GalleryReader


@click.group(epilog=example("gallery info my_gallery"))
def gallery() -> None:
    """Inspect, check, change and export a gallery."""


def gallery_url(folder: str | None, config_path: str | None, overrides: tuple[str, ...]) -> str:
    """The gallery's folder or URL: DIR, else as for every command. Raises UsageError, ConfigError."""
    if folder:
        return folder
    from shitu.made_with import ENVIRONMENT, gallery_of

    if config_path is None and not overrides and not os.environ.get(ENVIRONMENT):
        raise UsageError(f"which gallery? Give its folder, -g FOLDER, set ${ENVIRONMENT}, or name a config by -c")
    index_dir = gallery_of(config_path, overrides)
    if not index_dir:
        raise UsageError("IndexProcess.index_dir is empty: give the gallery's folder, or set it in the config")
    return index_dir


_located = reading(
    together(click.argument("folder", metavar="[FOLDER]", required=False), config_options("gallery")),
    "url",
    gallery_url,
)


def _open(url: str) -> GalleryReader:
    from shitu.gallery import open_reader

    return open_reader(url, load_index=False)


@gallery.command(epilog=example("gallery info my_gallery --format table"))
@_located
@format_option("json")
def info(url: str, style: str) -> None:
    """Print what a gallery is: entries, dimension, index, the model that made it."""
    facts = _open(url).info()
    rows = [(name, "" if value is None else str(value)) for name, value in facts.items()]
    out.show(style, facts, lambda: out.table(rows, tablefmt="plain"))


@gallery.command(
    "list", epilog=example("gallery list my_gallery --format table", "gallery list my_gallery | grep '\"green tea\"'")
)
@_located
@choice(
    "--format",
    ("json", "table", *sheets.STYLES),
    "json: id, label, image, sha256 and box, an entry per line; table: how many pictures there are of each thing.",
    "style",
)
def list_command(url: str, style: str) -> None:
    """Print every entry, or what is in the gallery."""
    if style == "table":
        _print_things(url)
        return
    if style in sheets.STYLES:
        with sheets.Sheet(style, sheets.ENTRY) as sheet:
            for item in _open(url).items():
                entry = {"id": item.id, "label": item.label, "image": item.image, "sha256": item.sha256}
                sheet.add([entry | sheets.box(item.box)])
        return
    for item in _open(url).items():
        box = list(item.box) if item.box else None
        out.record({"id": item.id, "label": item.label, "image": item.image, "sha256": item.sha256, "box": box})


def _print_things(url: str) -> None:
    """The labels by their names, and the pictures of each; an image of which several boxes were cut out is one."""
    pictures: dict[str, set[str]] = {}
    for item in _open(url).items():
        pictures.setdefault(item.label, set()).add(item.image)
    rows = [[" ".join(label.split()), f"{len(pictures[label]):,}"] for label in sorted(pictures)]
    out.line(out.table(rows, ["thing", "pictures"], colalign=("left", "right")))
    count = sum(map(len, pictures.values()))
    out.log.info("%s of %s in %s", out.plural(count, "picture"), out.plural(len(pictures), "thing"), url)


@gallery.command(epilog=example("gallery verify my_gallery"))
@_located
def verify(url: str) -> None:
    """Read every byte of a gallery and print what is wrong, a line each. Status 1 if anything is."""
    path = Path(url)
    try:
        empty = "://" not in url and not (path.is_dir() and any(path.iterdir()))
    except OSError as error:
        raise GalleryError(f"{path} cannot be read ({error.strerror}): check its access rights") from error
    if empty:
        raise GalleryError(f"there is no gallery in {path}: build one with `shitu build-gallery PHOTOS -g {path}`")
    unchecked: list[str] = []
    try:
        opened = _open(url)
        unchecked, problems = opened.unchecked(), opened.verify()
    except GalleryError as error:
        problems = [str(error)]
    for sentence in unchecked:
        out.message(sentence)
    for problem in problems:
        out.line(problem)
    if problems:
        raise SystemExit(1)
    ours = opened.info()["format"] not in ("paddleclas", "paddlex") and not unchecked
    out.message("The gallery is sound." if ours else "Nothing is wrong that can be checked.")


@gallery.command(
    epilog=example(
        "gallery remove my_gallery --label 'green tea' --id 17", "gallery remove my_gallery --list unwanted.txt"
    )
)
@_located
@click.option("--id", "ids", type=click.IntRange(min=0), multiple=True, help="An entry's id; may be repeated.")
@click.option("--label", "labels", multiple=True, help="All entries of this label; may be repeated.")
@click.option(
    "--image", "images", multiple=True, help="All entries of this image, as `list` prints it; may be repeated."
)
@click.option(
    "--list",
    "list_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file of ids, or of `path<TAB>label` lines as in data_file, one per line.",
)
def remove(
    url: str, ids: tuple[int, ...], labels: tuple[str, ...], images: tuple[str, ...], list_file: Path | None
) -> None:
    """Take entries out of a gallery. Status 1 if no request matched anything."""
    from shitu.gallery import open_writer

    if not (ids or labels or images or list_file):
        raise UsageError("nothing to remove: give --id, --label, --image or --list")
    opened = _open(url)
    wanted = {f"--id {number}": opened.find(ids=[number]) for number in ids}
    wanted |= {f"--label {label}": opened.find(labels=[label]) for label in labels}
    wanted |= {f"--image {image}": opened.find(images=[image]) for image in images}
    if list_file:
        wanted |= _listed(opened, list_file)
    unmatched = [request for request, found in wanted.items() if not found]
    with open_writer(url) as writer:
        change = writer.begin()
        change.remove({number for found in wanted.values() for number in found})
        removed = change.commit().removed
    for request in unmatched:
        out.message(f"{request}: no such entry")
    out.record({"removed": removed, "entries": len(opened.refreshed()), "unmatched": unmatched})
    if removed == 0:
        raise SystemExit(1)


def _listed(opened: GalleryReader, path: Path) -> dict[str, list[int]]:
    """The ids that each line of a list file asks for, keyed by where the line stands. Raises UsageError."""
    from shitu.gallery.foreign import split_entry

    requests: dict[str, tuple[str, str]] = {}
    wanted: dict[str, list[int]] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is not UTF-8 text ({error}); convert it first, for Chinese text often: iconv -f GB18030"
        ) from error
    for number, line in enumerate(lines, start=1):
        where = f"{path}:{number}: {line.strip()}"
        if line.strip().isdecimal():
            wanted[where] = opened.find(ids=[int(line)])
        elif line.strip():
            wanted[where], requests[where] = [], split_entry(line, "\t")
            if not all(requests[where]):
                raise UsageError(f"{where}: wanted an id, or a path, TAB and a label")
    by_pair: dict[tuple[str, str], list[int]] = {}
    for item in opened.lookup(opened.find(images={image for image, _ in requests.values()})).values():
        by_pair.setdefault((item.image, item.label), []).append(item.id)
    return wanted | {where: by_pair.get(pair, []) for where, pair in requests.items()}


@gallery.command(epilog=example("gallery compact my_gallery"))
@_located
def compact(url: str) -> None:
    """Write a gallery anew without what was removed from it, and with a new index. Ids stay."""
    from shitu.gallery import open_writer

    before = _open(url).info().get("bytes")
    with open_writer(url) as writer:
        writer.compact()
    opened = _open(url)
    out.record({"entries": len(opened), "bytes_before": before, "bytes": opened.info().get("bytes")})


@gallery.command(
    epilog=example(
        "gallery export my_gallery --to for_paddleclas", "gallery export my_gallery --to for_paddlex --format paddlex"
    )
)
@_located
@click.option("--to", "out_dir", required=True, type=click.Path(file_okay=False, path_type=Path), help="Where to.")
@choice("--format", ("paddleclas", "paddlex"), "Whose format.", "form")
def export(url: str, out_dir: Path, form: str) -> None:
    """Write a gallery as PaddleClas (vector.index, id_map.pkl) or PaddleX (vector.index, id_map.yaml) keeps one."""
    from shitu.gallery.export import export_gallery

    count = export_gallery(_open(url), out_dir, form)
    out.record({"entries": count, "to": str(out_dir), "format": form})
