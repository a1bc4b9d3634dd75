"""Who may write a gallery: one process at a time, and no waiting."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from shitu.errors import GalleryBusyError, GalleryError, GalleryWriteError
from shitu.files import make_room
from shitu.gallery.read.files import refuse_links

LOCK, OWNER = ".lock", ".lock-owner"
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # what no other command line would mend


@dataclass
class _Held:
    lock: FileLock
    thread: int
    depth: int = 1


_held: dict[Path, _Held] = {}
_held_guard = threading.Lock()


@contextmanager
def write_lock(index_dir: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the gallery's one writing place; re-entrant within a thread. Creates the folder.

    Raises: GalleryBusyError at once where another process or thread writes, GalleryError where nobody may write.
    """
    folder = Path(index_dir)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        refuse_links(folder)
        key = folder.resolve()
    with _held_guard:
        held = _held.get(key)
        if held is not None and held.thread == threading.get_ident():
            held.depth += 1
        else:
            _held[key] = held = _acquire(folder, held)
    try:
        yield
    finally:
        with _held_guard:
            held.depth -= 1
            if held.depth == 0:
                del _held[key]
                with suppress(OSError):
                    (folder / OWNER).unlink()
                held.lock.release()


def _acquire(folder: Path, held: _Held | None) -> _Held:
    # A file of its own for the number: taking the lock may empty the lock file.
    busy = GalleryBusyError(f"{folder} is being written by another {_owner(folder)}; try again when it is done")
    if held is not None:
        raise busy
    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        with writing(folder):
            lock.acquire(timeout=0)
    except Timeout as error:
        raise busy from error
    with suppress(OSError):
        (folder / OWNER).write_text(str(os.getpid()), encoding="ascii")
    return _Held(lock, threading.get_ident())


def _owner(folder: Path) -> str:
    try:
        pid = int((folder / OWNER).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return "process"
    return "thread of this process" if pid == os.getpid() else f"process (pid {pid})"


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Say of a failed write what it was for: a full disk and missing rights are the user's to mend."""
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        message = f"{folder}: the gallery could not be written ({error}); what was there before is unchanged"
        if error.errno in DISK:
            raise GalleryWriteError(f"{message}. {make_room(folder)}") from error
        raise GalleryError(f"{message}. Check who may write there, or name another place") from error
