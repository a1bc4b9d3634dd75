"""Model folders of which a file was tampered with: verify finds it, and opening raises nothing but ModelError."""

from __future__ import annotations

import random
import shutil
from functools import cache
from pathlib import Path

from shitu.errors import ShituError
from shitu.models.files import check_files
from shitu.models.folder import open_folder
from shitu.models.verify import verify_model
from shitu.resources import bundled

_CARDS = (
    "[" * 3000,
    "a: &a [*a]",
    "name: !!python/object/apply:os.system ['true']",
    "\0",
    "files: {../x: {}}",
    "{}",
    "- 1",
)


@cache
def _small() -> list[Path]:
    """The bundled models; their weights of megabytes are linked, and copied where they are what is changed."""
    return sorted(path for path in bundled("models").iterdir() if (path / "model.yaml").is_file())


def trial(seed: int, folder: Path) -> str:
    rng = random.Random(seed)
    source, copy = rng.choice(_small()), folder / "model"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    names = sorted(path.name for path in source.iterdir() if path.is_file())
    for name in names:
        (copy / name).symlink_to(source / name)
    name = rng.choice([*names, "model.yaml", "model.yaml"])
    data = bytearray((source / name).read_bytes())
    (copy / name).unlink()
    how = rng.randrange(5)
    if how == 0 and name == "model.yaml":
        data = bytearray(rng.choice(_CARDS).encode())
    elif how == 1:
        del data[rng.randrange(len(data)) :]
    elif how == 2:
        data += rng.randbytes(rng.choice((1, 100)))
    else:
        for _ in range(rng.choice((1, 5))):
            data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    (copy / name).write_bytes(data)
    recorded = name in open_folder(source).card.files
    problems = verify_model(copy)
    assert problems or not recorded, f"a changed {name} is vouched for"
    try:
        opened = open_folder(copy)
        for program in opened.programs:
            if program.engine == "paddle":
                check_files(*program.files)
    except ShituError:
        return "refused"
    return "found by verify" if problems else "no file on record"
