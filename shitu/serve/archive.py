"""Photos with labels as they are sent for a job: a zip, or many files, and if wanted a list -> entries on disk.

Nothing of an archive's names is ever a path here: its members are written under numbers of ours.
"""

from __future__ import annotations

import errno
import stat
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from shitu.build.list_file import Entry, parse_line
from shitu.build.photos import thing_of
from shitu.errors import UsageError
from shitu.images.find import is_image_name

MOST_FILES = 100_000
MOST_BYTES = 16 << 30  # of all that is in an archive
LARGEST = 256 << 20  # of one picture
LIST_SUFFIXES = (".txt", ".tsv")
_BLOCK = 1 << 20
FULL = (errno.ENOSPC, errno.EDQUOT)  # what a disk says that is full
_UTF8_FLAG, _ENCRYPTED_FLAG = 0x800, 0x1


@dataclass(frozen=True)
class Sent:
    """A picture that was sent: its name as the sender knows it, and where it lies now."""

    name: str
    path: Path


def unpack_zip(stream: BinaryIO, folder: Path, start: int = 0) -> tuple[list[Sent], list[str]]:
    """The pictures of a zip, written into `folder`, and the texts of its lists. Raises UsageError."""
    sent: list[Sent] = []
    lists: list[str] = []
    total = 0
    try:
        with zipfile.ZipFile(stream) as archive:
            members = [each for each in archive.infolist() if not each.is_dir()]
            if len(members) > MOST_FILES:
                raise UsageError(f"the archive has {len(members):,} files, at most {MOST_FILES:,} are taken; cut it up")
            for member in members:
                name = _name(member)
                if (is_list := name.lower().endswith(LIST_SUFFIXES)) or is_image_name(name):
                    path = folder / f"{start + len(sent):06d}{'.txt' if is_list else ''}"
                    total += _write(archive, member, path, min(LARGEST, MOST_BYTES - total))
                    if is_list:
                        lists.append(_text(path.read_bytes(), name))
                        path.unlink()
                    else:
                        sent.append(Sent(name, path))
    except UsageError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        # zlib's, struct's or zipfile's own: of a malformed file all are one kind of news
        raise UsageError(f"the archive cannot be read ({type(error).__name__}); send a zip") from error
    return sent, lists


def _name(member: zipfile.ZipInfo) -> str:
    """In what is written by Windows in China, GB18030. Raises UsageError for what no photo archive has."""
    name = member.filename
    if not member.flag_bits & _UTF8_FLAG:
        raw = name.encode("cp437", "replace")
        for encoding in ("utf-8", "gb18030"):
            try:
                name = raw.decode(encoding)
                break
            except UnicodeDecodeError:
                continue
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if ".." in parts or name.startswith(("/", "\\")) or ":" in name or stat.S_ISLNK(member.external_attr >> 16):
        raise UsageError(f"the archive has {name[:80]!r}, a link or a path that leads out of it; pack photos alone")
    if member.flag_bits & _ENCRYPTED_FLAG:
        raise UsageError("the archive is encrypted; pack it without a password")
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return "" if hidden else "/".join(parts)


def _write(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, most: int) -> int:
    """What a member really holds, whatever its header says."""
    count = 0
    with archive.open(member) as source, path.open("xb") as file:
        while block := source.read(_BLOCK):
            count += len(block)
            if count > most:
                raise UsageError(
                    f"the archive is too large: a file of more than {LARGEST >> 20} MB, or more than "
                    f"{MOST_BYTES >> 30} GB in all; cut it up"
                )
            file.write(block)
    return count


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is no UTF-8 text ({error.reason} at byte {error.start}); convert it") from error


def entries_of(sent: Sequence[Sent], lists: Sequence[str], label: str, delimiter: str) -> list[Entry]:
    """What the pictures show: as `label` says, else a list, else the folders, else the files' names.

    Raises UsageError, ConfigError (a line that is none), where a list names a picture that was not sent, too.
    """
    if label:
        return [Entry(each.name, str(each.path), label, number) for number, each in enumerate(sent, start=1)]
    if lists:
        return list(_listed(sent, lists, delimiter))
    folders = [PurePosixPath(each.name).parts for each in sent]
    top = {parts[0] for parts in folders if len(parts) > 1}
    depth = 1 if len(top) == 1 and all(len(parts) > 2 for parts in folders) else 0  # a folder of folders was packed
    made = []
    for number, (each, parts) in enumerate(zip(sent, folders, strict=True), start=1):
        name = parts[depth] if len(parts) > depth + 1 else thing_of(each.name)
        made.append(Entry(each.name, str(each.path), name, number))
    return made


def _listed(sent: Sequence[Sent], lists: Sequence[str], delimiter: str) -> Iterator[Entry]:
    whole = {each.name: each.path for each in sent}
    short = {PurePosixPath(each.name).name: each.path for each in sent}
    for text in lists:
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                continue
            entry = parse_line(line, None, delimiter, where=f"line {number} of the list", number=number)
            path = PurePosixPath(entry.image.replace("\\", "/"))
            found = next((whole[end] for end in _ends(path) if end in whole), short.get(path.name))
            if found is None:
                raise UsageError(f"line {number} of the list names {entry.image!r}, which was not sent with it")
            yield Entry(entry.image, str(found), entry.label, number, entry.more)


def _ends(path: PurePosixPath) -> Iterator[str]:
    """`a/b/c`, `b/c`, `c`: what was packed may begin further down than the list says."""
    parts = path.parts
    for start in range(len(parts)):
        yield "/".join(parts[start:])
