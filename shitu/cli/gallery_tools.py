"""`shitu gallery undo`, `dedup`, `map`: what is done to a gallery as a whole, or seen of it."""

from __future__ import annotations

import click

from shitu.cli import out
from shitu.cli.gallery import _located, _open
from shitu.cli.options import example


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
