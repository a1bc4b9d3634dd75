"""A gallery of a few of the demo's pictures, in a folder with a Chinese name."""

from __future__ import annotations

from pathlib import Path

import shitu
from tests.conftest import DEMO, index_overrides


def shelf(folder: Path) -> Path:
    """Three pictures of each of the demo's first eight classes."""
    lines = (DEMO / "gallery.txt").read_text(encoding="utf-8").splitlines()
    labels = sorted({line.split("\t")[1] for line in lines})[:8]
    chosen = [line for line in lines if line.split("\t")[1] in labels]
    (folder / "list.txt").write_text("".join(f"{line}\n" for line in chosen), encoding="utf-8")
    config = shitu.load_config(None, index_overrides(folder / "list.txt", folder / "货架"))
    shitu.GalleryBuilder(config).run()
    return folder / "货架"
