"""Writers killed at random moments: the old gallery or the new one is there, whole, and the next change works."""

from __future__ import annotations

from pathlib import Path

from tests.test_gallery_crash import ANY_MOMENT, run

CHANGES = (("create", "HNSW8"), ("append", "HNSW8"), ("append", "Flat"), ("remove", "HNSW8"), ("compact", "HNSW8"))
KILLS = 10  # in one trial


def trial(seed: int, folder: Path) -> str:
    """`KILLS` kills; which of the changes, and when, follows from the seed as far as the machine's pace lets it."""
    import shutil

    operation, method = CHANGES[seed % len(CHANGES)]
    for name in ("base", "work"):
        shutil.rmtree(folder / name, ignore_errors=True)
    deaths = run(ANY_MOMENT, folder, method, operation, KILLS, seed)
    assert isinstance(deaths, dict)
    assert sum(deaths.values()) == KILLS
    return f"{operation}: " + ", ".join(f"{count} {which}" for which, count in sorted(deaths.items()) if count)
