"""Images that not every installation reads, HEIC and AVIF; and what else looks like a picture and is not read."""

from __future__ import annotations

import os
from collections import Counter
from functools import cache
from importlib.util import find_spec

INSTALL = "pip install 'shitu[formats]'"
# suffix: the module that reads it, and Pillow's name of the format
_OPTIONAL = {
    **dict.fromkeys((".heic", ".heif", ".hif"), ("pillow_heif", "HEIF")),
    ".avif": ("PIL._avif", "AVIF"),  # Pillow's own since 11.3; wheels have it, distributions may not
}
# by the first three letters of the brand; `mif1` says only that it is a picture
_BRANDS = {b"hei": (".heic",), b"hev": (".heic",), b"msf": (".heic",), b"mif": (".heic", ".avif"), b"avi": (".avif",)}
_PASSED_OVER = {
    "HEIC photo": (".heic .heif .hif", f"to read them: {INSTALL}"),
    "AVIF image": (".avif", "to read them: pip install 'pillow>=11.3'"),
    "PDF document": (".pdf", "`shitu predict` reads the pages of those that it is given by name"),
    "video": (
        ".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .mts .m2ts .ts .3gp .wmv .flv",
        "`shitu predict --every 0.5s VIDEO` follows one",
    ),
    "raw photo": (".dng .cr2 .cr3 .nef .arw .orf .rw2 .raf", "export them as JPEG"),
    "unsupported picture": (".jxl .jp2 .j2k .psd .svg .eps .ico .tga", "convert them to JPEG or PNG"),
}
_KIND_OF = {suffix: kind for kind, (suffixes, _) in _PASSED_OVER.items() for suffix in suffixes.split()}


@cache
def reads_suffix(suffix: str) -> bool:
    """Whether files with this suffix, in lower case, are read here by what is optional."""
    return suffix in _OPTIONAL and find_spec(_OPTIONAL[suffix][0]) is not None


def more_formats(head: bytes) -> tuple[str, ...]:
    """Pillow's names of further formats to try on a file that begins with `head`; registers what it takes."""
    suffixes = _BRANDS.get(head[8:11], ()) if head[4:8] == b"ftyp" else ()
    here = [suffix for suffix in suffixes if reads_suffix(suffix)]
    if ".heic" in here:
        _register_heif()
    return tuple(_OPTIONAL[suffix][1] for suffix in here)


@cache
def _register_heif() -> None:
    import pillow_heif

    # The first picture is all that is wanted; libheif's own limits on sizes and memory stay on.
    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)


class PassedOver:
    """Files that look like pictures and are not read, counted by kind."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, name: str) -> None:
        kind = _KIND_OF.get(os.path.splitext(name)[1].lower())
        if kind:
            self._counts[kind] += 1

    def sentences(self) -> list[str]:
        """
        >>> passed = PassedOver(); passed.add("IMG_1.DNG"); passed.add("notes.txt"); passed.sentences()
        ['1 raw photo (.dng .cr2 .cr3 .nef .arw .orf .rw2 .raf) passed over: export them as JPEG']
        """
        return [
            f"{count:,} {kind}{'s' * (count > 1)} ({_PASSED_OVER[kind][0]}) passed over: {_PASSED_OVER[kind][1]}"
            for kind, count in self._counts.items()
        ]
