"""`shitu gallery undo`, `dedup`, `map`, `tune`: what is done to a gallery as a whole, or seen of it."""

from __future__ import annotations

from pathlib import Path

import click

from shitu.cli import out
from shitu.cli.gallery import _located, _open
from shitu.cli.options import example
from shitu.errors import GalleryError


@click.command(epilog=example("gallery undo my_gallery"))
@_located
def undo(url: str) -> None:
    """Take back the last append, removal or build; once more, and it is as before.

    What undoes it is kept until the next change, or `shitu gallery compact`. No vector is copied; where a build
    replaced a gallery, the old one stays on disk until then.
    """
    from shitu.gallery import open_writer

    before = _open(url)
    with open_writer(url) as writer:
        writer.undo()
    out.record({"entries_before": len(before), "entries": len(_open(url))})


@click.command(epilog=example("gallery dedup my_gallery", "gallery dedup my_gallery --cosine 0.98 --remove"))
@_located
@click.option(
    "--cosine",
    type=click.FloatRange(0, 1),
    default=0.995,
    show_default=True,
    help="How near two vectors are that count as the same picture.",
)
@click.option("--remove", "really", is_flag=True, help="Remove what is found; without it, nothing is changed.")
def dedup(url: str, cosine: float, really: bool) -> None:
    """List entries that are in a gallery twice: the same file or nearly the same picture, one label.

    Of each such group the entry with the lowest id stays. The same picture under two labels is listed as a
    contradiction and never removed: nobody can tell which label is right.
    """
    from shitu.gallery import open_writer
    from shitu.gallery.duplicates import find_duplicates

    opened, unwanted, contradictions, removed = _open(url), [], 0, 0
    with out.progress(len(opened), "comparing", "entries"):
        for found in find_duplicates(opened, cosine):
            pair = {"id": found.item.id, "label": found.item.label, "image": found.item.image}
            pair |= {"duplicate_of": found.of.id, "cosine": found.cosine, "same_file": found.same_file}
            if found.contradicts:
                contradictions += 1
                pair["other_label"] = found.of.label
            else:
                unwanted.append(found.item.id)
            out.record(pair)
    if really and unwanted:
        with open_writer(url) as writer:
            change = writer.begin()
            change.remove(unwanted)
            removed = change.commit().removed
    entries = len(opened) - removed
    out.record({"duplicates": len(unwanted), "contradictions": contradictions, "removed": removed, "entries": entries})
    if unwanted and not really:
        out.log.info("Nothing was removed; --remove removes %s.", out.plural(len(unwanted), "duplicate"))


@click.command("map", epilog=example("gallery map my_gallery --html map.html --image-root demo"))
@_located
@click.option("--html", "page", required=True, type=click.Path(path_type=Path), metavar="FILE.html", help="Where to.")
@click.option(
    "--image-root",
    metavar="DIR",
    help="Where the paths of the entries begin.  [default: where they did when it was built, else here]",
)
@click.option("--most", type=click.IntRange(min=1), default=2000, show_default=True, help="Entries shown at most.")
def map_gallery(url: str, page: Path, image_root: str | None, most: int) -> None:
    """Write a page that shows a gallery: what looks alike lies together, doubtful entries are marked.

    Doubtful is an entry whose nearest neighbour has another label. The page holds its pictures and needs no network.
    """
    from shitu.evaluation.gallery_map import write_map
    from shitu.made_with import image_root_of

    opened = _open(url)
    root = image_root_of(url) if image_root is None else image_root
    count, doubtful = write_map(opened, page, image_root=root, most=most)
    out.record({"entries": len(opened), "shown": count, "doubtful": doubtful, "to": str(page)})


@click.command(epilog=example("gallery tune my_gallery --recall 0.99"))
@_located
@click.option(
    "--recall",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.99,
    show_default=True,
    help="How many of the nearest entries are to be found, of those that comparing with everything finds.",
)
@click.option(
    "--neighbours", type=click.IntRange(1, 100), default=1, show_default=True, help="So many nearest entries count."
)
@click.option("--queries", type=click.IntRange(10), default=300, show_default=True, help="How many are measured.")
def tune(url: str, recall: float, neighbours: int, queries: int) -> None:
    """Measure how thoroughly a gallery must be searched, and write it into the gallery.

    Asks for the neighbours of its own entries, exactly and by its index, twice as thoroughly each time until the
    recall is reached: efSearch of HNSW, nprobe of IVF, of others how many are compared exactly. A config that says
    efSearch or nprobe overrules it. Do it again when the gallery has doubled, or has another index.
    """
    from shitu.gallery.reader import FolderReader
    from shitu.gallery.tune import remember, tuned

    reader = _open(url)
    if not isinstance(reader, FolderReader) or reader.info()["format"] != "shitu-gallery":
        raise GalleryError(f"{url} is searched by others, or is another program's: only a folder of shitu's is tuned")
    index, last = reader.searched().index, None
    for last in tuned(reader, recall, neighbours=neighbours, queries=queries):
        out.log.info("%d: recall %.4f, %.2f ms for six queries", last.value, last.recall, last.milliseconds)
    if last is None or index is None:
        out.record({"exact": True, "recall": 1.0})
        out.log.info("%s entries are compared exactly, which misses nothing.", f"{len(reader):,}")
        return
    remember(Path(url), index.knob, last.value)
    out.record({index.knob: last.value, "recall": round(last.recall, 4), "ms": round(last.milliseconds, 2)})
    if last.recall < recall:
        out.log.warning("Recall %.4f is the most that this index gives; Flat, or auto, finds more.", last.recall)
