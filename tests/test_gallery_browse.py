"""Pages of entries, labels with their counts, and vectors by id: compared with what was put in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shitu.errors import GalleryError
from shitu.gallery import GalleryReader, Item, open_reader, open_writer
from shitu.gallery.change import new_facts
from shitu.gallery.export import export_gallery
from shitu.gallery.open import KINDS
from tests.dictionary_gallery import KIND

LABELS = ["Tea", "tea 50%", "奶茶", "water", "Tea", "water_2"] * 5
VECTORS = np.eye(32, dtype=np.float32)[:30]


def folder(where: Path) -> GalleryReader:
    return made(str(where / "gallery"))


def dictionary(where: Path) -> GalleryReader:
    return made("dictionary://browse")


def foreign(where: Path) -> GalleryReader:
    """PaddleX's, whose ids count from 0 again."""
    export_gallery(made(str(where / "ours")), where / "theirs", "paddlex")
    return open_reader(str(where / "theirs"))


def made(url: str) -> GalleryReader:
    with open_writer(url) as writer:
        change = writer.begin(new_facts(32, "IP", "Flat", ""))
        change.add(VECTORS, [Item(label, f"{number}.jpg") for number, label in enumerate(LABELS)])
        change.commit()
        change = writer.begin()
        change.remove([0, 7])
        change.commit()
    return open_reader(url)


@pytest.fixture(params=[folder, dictionary])
def reader(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GalleryReader:
    monkeypatch.setitem(KINDS, "dictionary", KIND)
    make: Callable[[Path], GalleryReader] = request.param
    return make(tmp_path)


def test_pages_hold_every_entry_once_and_in_order(reader: GalleryReader) -> None:
    ids, page = [], reader.page(limit=7)
    while page:
        ids += [each.id for each in page]
        page = reader.page(after=ids[-1], limit=7)
    assert ids == [number for number in range(30) if number not in (0, 7)]


@pytest.mark.parametrize("text", ["", "TEA", "%", "_", "茶", "nothing"])
def test_text_means_what_it_says(reader: GalleryReader, text: str) -> None:
    wanted = [n for n, label in enumerate(LABELS) if n not in (0, 7) and text.lower() in label.lower()]
    assert [each.id for each in reader.page(text=text)] == wanted
    counts = {each.label: (each.count, each.first, each.newest) for each in reader.labels(text=text)}
    by_label = {label: [n for n in wanted if LABELS[n] == label] for label in sorted({LABELS[n] for n in wanted})}
    assert counts == {label: (len(of), of[0], of[-1]) for label, of in by_label.items()}
    assert list(counts) == sorted(counts)


def test_a_label_is_meant_to_the_letter(reader: GalleryReader) -> None:
    assert {each.label for each in reader.page(label="Tea")} == {"Tea"}
    assert [each.label for each in reader.labels(after="tea 50%", limit=2)] == ["water", "water_2"]


def test_vectors_come_in_the_order_of_the_ids(reader: GalleryReader) -> None:
    np.testing.assert_array_equal(reader.vectors_of([29, 3, 3]), VECTORS[[29, 3, 3]])
    with pytest.raises(GalleryError, match="no entry 7"):
        reader.vectors_of([3, 7])


def test_vectors_of_another_programs_gallery(tmp_path: Path) -> None:
    reader = foreign(tmp_path)
    assert [each.label for each in reader.page(limit=3)] == LABELS[1:4]
    first, last = reader.page(limit=1)[0].id, reader.page()[-1].id
    np.testing.assert_array_equal(reader.vectors_of([last, first]), VECTORS[[29, 1]])
