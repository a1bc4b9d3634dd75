"""What a killed build has already computed is kept; what is half-written, changed or of another model is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shitu.build.source import Files
from shitu.build.staging import Staging

RNG = np.random.default_rng(0)


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    paths = [tmp_path / f"照片{number}.jpg" for number in range(5)]
    for path in paths:
        path.write_bytes(path.name.encode())
    return [str(path) for path in paths]


def staging(tmp_path: Path, key: str = "model") -> Staging:
    return Staging(tmp_path / "building", key=key, width=4, dtype="float32")


def fill(tmp_path: Path, photos: list[str]) -> np.ndarray:
    vectors = RNG.normal(size=(2 * len(photos), 4)).astype(np.float32)
    with staging(tmp_path) as area:
        for number, photo in enumerate(photos):
            area.add(
                Files().identity(photo), f"sha{number}", (None, (0, 1, 2, 3)), vectors[2 * number : 2 * number + 2]
            )
    return vectors


def test_round_trip(tmp_path: Path, photos: list[str]) -> None:
    vectors = fill(tmp_path, photos)
    with staging(tmp_path) as area:
        np.testing.assert_array_equal(area.vectors(), vectors)
        for number, photo in enumerate(photos):
            found = area.get(Files().identity(photo))
            assert found is not None
            assert (found.sha256, found.start, found.boxes) == (f"sha{number}", 2 * number, (None, (0, 1, 2, 3)))


def test_a_changed_file_and_another_model_start_anew(tmp_path: Path, photos: list[str]) -> None:
    fill(tmp_path, photos)
    Path(photos[1]).write_bytes(b"another picture")
    with staging(tmp_path) as area:
        assert area.get(Files().identity(photos[1])) is None
        assert area.get(Files().identity(photos[0])) is not None
        assert area.get(Files().identity(str(tmp_path / "not there.jpg"))) is None
    with staging(tmp_path, key="another model") as area:
        assert len(area) == 0
        assert len(area.vectors()) == 0


@pytest.mark.parametrize("name", ["rows.jsonl", "vectors.bin"])
def test_every_truncation_keeps_only_whole_images(tmp_path: Path, photos: list[str], name: str) -> None:
    vectors = fill(tmp_path, photos)
    whole = (tmp_path / "building" / name).read_bytes()
    other = tmp_path / "building" / ("rows.jsonl" if name == "vectors.bin" else "vectors.bin")
    kept_other = other.read_bytes()
    for size in range(0, len(whole), 7):
        (tmp_path / "building" / name).write_bytes(whole[:size])
        other.write_bytes(kept_other)
        with staging(tmp_path) as area:
            count = len(area)
            np.testing.assert_array_equal(area.vectors(), vectors[: 2 * count])
            area.add(photos[-1], "new", (None,), vectors[:1])
        with staging(tmp_path) as area:
            np.testing.assert_array_equal(area.vectors(), np.concatenate([vectors[: 2 * count], vectors[:1]]))


def test_a_flipped_bit_ends_what_is_believed(tmp_path: Path, photos: list[str]) -> None:
    fill(tmp_path, photos)
    path = tmp_path / "building" / "vectors.bin"
    data = bytearray(path.read_bytes())
    data[2 * 32 + 5] ^= 1
    path.write_bytes(bytes(data))
    with staging(tmp_path) as area:
        assert len(area) == 2
