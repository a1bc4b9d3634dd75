"""Unpacking a tar archive from a stranger: all of it is looked through before the first file is written."""

from __future__ import annotations

import platform
import tarfile
from pathlib import Path, PurePosixPath

from shitu.errors import DownloadError

MAX_BYTES = 2_000_000_000
_MAX_MEMBERS = 10_000


def unpack(archive: Path, folder: Path) -> None:
    """Unpack into an existing folder, or refuse the whole archive, naming the member at fault."""
    if not hasattr(tarfile, "data_filter"):  # added by 3.10.12 and 3.11.4
        raise DownloadError(
            f"Python {platform.python_version()} cannot unpack archives safely; update it to 3.10.12, 3.11.4 or later"
        )
    try:
        # "r:" without transparent decompression: the official archives are plain, and a plain one cannot be a bomb
        # beyond the sizes that its headers state.
        with tarfile.open(archive, "r:") as tar:
            tar.extractall(folder, _checked_members(tar, folder), filter="data")
    except (tarfile.TarError, EOFError, ValueError, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise DownloadError(f"{archive.name}: the archive is damaged: {error}; run the command again") from error


def _checked_members(tar: tarfile.TarFile, folder: Path) -> list[tarfile.TarInfo]:
    members: list[tarfile.TarInfo] = []
    files: set[PurePosixPath] = set()
    folders: set[PurePosixPath] = set()
    total = 0
    for count, member in enumerate(tar, start=1):
        if reason := _reason_to_refuse(member, folder):
            raise DownloadError(f"refused the archive: its member {member.name!r} {reason}; try another --url")
        total += member.size
        if total > MAX_BYTES or count > _MAX_MEMBERS:
            limits = f"larger than {MAX_BYTES} bytes or has more than {_MAX_MEMBERS} members"
            raise DownloadError(f"refused the archive: up to {member.name!r} it is {limits}; try another --url")
        if _is_litter(member.name):
            continue
        path = PurePosixPath(member.name)
        if path in files or files.intersection(path.parents) or (member.isreg() and path in folders):
            raise DownloadError(f"refused the archive: {member.name!r} is in it twice; try another --url")
        (files if member.isreg() else folders).add(path)
        folders.update(path.parents)
        member.mode = 0o644 if member.isreg() else 0o755  # nothing of a model is run
        members.append(member)
    return members


def _reason_to_refuse(member: tarfile.TarInfo, folder: Path) -> str | None:
    """The standard library's rules, and two more: it makes absolute paths relative, and lets some links pass."""
    if member.name.startswith("/") or set(member.name) & set("\\:"):
        return "has an absolute path or one for another system"
    if member.issym() or member.islnk():  # a model needs none, and they are how checks of paths were evaded
        return f"is a link, to {member.linkname!r}"
    try:
        tarfile.data_filter(member, str(folder))
    except tarfile.FilterError as error:
        return f"was refused by Python: {error}"
    return None


def _is_litter(name: str) -> bool:
    """What macOS adds to archives."""
    parts = PurePosixPath(name).parts
    return not parts or parts[-1].startswith("._") or parts[-1] == ".DS_Store" or "__MACOSX" in parts
