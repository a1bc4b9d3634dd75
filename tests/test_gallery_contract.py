"""What every kind of gallery promises: a folder, a dictionary, Milvus and Postgres, against brute force."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shitu.errors import GalleryBusyError, GalleryError
from shitu.gallery import GalleryReader, Item, open_reader, open_writer, settings_of
from shitu.gallery.base import LabelCount
from shitu.gallery.change import new_facts
from tests.gallery_places import EVERY, Place, build, change, place_of, things, unit_vectors

VECTORS, ITEMS = unit_vectors(60), things(60)


@pytest.fixture(params=EVERY)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def place(kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return place_of(kind, request, tmp_path, monkeypatch)


@pytest.fixture
def url(place: Place) -> str:
    url = place()
    build(url, VECTORS, ITEMS)
    return url


def plain(items: Iterator[Item] | list[Item]) -> set[Item]:
    """Without the ids, which only the gallery knows."""
    return {dataclasses.replace(item, id=-1) for item in items}


@pytest.mark.parametrize("dist_type", ["IP", "L2", "hamming"])
def test_the_nearest_are_those_of_brute_force(place: Place, kind: str, dist_type: str) -> None:
    url, vectors, queries = place(), unit_vectors(80), unit_vectors(7, seed=1)
    vectors[40:44] = vectors[0]  # equal vectors: by id
    queries[0] = vectors[0]
    if dist_type == "hamming":
        vectors, queries = (np.packbits(each > 0, axis=1) for each in (vectors, queries))  # type: ignore[assignment]
    if (kind, dist_type) == ("milvus", "hamming"):
        with pytest.raises(GalleryError, match="not kept in Milvus; keep them in a folder or in Postgres"):
            build(url, vectors, things(80), dist_type)
        return
    ids = np.array(build(url, vectors, things(80), dist_type).ids)
    reader = open_reader(url)
    measure = reader.facts.measure
    for k in (1, 5, 200):
        for query, matches in zip(queries, reader.search(queries, k), strict=True):
            scores = measure.score(query, vectors)
            order = np.lexsort((ids, -measure.sign * scores))[:k]
            assert [match.id for match in matches] == ids[order].tolist()
            assert [match.score for match in matches] == scores[order].tolist()
    assert {match.label: match.image for match in matches}.items() <= {(one.label, one.image) for one in things(80)}


def test_what_is_asked_wrongly(url: str) -> None:
    reader = open_reader(url)
    with pytest.raises(ValueError, match=r"shape \(1, 31\)"):
        reader.search(VECTORS[:1, :31], 1)
    with pytest.raises(ValueError, match="zero or not finite"):
        reader.search(np.zeros((1, 32), np.float32), 1)
    with pytest.raises(GalleryError, match="no entry"):
        reader.vectors_of([2**62 + 5])


def test_all_that_an_entry_says_comes_back(url: str) -> None:
    reader = open_reader(url)
    items = list(reader.items())
    ids = [item.id for item in items]
    assert ids == sorted(set(ids))
    assert plain(items) == set(ITEMS)
    assert reader.lookup([*ids[:3], 2**63 - 2, -1, 2**70]) == {item.id: item for item in items[:3]}
    assert (len(reader), reader.verify()) == (60, [])
    numbers = {item.image: number for number, item in enumerate(ITEMS)}
    expected = np.stack([VECTORS[numbers[item.image]] for item in items])
    blocks = list(reader.blocks())
    assert np.concatenate([block for block, _ in blocks]).tolist() == ids
    assert np.array_equal(np.concatenate([block for _, block in blocks]), expected)
    assert np.array_equal(reader.vectors_of([ids[7], ids[2], ids[7]]), expected[[7, 2, 7]])


def test_find(url: str) -> None:
    reader = open_reader(url)
    all_ = list(reader.items())

    def ids(*wanted: Item) -> list[int]:
        return [item.id for item in all_ if dataclasses.replace(item, id=-1) in wanted]

    assert reader.find(labels=["绿茶 1", "nothing"]) == ids(*(item for item in ITEMS if item.label == "绿茶 1"))
    assert reader.find(images=["照片/7.jpg"], sha256s=[f"{9:064x}"]) == ids(ITEMS[7], ITEMS[9])
    assert reader.find(ids=[all_[5].id, 2**61 + 3]) == [all_[5].id]
    strange = ['"', "'; DROP TABLE shitu_gallery; --", "\\", "] or id > 0 or label in [", "\0", "\udcff", "a\nb", "%"]
    assert reader.find(labels=strange, images=strange) == []


def test_strange_labels_are_kept_as_they_are(place: Place) -> None:
    url = place()
    labels = ['5" pipe', "it's", "back\\slash", "100 %_", "two\nlines", "{x}", "a" * 3000, "", "茶\t", "$1 ?", "é"]
    build(url, VECTORS[: len(labels)], [Item(label, f"{n}.jpg") for n, label in enumerate(labels)])
    reader = open_reader(url)
    assert {item.label for item in reader.items()} == set(labels)
    for label in labels:
        assert [item.label for item in reader.lookup(reader.find(labels=[label])).values()] == [label]
        assert [item.label for item in reader.page(label=label)] == [label]
    assert [item.label for item in reader.page(text="100 %_")] == ["100 %_"]


def test_pages_and_labels(url: str) -> None:
    reader = open_reader(url)
    everything = list(reader.items())
    pages: list[Item] = []
    while page := reader.page(after=pages[-1].id if pages else -1, limit=7):
        assert len(page) <= 7
        pages += page
    assert pages == everything
    assert reader.page(label="绿茶 2", limit=4) == [item for item in everything if item.label == "绿茶 2"][:4]
    assert reader.page(text="茶 3", limit=99) == [item for item in everything if item.label == "绿茶 3"]

    def count(label: str) -> LabelCount:
        ids = [item.id for item in everything if item.label == label]
        return LabelCount(label, len(ids), min(ids), max(ids))

    assert reader.labels() == [count(f"绿茶 {n}") for n in range(5)]
    assert reader.labels(after="绿茶 1", limit=2) == [count("绿茶 2"), count("绿茶 3")]
    assert reader.labels(text="4") == [count("绿茶 4")]


def test_a_reader_keeps_its_moment_until_it_is_refreshed(url: str) -> None:
    old = open_reader(url)
    before = list(old.items())
    gone = [before[3].id, before[8].id]
    added = change(url, unit_vectors(5, seed=3), things(5, 60), remove=[*gone, 2**62])
    assert (len(added.ids), added.removed) == (5, 2)
    new = old.refreshed()
    assert new is not old
    assert new.refreshed() is new
    assert (len(old), len(new)) == (60, 63)
    assert not set(gone) & {item.id for item in new.items()}
    assert plain(new.items()) >= set(things(5, 60))
    assert new.search(unit_vectors(5, seed=3), 1)[2][0].id == added.ids[2]
    assert [match.id for match in new.search(VECTORS, 63)[0]].count(gone[0]) == 0
    assert old.search(VECTORS[10:11], 1)[0][0].image == ITEMS[10].image
    assert old.facts.uid == new.facts.uid
    assert new.verify() == []


def test_ids_are_never_used_again(url: str) -> None:
    last = max(item.id for item in open_reader(url).items())
    seen = {item.id for item in open_reader(url).items()}
    change(url, remove=[last])
    added = change(url, VECTORS[:3], [Item("新", f"new{n}.jpg", f"{n + 900:064x}") for n in range(3)])
    assert not set(added.ids) & seen
    assert len(open_reader(url)) == 62


def test_the_same_entry_may_be_there_more_than_once(place: Place) -> None:
    """Of one photo under two labels, and of entries that say nothing of themselves but a label."""
    url = place()
    items = [Item("a", "x.jpg", "1" * 64), Item("b", "x.jpg", "1" * 64), *[Item("c", "")] * 3]
    ids = build(url, VECTORS[[0, 0, 1, 2, 2]], items).ids
    assert len(set(ids)) == 5
    assert len(list(open_reader(url).items())) == 5
    assert len(change(url, VECTORS[3:5], [Item("c", "")] * 2).ids) == 2
    reader = open_reader(url)
    assert (len(reader), len(reader.find(labels=["c"])), reader.verify()) == (7, 5, [])


def test_undo_takes_back_and_gives_back(url: str, kind: str) -> None:
    if kind == "dictionary":
        return
    built = set(open_reader(url).items())
    change(url, VECTORS[:4], things(4, 100), remove=[min(item.id for item in built)])
    changed = set(open_reader(url).items())
    for expected in (built, changed, built):
        undo(url)
        reader = open_reader(url)
        assert (set(reader.items()), len(reader), reader.verify()) == (expected, len(expected), [])
    # After an undo, the next change starts from what is seen, and nothing of what was undone comes back.
    more = change(url, VECTORS[:2], things(2, 200))
    reader = open_reader(url)
    assert plain(reader.items()) == {*ITEMS, *things(2, 200)}
    assert not set(more.ids) & {item.id for item in changed}
    assert (len(reader), reader.verify()) == (62, [])
    assert len(reader.search(VECTORS[:1], 99)[0]) == 62


def test_undo_of_a_build(url: str, kind: str) -> None:
    if kind == "dictionary":
        return
    before, uid = set(open_reader(url).items()), open_reader(url).facts.uid
    old = open_reader(url)
    build(url, VECTORS[:9], things(9, 500))
    assert {match.id for match in old.search(VECTORS[:1], 5)[0]} <= {item.id for item in before}
    assert plain(open_reader(url).items()) == set(things(9, 500))
    undo(url)
    assert (set(open_reader(url).items()), open_reader(url).facts.uid) == (before, uid)
    undo(url)
    assert len(open_reader(url)) == 9
    change(url, remove=[next(open_reader(url).items()).id])
    undo(url)
    assert len(open_reader(url)) == 9


def undo(url: str) -> None:
    with open_writer(url) as writer:
        writer.undo()


def test_compact_keeps_ids_and_ends_undo(url: str, kind: str) -> None:
    gone = [item.id for item in open_reader(url).items()][:20]
    change(url, remove=gone)
    kept = list(open_reader(url).items())
    with open_writer(url) as writer:
        writer.compact()
    reader = open_reader(url)
    assert (list(reader.items()), reader.verify()) == (kept, [])
    assert {match.id for match in reader.search(VECTORS[:1], 40)[0]} == {item.id for item in kept}
    if kind != "dictionary":
        with pytest.raises(GalleryError, match="nothing to undo"):
            undo(url)


def test_a_change_that_fails_changes_nothing(url: str, kind: str) -> None:
    before, gone = set(open_reader(url).items()), [next(open_reader(url).items()).id]
    bad = np.concatenate([VECTORS[:3], np.zeros((1, 32), np.float32)])
    with pytest.raises((ValueError, GalleryError), match="zero or not finite"):
        change(url, bad, things(4, 300), remove=gone)
    for vectors, items in ((VECTORS[:3], things(4, 300)), (VECTORS[:4], things(3, 300))):
        if kind != "dictionary":
            with pytest.raises(ValueError, match=r"vectors"):
                change(url, vectors, items, remove=gone)
    if kind in ("milvus", "postgres"):
        with pytest.raises(GalleryError, match="cannot be kept in a database"):
            change(url, VECTORS[:2], [things(1, 300)[0], Item("a\0b", "x")], remove=gone)
    reader = open_reader(url)
    assert (set(reader.items()), reader.verify()) == (before, [])
    change(url, VECTORS[:1], things(1, 300))
    reader = open_reader(url)
    assert (plain(reader.items()), reader.verify()) == ({*ITEMS, *things(1, 300)}, [])


def test_where_there_is_no_gallery(place: Place, kind: str) -> None:
    url = place()
    with pytest.raises(GalleryError, match=r"there is no gallery .*shitu build-gallery"):
        open_reader(url)
    if kind != "dictionary":
        with (
            open_writer(url) as writer,
            pytest.raises(GalleryError, match=r"there is no gallery .*shitu build-gallery"),
        ):
            writer.begin()


def test_an_emptied_gallery_is_still_one(url: str) -> None:
    change(url, remove=[item.id for item in open_reader(url).items()])
    empty = open_reader(url)
    assert (len(empty), list(empty.items()), empty.labels(), empty.page(), list(empty.blocks())) == (0, [], [], [], [])
    assert empty.search(VECTORS[:2], 3) == [[], []]
    assert empty.verify() == []
    change(url, VECTORS[:2], things(2, 700))
    assert len(empty.refreshed()) == 2


def test_facts_stay_and_a_nameless_model_gets_a_name(place: Place, kind: str) -> None:
    url = place()
    facts = new_facts(32, "IP", "Flat", "", settings='{"IndexProcess.vote_k": 3}')
    with open_writer(url) as writer:
        first = writer.begin(facts)
        first.add(VECTORS[:5], ITEMS[:5])
        first.commit()
    assert settings_of(url) == facts.settings
    told = open_reader(url).facts
    assert (told.uid, told.created, told.dimension, told.fingerprint) == (facts.uid, facts.created, 32, "")
    with open_writer(url) as writer:
        second = writer.begin()
        second.add(VECTORS[5:6], ITEMS[5:6], made_by=new_facts(32, "IP", "Flat", "print", "the model"))
        second.commit()
    if kind != "dictionary":
        assert (open_reader(url).facts.fingerprint, open_reader(url).facts.model_name) == ("print", "the model")
        with pytest.raises(GalleryError, match="made by another model"):
            open_reader(url).facts.check_fits(url, fingerprint="other", dimension=32, dist_type="IP")
    info = open_reader(url).info()
    assert (info["entries"], info["labels"], info["dimension"], info["path"]) == (6, 5, 32, url)


def test_one_writer_at_a_time(url: str, kind: str) -> None:
    if kind == "dictionary":
        return
    failed: list[BaseException] = []

    def second() -> None:
        try:
            with open_writer(url):
                pass
        except GalleryBusyError as error:
            failed.append(error)

    with open_writer(url) as writer:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(60)
        made = writer.begin()
        made.add(VECTORS[:1], things(1, 800))
        made.commit()
    assert "being written by another" in str(failed[0])
    second()
    assert len(failed) == 1
    assert len(open_reader(url)) == 61


def test_threads_search_while_a_writer_changes(url: str) -> None:
    """Each sees whole changes alone: pairs come and go together."""
    wrong: list[Any] = []
    stop = threading.Event()

    def look() -> None:
        reader: GalleryReader = open_reader(url)
        while not stop.is_set():
            reader = reader.refreshed()
            images = [item.image for item in reader.items()]
            pairs = sum(image.startswith("pair") for image in images)
            if pairs % 2:
                wrong.append(images)
            if reader.search(VECTORS[20:21], 1)[0][0].image != ITEMS[20].image:
                wrong.append("search")

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(6):
            pair = [Item("pair", f"pair{number}{side}", f"{1000 + 2 * number + side:064x}") for side in (0, 1)]
            ids = change(url, unit_vectors(2, seed=number + 9), pair).ids
            if number % 2:
                change(url, remove=list(ids))
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert not wrong
    assert (len(open_reader(url)), open_reader(url).verify()) == (66, [])


@pytest.mark.parametrize("seed", range(3))
def test_any_order_of_changes_gives_what_a_dictionary_would(place: Place, kind: str, seed: int) -> None:
    """Appends, removals, builds, undo, compact and failed changes, at random; after each, a set says what is there."""
    url, random = place(), np.random.default_rng(seed)
    everything, fresh = unit_vectors(300, seed=seed + 50), iter(things(300))
    vectors: dict[Item, Any] = {}

    def some(count: int) -> list[Item]:
        items = [next(fresh) for _ in range(count)]
        vectors.update((item, everything[int(item.sha256, 16)]) for item in items)
        return items

    def put(items: list[Item], remove: list[int]) -> None:
        change(url, np.stack([vectors[item] for item in items]) if items else None, items, remove)

    now = set(some(6))
    build(url, np.stack([vectors[item] for item in now]), list(now))
    before: set[Item] | None = None
    for _ in range(14):
        what = random.choice(
            ["append", "remove", "both", "build", "undo", "compact", "fail"], p=[0.2, 0.2, 0.1, 0.1, 0.25, 0.05, 0.1]
        )
        ids = {dataclasses.replace(item, id=-1): item.id for item in open_reader(url).items()}
        gone = set(random.choice(sorted(now, key=str), size=min(2, len(now)), replace=False).tolist() if now else [])
        gone = {item for item in now if item in gone} if what in ("remove", "both", "fail") else set()
        if what == "undo":
            if kind == "dictionary":
                continue
            if before is None:
                with pytest.raises(GalleryError, match="nothing to undo"):
                    undo(url)
            else:
                undo(url)
                now, before = before, now
        elif what == "compact":
            with open_writer(url) as writer:
                writer.compact()
            before = None
        elif what == "build":
            before, now = now, set(some(3))
            build(url, np.stack([vectors[item] for item in now]), list(now))
        elif what == "fail":
            items = some(2)
            bad = np.stack([vectors[items[0]], np.zeros(32, np.float32)])
            with pytest.raises((ValueError, GalleryError)):
                change(url, bad, items, [ids[item] for item in gone])
            if kind in ("milvus", "postgres"):
                before = before_after_a_failure(url, before)
        else:
            items = some(3) if what != "remove" else []
            if items or gone:
                before, now = now, (now - gone) | set(items)
                put(items, [ids[item] for item in gone])
        reader = open_reader(url)
        assert (plain(reader.items()), len(reader), reader.verify()) == (now, len(now), []), what
        if now:
            nearest = reader.search(np.stack([vectors[item] for item in now]), 1)
            assert {match.image for (match,) in nearest} == {item.image for item in now}


def before_after_a_failure(url: str, before: set[Item] | None) -> set[Item] | None:
    """A change that fails after an undo may already have given up what the undo took back; nothing else."""
    from shitu.gallery.stores.reader import StoreReader

    reader = open_reader(url)
    assert isinstance(reader, StoreReader)
    return before if reader.state.previous else None
