"""`shitu gallery copy`: a gallery from one place to another, of whatever kinds."""

from __future__ import annotations

import click

from shitu.cli import out
from shitu.cli.options import example


@click.command(
    "copy",
    epilog=example("gallery copy my_gallery a_copy"),
)
@click.argument("source", metavar="FROM")
@click.argument("to", metavar="TO")
@click.option("--yes", is_flag=True, help="Replace the gallery that is at TO.")
def copy(source: str, to: str, yes: bool) -> None:
    """Copy a gallery, and compare the copy with what was read; each place is a folder or a URL.

    \b
    postgresql://USER@HOST/DATABASE?gallery=NAME   password: $PGPASSWORD or ~/.pgpass
    milvus://HOST:19530/NAME                       password: $SHITU_MILVUS_TOKEN

    A copy that was broken off goes on when the same command is given again. Entries get new ids.
    """
    from shitu.gallery import open_reader
    from shitu.gallery.copy import copy_gallery

    opened = open_reader(source, load_index=False)
    with out.progress(len(opened), "copying", "entries") as bar:
        done = copy_gallery(opened, to, instead=yes, progress=bar.update)
    out.record({"entries": done.entries, "resumed": done.resumed, "checksum": done.checksum, "from": source, "to": to})
