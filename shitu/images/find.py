"""The arguments of a command to the image files they mean. By names alone: nothing is opened."""

from __future__ import annotations

import fnmatch
import itertools
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from shitu.errors import UsageError
from shitu.images.formats import PassedOver, reads_suffix

_SUFFIXES = ".jpg .jpeg .jpe .jfif .png .webp .bmp .dib .tif .tiff .gif .mpo .ppm .pgm .pbm .pnm"
IMAGE_SUFFIXES = frozenset(_SUFFIXES.split())
log = logging.getLogger("shitu")


def is_image_name(name: str | Path) -> bool:
    """Whether the suffix, in either case, is that of an image which is read here.

    >>> is_image_name("a/IMG_1.JPG"), is_image_name("notes.txt"), is_image_name("jpg")
    (True, False, False)
    """
    suffix = os.path.splitext(name)[1].lower()
    return suffix in IMAGE_SUFFIXES or reads_suffix(suffix)


def find_images(inputs: Iterable[str]) -> Iterator[str]:
    """The image files that `inputs` mean, input by input; each input in the order of names.

    An input is a file, whatever its suffix; a folder, searched with all below it for image suffixes; or a pattern
    with `*`, `?`, `[...]` and `**`, of which the files with image suffixes count. Hidden entries and `__MACOSX`
    are passed over, and a folder reached by several links is searched once. A folder below that may not be read
    is itself among the results, so that it is reported as an image that failed. Folders are walked as the results
    are consumed; at their end a warning says which kinds of pictures were passed over, and why.

    Raises UsageError at once, before any result, if there is no input or one of them means no file.
    """
    passed = PassedOver()
    found = [_matches(text, passed) for text in ([inputs] if isinstance(inputs, str) else inputs)]
    if not found:
        raise UsageError("no image was named; give a file, a folder or a pattern such as 'photos/*.jpg'")
    return itertools.chain(itertools.chain.from_iterable(found), _told(passed))


def _told(passed: PassedOver) -> Iterator[str]:
    """No further image; says, once all are found, what was not."""
    for sentence in passed.sentences():
        log.warning(sentence)
    yield from ()


def _matches(text: str, passed: PassedOver) -> Iterable[str]:
    """All that one input means; its first match is looked for now, so that a mistake shows before work starts."""
    if os.path.isdir(text):
        try:
            matches = _walk(text, os.listdir(text), passed)
        except OSError as error:
            raise UsageError(f"{text}: the folder cannot be read: {error.strerror}; check its permissions") from None
        missing = f"{text}: no image in this folder or below it"
    elif os.path.lexists(text):  # before patterns: a file may be called `a[1].jpg`
        return [text]
    elif _is_pattern(text):
        matches = _glob(text, passed)
        missing = f"{text}: no image matches this pattern"
    else:
        raise UsageError(f"{text or '(an empty name)'}: no such file or folder; check the path")
    first = next(matches, None)
    if first is None:
        why = "".join(f"; {sentence}" for sentence in passed.sentences())
        raise UsageError(f"{missing}; looked for files ending in {_SUFFIXES} (in either case){why}")
    return itertools.chain([first], matches)


def _walk(folder: str, names: list[str], passed: PassedOver) -> Iterator[str]:
    """Images below a folder whose entries are `names`. Linked folders come last: a picture shows under its own."""
    seen = {_identity(folder)}
    links: list[str] = []
    stack = [(folder, iter(sorted(names)))]
    while stack or links:
        if not stack:
            link = links.pop(0)
            if _identity(link) in seen:
                continue
            seen.add(_identity(link))
            stack.append((link, iter(sorted(_names(link)))))
        here, entries = stack[-1]
        name = next(entries, None)
        if name is None:
            stack.pop()
            continue
        path = os.path.join(here, name)
        if _is_hidden(name):
            continue
        if not os.path.isdir(path):
            if is_image_name(name):
                yield path
            else:
                passed.add(name)
        elif os.path.islink(path):
            links.append(path)
        elif not os.access(path, os.R_OK | os.X_OK):
            yield path
        elif _identity(path) not in seen:
            seen.add(_identity(path))
            stack.append((path, iter(sorted(_names(path)))))


def _glob(pattern: str, passed: PassedOver) -> Iterator[str]:
    """Like glob.iglob with `**`, but in the order of names, never through a link with `**`, and each file once."""
    parts = pattern.replace(os.sep, "/").split("/")
    if parts[-1] == "**":
        parts.append("*")
    seen: set[str] = set()
    for path in _expand("", parts):
        if path in seen or os.path.isdir(path):
            continue
        seen.add(path)
        if is_image_name(path):
            yield path
        else:
            passed.add(path)


def _expand(base: str, parts: list[str]) -> Iterator[str]:
    if not parts:
        yield base
        return
    part, rest = parts[0], parts[1:]
    if not _is_pattern(part):
        path = os.path.join(base, part) if part else base or os.sep
        if os.path.lexists(path) or not path:
            yield from _expand(path, rest)
        return
    if part == "**":
        yield from _expand(base, rest)
    for name in sorted(_names(base or os.curdir)):
        path = os.path.join(base, name)
        if part == "**":
            if not _is_hidden(name) and os.path.isdir(path) and not os.path.islink(path):
                yield from _expand(path, parts)
        elif fnmatch.fnmatch(name, part) and (part.startswith(".") or not _is_hidden(name)):
            yield from _expand(path, rest)


def _is_pattern(text: str) -> bool:
    return any(character in text for character in "*?[")


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino
