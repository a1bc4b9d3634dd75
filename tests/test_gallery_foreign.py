"""PaddleClas's and PaddleX's galleries over their life: removed from, changed by their program, exported, verified."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from shitu.cli import main
from shitu.errors import GalleryError
from shitu.gallery import Item, foreign, origin
from shitu.gallery.base import Facts
from shitu.gallery.change import new_facts
from shitu.gallery.export import FORMS, export_gallery
from shitu.gallery.gallery import Gallery
from shitu.gallery.open import open_reader, open_writer
from tests.test_gallery_formats import paddleclas, unit


def paddlex(folder: Path, index: faiss.Index, labels: dict[int, str], kind: str = "Flat") -> None:
    """What PaddleX 3.4.3's IndexData.save writes."""
    folder.mkdir(parents=True, exist_ok=True)
    faiss.write_index(index, str(folder / "vector.index"))
    content = {"index_type": kind, "metric_type": "IP", "id_map": labels}
    (folder / "id_map.yaml").write_text(yaml.dump(content, allow_unicode=True), encoding="utf-8")


def made(vectors: np.ndarray, method: str) -> faiss.IndexIDMap2:
    index = faiss.IndexIDMap2(faiss.index_factory(32, method, faiss.METRIC_INNER_PRODUCT))
    index.train(vectors)
    index.add_with_ids(vectors, np.arange(len(vectors)))
    return index


@pytest.mark.parametrize("then_appended", [False, True])
def test_an_ivf_that_was_removed_from_is_refused(tmp_path: Path, then_appended: bool) -> None:
    """PaddleX's remove_index: index.remove_ids, and the ids out of id_map. The labels are wrong from then on."""
    vectors = unit(64)
    index = made(vectors[:60], "IVF4,Flat")
    index.remove_ids(np.array([3, 17]))
    labels = {number: str(number) for number in range(60) if number not in (3, 17)}
    if then_appended:
        index.add_with_ids(vectors[60:], np.arange(60, 64))
        labels |= {number: str(number) for number in range(60, 64)}
    faiss.downcast_index(index.index).nprobe = 4
    assert any(
        labels.get(int(found)) != str(row) for row, found in enumerate(index.search(vectors[:60], 1)[1][:, 0])
    ), "what faiss itself answers is wrong: that is the fault"
    paddlex(tmp_path, index, labels, "IVF")
    with pytest.raises(GalleryError, match="IVF index from which entries were removed by PaddleClas or PaddleX"):
        Gallery.open(tmp_path)
    done = CliRunner().invoke(main, ["gallery", "verify", str(tmp_path)])
    assert (done.exit_code, "build the gallery anew" in done.stdout) == (1, True)


def test_an_ivf_whose_last_entries_were_removed_is_right(tmp_path: Path) -> None:
    vectors = unit(60)
    index = made(vectors, "IVF4,Flat")
    index.remove_ids(np.array([58, 59]))
    paddlex(tmp_path, index, {number: str(number) for number in range(58)}, "IVF")
    found = open_reader(str(tmp_path), nprobe=4).search(vectors[:58], 1)
    assert [one[0].label for one in found] == [str(number) for number in range(58)]


def test_a_flat_index_that_was_removed_from_is_right(tmp_path: Path) -> None:
    vectors = unit(20)
    index = made(vectors, "Flat")
    index.remove_ids(np.array([3, 17]))
    live = [number for number in range(20) if number not in (3, 17)]
    paddlex(tmp_path, index, {number: str(number) for number in live})
    assert [one[0].label for one in Gallery.open(tmp_path).search(vectors[live], 1)] == [str(n) for n in live]


# --- read once, and what its own program changes afterwards --------------------------------------------------------


def test_a_command_reads_the_files_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paddlex(tmp_path, made(unit(9), "Flat"), dict.fromkeys(range(9), "tea"))
    read: list[Path] = []
    real = foreign.read_yaml
    monkeypatch.setattr(foreign, "read_yaml", lambda path: read.append(path) or real(path))
    done = CliRunner().invoke(main, ["gallery", "remove", str(tmp_path), "--id", "3"], catch_exceptions=False)
    assert (done.exit_code, len(read)) == (0, 1)
    assert len(Gallery.open(tmp_path)) == 8


def test_what_its_own_program_changes_later_is_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(origin, "_TOLD", set())
    vectors = unit(12)
    paddleclas(tmp_path, vectors[:10], "Flat", "IP")
    Gallery.open(tmp_path).remove([0])
    copy = tmp_path.parent / "copy"
    shutil.copytree(tmp_path, copy, copy_function=shutil.copyfile)  # other times, same content
    for folder in (tmp_path, copy):
        assert Gallery.open(folder).verify() == []
    assert caplog.records == []
    paddleclas(tmp_path, vectors, "Flat", "IP")  # PaddleClas appends two
    (problem,) = Gallery.open(tmp_path).verify()
    assert "vector.index and id_map.pkl" in problem
    assert "changed after shitu took the gallery over" in problem
    Gallery.open(tmp_path)
    assert [record.getMessage() for record in caplog.records] == [problem.removesuffix(".")], "told once"
    for name in ("vector.index", "id_map.pkl"):
        (tmp_path / name).unlink()  # as the advice says
    assert Gallery.open(tmp_path).verify() == []


@pytest.mark.parametrize("text", ["x", "[]", '{"vector.index": 5}', '{"vector.index": [], "/etc/passwd": [1, 2, "3"]}'])
def test_a_strangers_record_of_origin_hurts_nobody(tmp_path: Path, text: str) -> None:
    facts = new_facts(8, "IP", "Flat", "")
    (tmp_path / "vector.index").write_bytes(b"x")
    meta = foreign.Meta(**vars(facts) | {"origin": text})
    assert origin.changed_since(tmp_path, meta) in ([], ["vector.index"])


# --- verify, and the model's name ---------------------------------------------------------------------------------


def test_verify_finds_bad_vectors_and_says_what_it_cannot_tell(tmp_path: Path) -> None:
    vectors = unit(10)
    vectors[2, 5], vectors[4, 0], vectors[6] = np.nan, np.inf, vectors[6] * 3
    paddleclas(tmp_path, vectors, "Flat", "IP")
    done = CliRunner().invoke(main, ["gallery", "verify", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 1
    assert "2 entries (id 2, 4) with NaN or infinite vectors" in done.stdout
    assert "1 entry (id 6) with vectors that are not of unit length" in done.stdout
    assert "Not checked, since PaddleClas records nothing to check by" in done.stderr
    with pytest.raises(GalleryError, match="gallery verify"):
        Gallery.open(tmp_path).remove([0])


def test_verify_of_a_sound_one_does_not_vouch_for_it(tmp_path: Path) -> None:
    paddleclas(tmp_path, unit(300), "SQ8", "IP")
    done = CliRunner().invoke(main, ["gallery", "verify", str(tmp_path)], catch_exceptions=False)
    assert (done.exit_code, done.stdout) == (0, "")
    assert "its vectors, which the index keeps compressed" in done.stderr
    assert done.stderr.endswith("Nothing is wrong that can be checked.\n")


def append(folder: Path, vectors: np.ndarray, facts: Facts) -> None:
    with open_writer(str(folder)) as writer:
        change = writer.begin()
        change.add(vectors, [Item("new", "n.jpg")] * len(vectors), made_by=facts)
        change.commit()


def test_the_first_append_tells_the_model(tmp_path: Path) -> None:
    vectors = unit(6)
    paddleclas(tmp_path, vectors[:4], "Flat", "IP")
    append(tmp_path, vectors[4:5], new_facts(32, "IP", "Flat", "f1", "one"))
    append(tmp_path, vectors[5:], new_facts(32, "IP", "Flat", "f2", "two"))
    facts = Gallery.open(tmp_path).facts
    assert (facts.fingerprint, facts.model_name) == ("f1", "one")
    with pytest.raises(GalleryError, match="made by another model"):
        facts.check_fits("x", fingerprint="f2", dimension=32, dist_type="IP")


# --- export --------------------------------------------------------------------------------------------------------


def ours(folder: Path, count: int = 6, prefix: str = "茶") -> Gallery:
    items = [Item(f"{prefix}{number}", f"my photos/a\u3000{number}.jpg") for number in range(count)]
    return Gallery.create(folder, unit(count), items, index_method="Flat", dist_type="IP", fingerprint="f")


def test_paddleclas_cannot_cut_a_path_with_blanks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    export_gallery(ours(tmp_path / "ours"), tmp_path / "out", "paddleclas")
    id_map = pickle.loads((tmp_path / "out" / "id_map.pkl").read_bytes())
    # predict_system.py: self.id_map[docs[0][0]].split()[1]
    assert [entry.split()[1] for entry in id_map.values()] == [f"茶{number}" for number in range(6)]
    assert id_map[3] == "my%20photos/a%E3%80%803.jpg\t茶3"
    assert caplog.records == []
    export_gallery(ours(tmp_path / "more", prefix="Green tea "), tmp_path / "out", "paddleclas")
    assert "it will show 'Green tea 0' as 'Green'" in caplog.text
    caplog.clear()
    export_gallery(Gallery.open(tmp_path / "more"), tmp_path / "out", "paddlex")
    assert caplog.records == []


@pytest.mark.parametrize("form", FORMS)
def test_an_export_over_another_never_mixes_them(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks at any moment, and whoever finds it after a kill, sees one, the other, or no gallery."""
    out = tmp_path / "out"
    old, new = ours(tmp_path / "old", 6, "old"), ours(tmp_path / "new", 6, "new")
    export_gallery(old, out, "paddleclas")
    seen = []

    def look() -> None:
        try:
            gallery = Gallery.open(out)
        except GalleryError as error:
            seen.append("none" if "there is no gallery" in str(error) else str(error))
            return
        labels = {item.label[:3] for item in gallery.items()}
        (label,) = labels
        seen.append(label)
        stored = {"old": old, "new": new}[label].vectors()
        np.testing.assert_array_equal(gallery.vectors(), stored)

    def watched(real: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object, **more: object) -> None:
            look()
            real(*arguments, **more)
            look()

        return call

    for name in ("replace", "unlink"):
        monkeypatch.setattr(os, name, watched(getattr(os, name)))
    monkeypatch.setattr(Path, "unlink", watched(Path.unlink))
    export_gallery(new, out, form)
    assert list(dict.fromkeys(seen)) == ["old", "none", "new"]
    monkeypatch.undo()
    assert sorted(path.name for path in out.iterdir()) == sorted(["vector.index", FORMS[form][0]])


def test_an_export_into_a_gallery_of_ours_is_refused(tmp_path: Path) -> None:
    one, _ = ours(tmp_path / "one"), ours(tmp_path / "two")
    with pytest.raises(GalleryError, match="is a gallery of shitu"):
        export_gallery(one, tmp_path / "two", "paddleclas")


@pytest.mark.parametrize("dist_type", ["IP", "L2"])
@pytest.mark.parametrize("method", ["Flat", "HNSW32", "IVF4,Flat"])
def test_paddlex_reads_an_export(method: str, dist_type: str, tmp_path: Path) -> None:
    """IndexData.load and FaissIndexer.__call__ of PaddleX 3.4.3, line by line."""
    vectors, labels = unit(60), [*map(str, range(56)), "no", "1e3", "green tea", "a: b # c"]
    items = [Item(label, "p.jpg") for label in labels]
    gallery = Gallery.create(
        tmp_path / "ours", vectors, items, index_method=method, dist_type=dist_type, fingerprint="f"
    )
    gallery.remove([7])
    assert export_gallery(gallery, tmp_path / "px", "paddlex") == 59
    with (tmp_path / "px" / "id_map.yaml").open(encoding="utf-8") as file:
        info = yaml.load(file, Loader=yaml.FullLoader)
    assert (info["metric_type"], info["index_type"]) == (dist_type, method.split("4", maxsplit=1)[0])
    id_map = {np.int64(k): str(v) for k, v in info["id_map"].items()}
    index = faiss.read_index(str(tmp_path / "px" / "vector.index"))
    assert index.ntotal == len(id_map)
    if "IVF" in method:
        faiss.downcast_index(index.index).nprobe = 4
    live = [number for number in range(60) if number != 7]
    assert [id_map[number] for number in index.search(vectors[live], 1)[1][:, 0]] == [labels[n] for n in live]
    assert [item.label for item in Gallery.open(tmp_path / "px").items()] == [labels[number] for number in live]
