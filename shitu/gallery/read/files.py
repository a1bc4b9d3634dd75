"""The files of a gallery before they are opened: a stranger's may be pipes or links, and ours may not be readable.

What is wrong with rights is not called damage: a rebuild would not help.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shitu.errors import GalleryError

# What stands behind a super-journal's name in a journal of SQLite. Ours have none; a roll-back deletes that file.
_JOURNAL_MAGIC = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"


def size_of(path: Path) -> int:
    """How many bytes a regular file has that may be read. Raises FileNotFoundError, GalleryError."""
    with readable(path):
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise GalleryError(f"{path} is a pipe, a folder or a device, wanted a file: copy the gallery again")
        path.open("rb").close()
    return status.st_size


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Say of a failed read what it is; a missing file stays FileNotFoundError."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise
    except PermissionError as error:
        raise GalleryError(
            f"{error.filename or path} may not be read ({error.strerror}): check its access rights, and those of the "
            "folders above it; the gallery itself may be sound"
        ) from error
    except OSError as error:
        raise GalleryError(
            f"{error.filename or path} could not be read ({error.strerror or error}): check the disk or the network, "
            "and try again"
        ) from error


def refuse_links(index_dir: Path) -> None:
    """Before anything is written: a link in a stranger's gallery would let us write, or cut off, what it points to."""
    with readable(index_dir):
        for entry in _entries(index_dir):
            inside = _entries(Path(entry.path)) if entry.is_dir(follow_symlinks=False) else []
            for each in (entry, *inside):
                if each.is_symlink() and (each is not entry or _is_ours(each.name)):
                    raise GalleryError(
                        f"{each.path} is a link, through which nothing is written: put the file itself in its place "
                        "(`cp -rL` copies a folder so)"
                    )


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as found:
        return list(found)


def _is_ours(name: str) -> bool:
    return name in ("gallery.json", "building", "vector.index", "id_map.pkl", "id_map.yaml") or name.startswith(
        ("gen-", ".lock", ".shitu-")
    )


def check_journal(database: Path) -> None:
    """GalleryError for a journal beside the database that no gallery of ours has: SQLite would act on it."""
    journal = database.with_name(database.name + "-journal")
    try:
        if not (strange := journal.is_symlink()):
            with readable(journal):
                if size_of(journal) < len(_JOURNAL_MAGIC):
                    return
                with journal.open("rb") as file:
                    file.seek(-len(_JOURNAL_MAGIC), os.SEEK_END)
                    strange = file.read(len(_JOURNAL_MAGIC)) == _JOURNAL_MAGIC
    except FileNotFoundError:
        return
    if strange:
        raise GalleryError(f"{journal} is no journal of a gallery's: delete it, or get the gallery again")
