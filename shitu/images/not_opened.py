"""What the first bytes of a file tell about one that could not be opened as an image."""

from __future__ import annotations

import re

_SUPPORTED = "JPEG, PNG, WebP, BMP, TIFF, GIF or PPM"
_KINDS = (
    (rb"\xff\xd8\xff", "damaged", "JPEG"),
    (rb"\x89PNG", "damaged", "PNG"),
    (rb"GIF8", "damaged", "GIF"),
    (rb"RIFF....WEBP", "damaged", "WebP"),
    (rb"II\*\0|MM\0\*|II\+\0|MM\0\+", "damaged", "TIFF"),
    (rb"BM", "damaged", "BMP"),
    (rb"P[1-6]\s", "damaged", "PPM"),
    (rb"....ftyp(hei|hev|mif|msf)", "unsupported", "a HEIC photo"),
    (rb"....ftypavi", "unsupported", "an AVIF image"),
    (rb"....ftyp", "unsupported", "a video"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "unsupported", "a JPEG XL image"),
    (rb"\xff\x4f\xff\x51|\0\0\0\x0cjP", "unsupported", "a JPEG 2000 image"),
    (rb"8BPS", "unsupported", "a Photoshop file"),
    (rb"\0\0\x01\0", "unsupported", "an icon"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "unsupported", "an EPS drawing"),
    (rb"%PDF", "unsupported", "a PDF document"),
    (rb"PK\x03\x04", "unsupported", "a ZIP archive or an office document"),
    (rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!DOCTYPE svg[^>]*>\s*)?<svg", "unsupported", "an SVG drawing"),
    (rb"\s*(<!DOCTYPE html|<html|<head|<body)", "unsupported", "a web page, perhaps a download that failed"),
    (rb"version https://git-lfs", "unsupported", "a Git LFS pointer; run `git lfs pull`"),
)


def not_opened(name: str, head: bytes) -> str:
    for pattern, state, kind in _KINDS:
        if re.match(pattern, head, re.DOTALL | re.IGNORECASE):
            if state == "damaged":
                return f"{name}: damaged or cut short {kind} image; copy or download it again"
            return f"{name}: not a supported image but {kind}; convert it to {_SUPPORTED}"
    return f"{name}: not an image; shitu reads {_SUPPORTED}"
