"""Files and folders put in place whole: here once, for all who write."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

PARTS = ".shitu-*.part"  # what `replace_file` leaves when its process is killed, as a glob


def replace_file(path: Path, write: Callable[[BinaryIO], Any], *, durable: bool = True) -> None:
    """Let `write` fill a file beside `path`, then put it in its place: readers see the old file or the new one.

    The old file's mode stays. durable: the disk has it when this returns. Whatever `write` or the system raises
    leaves the old file as it was.
    """
    # A short name of its own: the target's may be as long as the system allows.
    part = path.with_name(f".shitu-{os.getpid()}-{threading.get_ident()}.part")
    try:
        part.unlink(missing_ok=True)
        with part.open("xb") as file:  # never through a link that a stranger's folder holds
            write(file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            shutil.copymode(path, part)
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    if durable:
        sync_folder(path.parent)


def replace_folder(new: Path, old: Path) -> None:
    """Put the folder `new` in the place of `old`, if there is one, which is deleted only then.

    Raises OSError, and then `old` is back.
    """
    aside = Path(tempfile.mkdtemp(prefix=f".{old.name}.old-", dir=old.parent))
    kept = aside / old.name
    try:
        if old.exists():
            os.replace(old, kept)
        os.replace(new, old)
    except BaseException:  # an interrupt may also come when `new` is in its place already
        if kept.exists() and not old.exists():
            os.replace(kept, old)
        shutil.rmtree(aside, ignore_errors=True)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Make new names in a folder durable; Windows does that by itself."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_room(folder: Path) -> str:
    """What to do about a full disk: which one it is, by where it is mounted, and what is free on it."""
    try:
        place = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists()).resolve()
        free = shutil.disk_usage(place).free / 1e6
        while place != place.parent and place.parent.stat().st_dev == place.stat().st_dev:
            place = place.parent
        disk = f" mounted at {place} ({free:,.0f} MB free)"
    except OSError:
        disk = ""
    return f"Make room on the disk{disk} that holds {folder}, and run the same command again"
