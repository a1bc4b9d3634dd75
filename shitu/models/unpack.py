"""Unpacking a tar archive from a stranger: all of it is looked through before the first file is written."""

from __future__ import annotations

import re
import shutil
import tarfile
from pathlib import Path, PurePosixPath

from shitu.errors import DownloadError

MAX_BYTES = 2_000_000_000
_MAX_MEMBERS = 10_000


def unpack(archive: Path, folder: Path) -> None:
    """Unpack into an existing folder, or refuse the whole archive, naming the member at fault."""
    try:
        # "r:" without transparent decompression: the official archives are plain, and a plain one cannot be a bomb
        # beyond the sizes that its headers state.
        with tarfile.open(archive, "r:") as tar:
            members = _checked_members(tar, folder)
            for member in members:
                _write(tar, member, folder / member.name)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise DownloadError(f"{archive.name}: the archive is damaged: {error}; run the command again") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise DownloadError(
            f"{archive.name}: refused: {error.filename} is in the archive twice; try another --url"
        ) from error


def _checked_members(tar: tarfile.TarFile, folder: Path) -> list[tarfile.TarInfo]:
    members: list[tarfile.TarInfo] = []
    total = 0
    for count, member in enumerate(tar, start=1):
        if reason := _reason_to_refuse(member, folder):
            raise DownloadError(f"refused the archive: its member {member.name!r} {reason}; try another --url")
        total += member.size
        if total > MAX_BYTES:
            raise DownloadError(
                f"refused the archive: up to {member.name!r} it is larger than {MAX_BYTES} bytes; try another --url"
            )
        if count > _MAX_MEMBERS:
            raise DownloadError(f"refused the archive: it has more than {_MAX_MEMBERS} members; try another --url")
        if not _is_litter(member.name):
            members.append(member)
    return members


def _reason_to_refuse(member: tarfile.TarInfo, folder: Path) -> str | None:
    """Links are refused wherever they point: a model needs none, and links are how checks of paths were evaded."""
    name = member.name
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or "\\" in name or "\0" in name:
        return "has an absolute path or one for another system"
    if ".." in PurePosixPath(name).parts:
        return "leaves the folder"
    if member.issym() or member.islnk():
        return f"is a link, to {member.linkname!r}"
    if not (member.isreg() or member.isdir()) or member.size < 0:
        return "is neither a file nor a folder"
    # The standard library's own rules as a second opinion; Python before 3.10.12 has none.
    if hasattr(tarfile, "data_filter"):
        try:
            tarfile.data_filter(member, str(folder))
        except tarfile.FilterError as error:
            return f"was refused by Python: {error}"
    return None


def _is_litter(name: str) -> bool:
    """What macOS adds to archives."""
    parts = PurePosixPath(name).parts
    return not parts or parts[-1].startswith("._") or parts[-1] == ".DS_Store" or "__MACOSX" in parts


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    """Contents only: neither owner, time nor permissions of the archive."""
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    if source is None:
        raise ValueError(f"{member.name} has no contents")
    with source, path.open("xb") as file:
        shutil.copyfileobj(source, file)
    if path.stat().st_size != member.size:
        raise ValueError(f"{member.name} ends early")
