"""Galleries of PaddleClas and PaddleX, made here with faiss and pickle exactly as those programs make them."""

from __future__ import annotations

import os
import pickle
import pickletools
import subprocess
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
import yaml

from shitu.errors import GalleryError
from shitu.gallery import Item, foreign
from shitu.gallery.export import export_gallery
from shitu.gallery.foreign import read_pickle, split_entry
from shitu.gallery.gallery import Gallery
from shitu.gallery.read import faiss_index

RNG = np.random.default_rng(11)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss_index, "available_cores", lambda: 1)


def unit(count: int) -> np.ndarray:
    vectors = RNG.standard_normal((count, 32)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def codes(count: int) -> np.ndarray:
    return RNG.integers(0, 256, (count, 4), dtype=np.uint8)


def line(number: int) -> str:
    return f"gallery/{number}.jpg\tgreen tea {number}\textra"


def paddleclas(folder: Path, vectors: np.ndarray, method: str, dist_type: str, protocol: int = 4) -> None:
    """What GalleryBuilder writes: see deploy/python/build_gallery.py, _create_index, _add_gallery, _save_gallery."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = np.arange(0, len(vectors)).astype(np.int64)
    if dist_type == "hamming":
        index = faiss.index_binary_factory(32, "B" + method)
        index.train(vectors)
        index.add(vectors)
        faiss.write_index_binary(index, str(folder / "vector.index"))
    else:
        metric = faiss.METRIC_INNER_PRODUCT if dist_type == "IP" else faiss.METRIC_L2
        index = faiss.IndexIDMap2(faiss.index_factory(32, method, metric))
        index.train(vectors)
        index.add_with_ids(vectors, numbers)
        faiss.write_index(index, str(folder / "vector.index"))
    ids = {number: line(int(number)) for number in numbers}  # np.int64 keys
    with (folder / "id_map.pkl").open("wb") as file:
        pickle.dump(ids, file, protocol)


CASES = [
    *[(method, dist_type) for method in ("Flat", "HNSW32", "IVF4,Flat") for dist_type in ("IP", "L2")],
    *[(method, "hamming") for method in ("Flat", "HNSW32", "IVF4")],
]


@pytest.mark.parametrize(("method", "dist_type"), CASES)
def test_a_gallery_of_paddleclas_is_searched_in_place(method: str, dist_type: str, tmp_path: Path) -> None:
    vectors = codes(60) if dist_type == "hamming" else unit(60)
    paddleclas(tmp_path, vectors, method, dist_type)
    gallery = Gallery.open(tmp_path)
    facts = gallery.info()
    assert (facts["format"], facts["entries"], facts["dimension"]) == ("paddleclas", 60, 32)
    assert (facts["dist_type"], facts["index_method"], facts["fingerprint"]) == (dist_type, method, None)
    found = gallery.search(vectors, 3)
    assert [matches[0].id for matches in found] == list(range(60))
    assert {len(matches) for matches in found} == {3}
    assert (found[7][0].label, found[7][0].image) == ("green tea 7", "gallery/7.jpg")
    assert len(gallery.search(vectors[:1], 100)[0]) == 60
    np.testing.assert_array_equal(gallery.vectors(), vectors)
    assert gallery.verify() == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["id_map.pkl", "vector.index"]


@pytest.mark.parametrize(("method", "dist_type"), CASES)
def test_its_first_change_makes_it_ours(method: str, dist_type: str, tmp_path: Path) -> None:
    vectors = codes(61) if dist_type == "hamming" else unit(61)
    paddleclas(tmp_path, vectors[:60], method, dist_type)
    theirs = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    gallery = Gallery.open(tmp_path)
    assert gallery.append(vectors[60:], [Item("new", "n.jpg")]) == [60]
    assert gallery.remove([5]) == 1
    for opened in (gallery, Gallery.open(tmp_path)):
        assert opened.info()["format"] == "shitu-gallery"
        live = [*range(5), *range(6, 61)]
        assert [m[0].id for m in opened.search(vectors[live], 1)] == live
        assert 5 not in {match.id for matches in opened.search(vectors, 60) for match in matches}
        assert opened.search(vectors[8:9], 1)[0][0].label == "green tea 8"
        assert opened.verify() == []
    assert {name: (tmp_path / name).read_bytes() for name in theirs} == theirs


def test_ids_with_gaps_stay(tmp_path: Path) -> None:
    vectors = unit(6)
    numbers = np.array([40, 3, 17, 5, 9, 1000], np.int64)
    index = faiss.IndexIDMap2(faiss.index_factory(32, "Flat", faiss.METRIC_INNER_PRODUCT))
    index.add_with_ids(vectors, numbers)
    faiss.write_index(index, str(tmp_path / "vector.index"))
    (tmp_path / "id_map.pkl").write_bytes(pickle.dumps({n: line(int(n)) for n in numbers}))
    gallery = Gallery.open(tmp_path)
    assert [m[0].id for m in gallery.search(vectors, 1)] == numbers.tolist()
    np.testing.assert_array_equal(gallery.vectors(), vectors[np.argsort(numbers)])
    gallery.remove([17])
    assert gallery.append(vectors[2:3], [Item("a", "b")]) == [1001]
    assert [m[0].id for m in gallery.search(vectors, 1)] == [40, 3, 1001, 5, 9, 1000]


def test_two_who_opened_it_do_not_mix_their_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = unit(10)
    paddleclas(tmp_path, vectors, "Flat", "IP")
    one = Gallery.open(tmp_path)
    monkeypatch.setattr(foreign, "_IN_USE", {})  # as in another process
    two = Gallery.open(tmp_path)
    one.remove([0])
    with pytest.raises(GalleryError, match="open it again"):
        two.remove([1])


def test_compressed_vectors_are_searched_but_not_converted(tmp_path: Path) -> None:
    vectors = unit(300)
    paddleclas(tmp_path, vectors, "SQ8", "IP")
    gallery = Gallery.open(tmp_path)
    assert gallery.search(vectors[4:5], 1)[0][0].id == 4
    with pytest.raises(GalleryError, match="shitu build-gallery"):
        gallery.remove([0])
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == ["id_map.pkl", "vector.index"]


def test_a_gallery_of_paddlex(tmp_path: Path) -> None:
    vectors = unit(20)
    paddleclas(tmp_path, vectors, "HNSW32", "IP")
    (tmp_path / "id_map.pkl").unlink()
    labels = {number: f"绿茶 {number}" for number in range(18)} | {18: "no", 19: "1e3"}
    content = {"index_type": "HNSW32", "metric_type": "IP", "id_map": labels}
    text = yaml.safe_dump(content, allow_unicode=True).replace("'no'", "no").replace("'1e3'", "1e3")
    (tmp_path / "id_map.yaml").write_text(text, encoding="utf-8")
    gallery = Gallery.open(tmp_path)
    assert gallery.info()["format"] == "paddlex"
    found = [matches[0] for matches in gallery.search(vectors, 1)]
    assert [match.label for match in found] == list(labels.values())
    gallery.remove([0])
    assert Gallery.open(tmp_path).find(labels=["no"]) == [18]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1, 2]",
        "id_map: 5",
        "id_map: {a: b}",
        "id_map: {1: [x]}",
        "id_map: !!python/object/apply:os.getcwd []",
        "{",
        "\x00",
    ],
)
def test_a_damaged_id_map_yaml(text: str, tmp_path: Path) -> None:
    paddleclas(tmp_path, unit(3), "Flat", "IP")
    (tmp_path / "id_map.pkl").unlink()
    (tmp_path / "id_map.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(GalleryError, match="shitu build-gallery"):
        Gallery.open(tmp_path)


@pytest.mark.parametrize(
    ("text", "delimiter", "wanted"),
    [
        ("a.jpg\tgreen tea", "\t", ("a.jpg", "green tea")),
        ("a b.jpg\tgreen  tea\t3\tx", "\t", ("a b.jpg", "green  tea")),
        ("a.jpg green tea", " ", ("a.jpg", "green tea")),
        ("a.jpg green tea", "\t", ("a.jpg", "green tea")),
        ("a.jpg,tea,hot", ",", ("a.jpg", "tea,hot")),
        ("a.jpg", "\t", ("a.jpg", "")),
        ("", "\t", ("", "")),
    ],
)
def test_split_entry(text: str, delimiter: str, wanted: tuple[str, str]) -> None:
    assert split_entry(text, delimiter) == wanted


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", [int, np.int64, np.int32, np.uint8, np.dtype(">i4").type])
def test_honest_pickles(protocol: int, kind: Any, tmp_path: Path) -> None:
    id_map = {kind(number): f"{number}.jpg\tlabel" for number in (0, 1, 127)}
    (tmp_path / "p").write_bytes(pickle.dumps(id_map, protocol))
    assert read_pickle(tmp_path / "p") == {0: "0.jpg\tlabel", 1: "1.jpg\tlabel", 127: "127.jpg\tlabel"}


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_pickles_of_either_numpy(module: bytes, tmp_path: Path) -> None:
    content = pickle.dumps({np.int64(-1 + 6): "a\tb"}, 2)
    old = content.replace(np.int64(0).__reduce__()[0].__module__.encode(), module)
    assert module in old
    (tmp_path / "p").write_bytes(old)
    assert read_pickle(tmp_path / "p") == {5: "a\tb"}


class Runs:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def evil(marker: Path) -> dict[str, bytes]:
    command = f"touch {marker}"
    code = f"open({str(marker)!r}, 'w')"
    scalar = np.int64(0).__reduce__()[0]  # numpy moved it from numpy.core to numpy._core
    nested = pickle.dumps(Runs(os.system, command))
    made = {
        "os.system": pickle.dumps(Runs(os.system, command)),
        "in a value": pickle.dumps({0: Runs(os.system, command)}),
        "in a key": pickle.dumps({Runs(eval, code): "a\tb"}),
        "eval": pickle.dumps(Runs(eval, code)),
        "exec": pickle.dumps(Runs(exec, code)),
        "subprocess": pickle.dumps(Runs(subprocess.call, ["touch", str(marker)])),
        "getattr": pickle.dumps(Runs(getattr, "text", "upper")),
        "pickle in pickle": pickle.dumps(Runs(pickle.loads, nested)),
        "object scalar": pickle.dumps({np.int64(0): Runs(scalar, np.dtype("O"), nested)}),
        "object array": pickle.dumps({0: np.array([Runs(os.system, command)], dtype=object)}),
        "structured scalar": pickle.dumps(Runs(scalar, np.dtype([("a", "O")]), nested)),
        "numpy function": pickle.dumps(Runs(np.load, str(marker))),
        "protocol 0": f"cos\nsystem\n(S'{command}'\ntR.".encode(),
        "protocol 0, inst": f"(S'{command}'\nios\nsystem\n.".encode(),
        "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0ddtype.__new__\x93.",
        "extension": b"\x80\x02\x82\x01.",
        "persistent": b"\x80\x02U\x01aQ.",
        "build": b"\x80\x02cnumpy\ndtype\nU\x02i8\x85R}U\x05dtypeU\x01Osb.",
    }
    made["optimised"] = pickletools.optimize(made["os.system"])
    return made


@pytest.mark.parametrize("name", list(evil(Path("x"))))
def test_pickles_that_would_run_something(name: str, tmp_path: Path) -> None:
    paddleclas(tmp_path, unit(1), "Flat", "IP")
    marker = tmp_path / "marker"
    (tmp_path / "id_map.pkl").write_bytes(evil(marker)[name])
    with pytest.raises(GalleryError, match="shitu build-gallery") as caught:
        Gallery.open(tmp_path)
    assert not marker.exists()
    if name in ("os.system", "eval", "subprocess"):
        assert {"os.system": "system", "eval": "eval", "subprocess": "subprocess.call"}[name] in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        pickle.dumps([1, 2]),
        pickle.dumps({"a": "b"}),
        pickle.dumps({0: 5}),
        pickle.dumps({0.5: "a"}),
        pickle.dumps({True: "a"}),
        pickle.dumps({-1: "a"}),
        pickle.dumps({2**63: "a"}),
        pickle.dumps({0: b"a"}),
        pickle.dumps({0: None}),
        pickle.dumps({np.float32(0): "a"}),
        pickle.dumps({0: "a\tb"})[:-3],
        b"\x80\x04" + b"(" * 100_000,
    ],
)
def test_pickles_that_are_no_id_map(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(content)
    with pytest.raises(GalleryError, match="shitu build-gallery"):
        read_pickle(tmp_path / "p")


def test_a_huge_pickle_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shitu.gallery.foreign.MOST_BYTES", 10)
    (tmp_path / "p").write_bytes(pickle.dumps({0: "a\tb"}))
    with pytest.raises(GalleryError, match="larger than 10 bytes"):
        read_pickle(tmp_path / "p")


def test_parts_that_do_not_belong_together(tmp_path: Path) -> None:
    paddleclas(tmp_path, unit(5), "Flat", "IP")
    for ids in (range(4), range(1, 6)):
        (tmp_path / "id_map.pkl").write_bytes(pickle.dumps({n: line(n) for n in ids}))
        with pytest.raises(GalleryError, match="do not belong together"):
            Gallery.open(tmp_path)
    (tmp_path / "vector.index").write_bytes(b"garbage")
    with pytest.raises(GalleryError, match="cannot be read as a faiss index"):
        Gallery.open(tmp_path)
    (tmp_path / "vector.index").unlink()
    with pytest.raises(GalleryError, match="missing beside its id_map"):
        Gallery.open(tmp_path)


@pytest.mark.parametrize(("method", "dist_type"), [*CASES, ("IVF", "IP"), ("Flat", "IP")])
def test_an_export_is_read_as_paddleclas_reads_it(method: str, dist_type: str, tmp_path: Path) -> None:
    vectors = codes(60) if dist_type == "hamming" else unit(60)
    entries = [Item(f"tea{n}", f"{n}.jpg") for n in range(60)]
    gallery = Gallery.create(
        tmp_path / "ours", vectors, entries, index_method=method, dist_type=dist_type, fingerprint="f"
    )
    gallery.remove([0, 30])
    assert export_gallery(gallery, tmp_path / "theirs", "paddleclas") == 58
    # predict_system.py: read_index or read_index_binary, pickle.load, and label = id_map[id].split()[1]
    path = str(tmp_path / "theirs" / "vector.index")
    index = faiss.read_index_binary(path) if dist_type == "hamming" else faiss.read_index(path)
    with (tmp_path / "theirs" / "id_map.pkl").open("rb") as file:
        id_map = pickle.load(file)
    assert index.ntotal == len(id_map) == 58
    live = [n for n in range(60) if n not in (0, 30)]
    _, docs = index.search(vectors[live], 1)
    assert [id_map[number].split()[1] for number in docs[:, 0]] == [f"tea{n}" for n in live]
    # ... and back
    again = Gallery.open(tmp_path / "theirs")
    assert [m[0].label for m in again.search(vectors[live], 1)] == [f"tea{n}" for n in live]
    if dist_type != "hamming":
        assert [item.id for item in again.items()] == live
    again.remove([again.find(labels=["tea7"])[0]])
    assert again.find(labels=["tea7"]) == []


def test_an_export_onto_itself_or_of_nothing(tmp_path: Path) -> None:
    gallery = Gallery.create(
        tmp_path, unit(2), [Item("a b", ""), Item("c", "d")], index_method="Flat", dist_type="IP", fingerprint=""
    )
    with pytest.raises(GalleryError, match="another folder"):
        export_gallery(gallery, tmp_path / ".." / tmp_path.name, "paddleclas")
    gallery.remove([0, 1])
    assert export_gallery(gallery, tmp_path / "out", "paddleclas") == 0
    assert len(Gallery.open(tmp_path / "out")) == 0
