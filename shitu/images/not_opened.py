"""What the first bytes of a file tell about one that could not be opened as an image."""

from __future__ import annotations

import re

from shitu.images.formats import INSTALL, more_formats

_SUPPORTED = "JPEG, PNG, WebP, BMP, TIFF, GIF or PPM"
_KINDS = (
    (rb"\xff\xd8\xff", "damaged", "JPEG"),
    (rb"\x89PNG", "damaged", "PNG"),
    (rb"GIF8", "damaged", "GIF"),
    (rb"RIFF....WEBP", "damaged", "WebP"),
    (rb"II\*\0|MM\0\*|II\+\0|MM\0\+", "damaged", "TIFF"),
    (rb"BM", "damaged", "BMP"),
    (rb"P[1-6]\s", "damaged", "PPM"),
    (rb"....ftyp(hei|hev|mif|msf)", "HEIF", "HEIC"),
    (rb"....ftypavi", "AVIF", "AVIF"),
    (rb"....ftyp|RIFF....AVI |\x1a\x45\xdf\xa3|\0\0\x01\xba|FLV\x01", "video", "a video"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "unsupported", "a JPEG XL image"),
    (rb"\xff\x4f\xff\x51|\0\0\0\x0cjP", "unsupported", "a JPEG 2000 image"),
    (rb"8BPS", "unsupported", "a Photoshop file"),
    (rb"\0\0\x01\0", "unsupported", "an icon"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "unsupported", "an EPS drawing"),
    (rb"%PDF", "pdf", "a PDF document"),
    (rb"PK\x03\x04", "unsupported", "a ZIP archive or an office document"),
    (rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!DOCTYPE svg[^>]*>\s*)?<svg", "unsupported", "an SVG drawing"),
    (rb"\s*(<!DOCTYPE html|<html|<head|<body)", "unsupported", "a web page, perhaps a download that failed"),
    (rb"version https://git-lfs", "unsupported", "a Git LFS pointer; run `git lfs pull`"),
)
_OPTIONAL = {"HEIF": INSTALL, "AVIF": "pip install 'pillow>=11.3'"}
_INSTEAD = {
    "video": "`shitu predict --every 0.5s VIDEO` follows it",
    "pdf": "`shitu predict` reads its pages where it is named itself; or save the page as PNG",
}


def not_opened(name: str, head: bytes) -> str:
    for pattern, state, kind in _KINDS:
        if re.match(pattern, head, re.DOTALL | re.IGNORECASE):
            if state in _OPTIONAL and not more_formats(head):
                return f"{name}: {kind} images are not read by this installation; {_OPTIONAL[state]}"
            if state == "damaged" or state in _OPTIONAL:
                return f"{name}: damaged or cut short {kind} image; copy or download it again"
            advice = _INSTEAD.get(state, f"convert it to {_SUPPORTED}")
            return f"{name}: not a supported image but {kind}; {advice}"
    return f"{name}: not an image; shitu reads {_SUPPORTED}"
