"""Images that vanish, or change, while they are embedded; builds that run again; what another machine would run."""

from __future__ import annotations

import pickle
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shitu.build.builder import GalleryBuilder
from shitu.build.embed import Embedded, Models, Spec, embed_shard
from shitu.build.list_file import Entry
from shitu.build.source import Files, Source
from shitu.config import Config, load_config
from shitu.digest import sha256_of
from shitu.gallery.gallery import Gallery
from shitu.recognise.from_config import RecPredictor
from tests.conftest import DEMO, index_overrides


@pytest.fixture
def photos(tmp_path: Path, small_list: Path) -> list[Path]:
    lines = small_list.read_text(encoding="utf-8").splitlines()[:6]
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    for path, line in zip(paths, lines, strict=True):
        shutil.copy(DEMO / line.split("\t")[0], path)
    (tmp_path / "photos.txt").write_text("".join(f"{path}\tlabel\n" for path in paths), encoding="utf-8")
    return paths


def config(tmp_path: Path, **more: object) -> Config:
    overrides = index_overrides(tmp_path / "photos.txt", tmp_path / "index", index_method="Flat", **more)
    return load_config(None, [*overrides, "Global.use_gpu=False"])


def meanwhile(monkeypatch: pytest.MonkeyPatch, what: Any) -> None:
    """Do something each time after images were read and before their vectors are kept."""
    real = RecPredictor.predict_tensors

    def predict(self: RecPredictor, tensors: Sequence[Any]) -> Any:
        what()
        return real(self, tensors)

    monkeypatch.setattr(RecPredictor, "predict_tensors", predict)


def test_a_file_that_vanishes_was_read(tmp_path: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, the build ended with a traceback."""
    meanwhile(monkeypatch, lambda: photos[2].unlink(missing_ok=True))
    report = GalleryBuilder(config(tmp_path)).run()
    assert (report.images, report.failed) == (6, [])


def test_a_file_that_is_replaced_is_embedded_again(
    tmp_path: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, a build that was interrupted remembered the old picture's vector for the new one."""
    new = (DEMO / "photos" / "beach.jpg").read_bytes()
    calls: list[int] = []

    def replace() -> None:
        photos[1].write_bytes(new)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        meanwhile(patch, replace)
        with pytest.raises(KeyboardInterrupt):
            GalleryBuilder(config(tmp_path, batch_size=3)).run()
    report = GalleryBuilder(config(tmp_path, batch_size=3)).run()
    assert (report.images, report.resumed) == (6, 2)
    with Gallery.open(tmp_path / "index") as gallery:
        assert [item.sha256 for item in gallery.items()] == [sha256_of(path) for path in photos]
        alone = RecPredictor(config(tmp_path)).predict([_read(photos[1])])
        np.testing.assert_allclose(gallery.vectors()[1], alone[0], atol=1e-5)


def _read(path: Path) -> Any:
    from shitu.images.read import read_image

    return read_image(path)


def test_a_second_run_has_a_report_of_its_own(tmp_path: Path, photos: list[Path]) -> None:
    """Before, both runs were added up in one report."""
    builder = GalleryBuilder(config(tmp_path))
    first, second = builder.run(), builder.run()
    assert (first.images, second.images, second.total, second.indexed) == (6, 6, 6, 6)
    assert first is not second


def test_crops_are_prepared_in_threads(tmp_path: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, only whole images were; crops kept the network waiting."""
    names: set[str] = set()
    real = RecPredictor.prepare

    def prepare(self: RecPredictor, image: Any) -> Any:
        names.add(threading.current_thread().name)
        return real(self, image)

    monkeypatch.setattr(RecPredictor, "prepare", prepare)
    GalleryBuilder(config(tmp_path, crop="all")).run()
    assert names
    assert all(name.startswith("shitu-ahead") for name in names)


def test_a_shard_can_be_sent_elsewhere(tmp_path: Path, photos: list[Path]) -> None:
    """Function, source, spec and results go through pickle, and give what the builder stores."""
    entries = [Entry(str(path), str(path), "label", 1 + number) for number, path in enumerate(photos)]
    entries.append(Entry("gone.png", str(tmp_path / "gone.png"), "label", 7))
    known = frozenset([sha256_of(photos[0])])
    sent = pickle.dumps((embed_shard, entries, Files(), Spec(config(tmp_path), known)))
    function, *arguments = pickle.loads(sent)
    found = pickle.loads(pickle.dumps(list(function(*arguments))))
    assert [one.entry for one in found] == entries
    assert found[0].vectors is None
    assert (found[6].missing, "no such file" in found[6].error) == (True, True)
    GalleryBuilder(config(tmp_path)).run()
    with Gallery.open(tmp_path / "index") as gallery:
        vectors = np.concatenate([one.vectors for one in found[1:6]])
        np.testing.assert_allclose(vectors, gallery.vectors()[1:], atol=1e-5)
        assert [one.sha256 for one in found[:6]] == [item.sha256 for item in gallery.items()]


def test_who_runs_the_shards_can_be_told(tmp_path: Path, photos: list[Path]) -> None:
    shards: list[int] = []

    class ByTwos:
        def __init__(self, models: Models) -> None:
            self.models = models

        def map(self, entries: Sequence[Entry], source: Source, spec: Spec) -> Iterator[Embedded]:
            for start in range(0, len(entries), 2):
                shards.append(start)
                yield from list(embed_shard(entries[start : start + 2], source, spec, self.models))

    report = GalleryBuilder(config(tmp_path), executor=ByTwos).run()
    assert (report.images, shards) == (6, [0, 2, 4])
