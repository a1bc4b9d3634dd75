"""A disk that is full while a gallery is written: status 1, a message that says so, and the old gallery whole.

A limit on the size of files makes writing fail as a full disk does, in the middle; it holds for root, too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import index_overrides

resource = pytest.importorskip("resource", reason="limits of POSIX")

CHANGES = """
import json, resource, sys
import numpy as np
from shitu.gallery import Item
from shitu.gallery.gallery import Gallery
from shitu.errors import GalleryWriteError
base, operation, method = sys.argv[1:4]
vectors = np.random.default_rng(0).standard_normal((200, 64)).astype(np.float32)
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
items = [Item(f"label {n}", f"{n}.jpg") for n in range(200)]

def create(path):
    Gallery.create(path, vectors, items, index_method=method, dist_type="IP", fingerprint="")

seen = []
for limit in (0, 100, 3000, 20_000, 45_000, 55_000, 60_000, 80_000, 110_000, 10**6):
    path = f"{base}/{limit}"
    create(path)
    gallery = Gallery.open(path)
    change = {"create": lambda: create(path), "append": lambda: gallery.append(vectors, items)}
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        change.get(operation, gallery.compact)()
        seen.append("done")
    except GalleryWriteError as error:
        assert error.exit_status == 1 and "Make room" in str(error), error
        seen.append("full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    count = 400 if (operation, seen[-1]) == ("append", "done") else 200
    again = Gallery.open(path)
    assert (len(again), len(gallery)) in ((count, count), (200, 200)), (len(again), len(gallery))
    assert again.search(vectors[7:8], 1)[0][0].id == 7
    again.append(vectors[:1], items[:1])
    assert again.verify() == [], again.verify()
print(json.dumps(seen))
"""


@pytest.mark.parametrize("operation", ["create", "append", "compact"])
@pytest.mark.parametrize("method", ["Flat", "HNSW8"])
def test_every_file_that_cannot_be_written_whole(operation: str, method: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHANGES, tmp_path, operation, method]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen == sorted(seen, reverse=True), "full up to some limit, and done beyond"
    assert set(seen) == {"full", "done"}


@pytest.mark.parametrize("limit", [2000, 40_000, 49_500])
def test_the_command_ends_with_status_1(limit: int, tmp_path: Path, small_list: Path) -> None:
    """Before, it ended with 2, as if it had been used wrongly."""
    overrides = index_overrides(small_list, tmp_path / "index", index_method="HNSW8")
    options = [part for override in overrides for part in ("-o", override)]
    done = subprocess.run(
        [sys.executable, "-m", "shitu", "build-gallery", *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "Make room on the disk mounted at " in done.stderr
    assert f"that holds {tmp_path}" in done.stderr
    assert not (tmp_path / "index" / "gallery.json").exists()
