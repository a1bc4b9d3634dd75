"""Shards done by many: the same answers in the same order as one process gives, whatever was killed on the way.

The fleet here is of threads (tests/fleet_in_threads.py); tests/test_fleet_on_ray.py does the like on Ray.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from click.testing import CliRunner

from shitu.build import in_shards
from shitu.build.builder import BuildReport, GalleryBuilder
from shitu.build.embed import InThreads
from shitu.build.in_shards import InShards
from shitu.build.source import Source, Stored
from shitu.cli import main
from shitu.cli.fleet import Far, place_of
from shitu.config import Config, load_config
from shitu.cores import available_cores
from shitu.errors import ImageError, ShituError, UsageError
from shitu.fleet.parts import Parts
from shitu.fleet.shards import Run, Shard, cut, in_order
from shitu.gallery import open_reader
from shitu.gallery.gallery import Gallery
from shitu.gallery.open import KINDS
from shitu.object_store import delete, find_stored, identity_of, is_stored, open_stored, put
from shitu.recognise.files import recognize_files
from shitu.recognise.from_config import SystemPredictor
from shitu.recognise.in_shards import recognise_in_shards
from shitu.results import Recognition
from shitu.sources.read import find_sources, read_sources
from tests.conftest import DEMO, index_overrides
from tests.dictionary_gallery import KIND
from tests.fleet_in_threads import InThreadPool

PHOTOS = sorted(map(str, (DEMO / "photos").glob("*.jpg")))


@pytest.fixture(params=["folder", "file://", "memory://"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where parts lie: a folder, the same as a URL, and a store that has no folders at all."""
    kind = request.param
    if kind != "folder":
        pytest.importorskip("fsspec")
    yield str(tmp_path / "parts") if kind == "folder" else f"{kind}{tmp_path}/parts"
    delete(f"memory://{tmp_path}")


# --- shards and parts ------------------------------------------------------------------------------------------------


class Doubling:
    def open(self) -> Run:
        return lambda lines: json.dumps([2 * line for line in lines]).encode()


def test_parts_come_in_the_order_of_the_list_and_are_made_once(place: str) -> None:
    parts, fleet = Parts(place, "key"), InThreadPool()
    shards = cut(range(10), int, 3)
    assert [len(shard.lines) for shard in shards] == [3, 3, 3, 1]

    def all_of_them() -> list[int]:
        return [line for _, part in in_order(fleet, Doubling(), shards, parts) for line in json.loads(part)]

    parts.write(shards[1].name, b"[6, 8, 10]")  # as a driver that was killed leaves it
    assert all_of_them() == list(range(0, 20, 2))
    assert fleet.done == [shards[0], shards[2], shards[3]]
    assert all_of_them() == list(range(0, 20, 2))
    assert len(fleet.done) == 3
    assert parts.names() == {shard.name for shard in shards}
    assert Parts(place, "other").names() == set()
    parts.delete(shards[0].name)
    assert parts.names() == {shard.name for shard in shards[1:]}
    parts.delete()
    assert parts.names() == set()
    assert not Path(place.removeprefix("file://")).exists()


def test_a_shard_is_called_by_what_is_in_it() -> None:
    names = [shard.name for shard in cut(["a", "b", "a", "b", "b", "a"], str, 2)]
    assert names[0] == names[1] != names[2]


def test_a_part_that_is_not_there_or_not_whole_says_what_to_do(tmp_path: Path) -> None:
    parts = Parts(str(tmp_path), "key")
    with pytest.raises(ShituError, match=r"not to be read here .* a place that all machines share"):
        parts.read("nothing")
    parts.write("one", b"what was written")
    path = next((tmp_path / "key").iterdir())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ShituError, match=r"is damaged; delete it"):
        parts.read("one")


# --- building --------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_shards, "cut", partial(cut, size=5))


def build(config: Config, fleet: InThreadPool | None = None, source: Source | None = None) -> BuildReport:
    place = f"{config.IndexProcess.index_dir}.parts"
    executor = {"executor": partial(InShards, fleet=fleet, place=place)} if fleet else {}
    return GalleryBuilder(config, source=source, **executor).run()  # type: ignore[arg-type]


def with_bad_images(small_list: Path) -> Path:
    """One that is cut off and one that is not there, in the middle."""
    lines = small_list.read_text(encoding="utf-8").splitlines()
    bad = small_list.parent / "坏的.jpg"
    bad.write_bytes((DEMO / lines[0].split("\t")[0]).read_bytes()[:500])
    lines[7:7] = [f"{bad}\tbad", f"{small_list.parent / 'gone.jpg'}\tgone"]
    small_list.write_text("\n".join(lines), encoding="utf-8")
    return small_list


def same(one: Path, other: Path) -> None:
    first, second = Gallery.open(one), Gallery.open(other)
    assert list(first.items()) == list(second.items())
    np.testing.assert_array_equal(first.vectors(), second.vectors())


@pytest.mark.parametrize("more", [{}, {"dist_type": "hamming"}, {"crop": "all"}], ids=["whole", "hamming", "crops"])
@pytest.mark.usefixtures("small_shards")
def test_a_gallery_is_the_one_that_this_process_builds(
    tmp_path: Path, small_list: Path, more: dict[str, object]
) -> None:
    with_bad_images(small_list)
    fleet = InThreadPool()
    here, there = (
        build(load_config(None, index_overrides(small_list, tmp_path / name, **more)), by)
        for name, by in (("here", None), ("there", fleet))
    )
    assert here == there
    assert (here.images, [Path(path).name for path, _ in here.failed]) == (24, ["坏的.jpg", "gone.jpg"])
    same(tmp_path / "here", tmp_path / "there")
    assert [len(shard.lines) for shard in fleet.done] == [5, 5, 5, 5, 5, 1]
    assert not (tmp_path / "there.parts").exists()


@pytest.mark.usefixtures("small_shards")
def test_append_leaves_out_what_is_there(tmp_path: Path, small_list: Path) -> None:
    half = tmp_path / "half.txt"
    half.write_text("".join(small_list.read_text(encoding="utf-8").splitlines(keepends=True)[:12]), encoding="utf-8")
    for name, fleet in (("here", None), ("there", InThreadPool())):
        build(load_config(None, index_overrides(half, tmp_path / name)), fleet)
        more = load_config(None, index_overrides(small_list, tmp_path / name, index_operation="append"))
        report = build(more, fleet)
        assert (report.images, report.already_there, report.total) == (12, 12, 24)
    same(tmp_path / "here", tmp_path / "there")


def test_another_kind_of_gallery_is_committed_by_the_driver(
    tmp_path: Path, small_list: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KINDS, "dictionary", KIND)
    galleries = []
    for name, fleet in (("here", None), ("there", InThreadPool())):
        config = load_config(None, index_overrides(small_list, f"dictionary://{name}"))  # type: ignore[arg-type]
        executor = partial(InShards, fleet=fleet, place=str(tmp_path / "parts")) if fleet else InThreads
        GalleryBuilder(config, executor=executor).run()
        galleries.append(list(open_reader(f"dictionary://{name}").items()))
    assert galleries[0] == galleries[1]
    assert len(galleries[0]) == 24


KILLED = """
import os, sys
from functools import partial
from tests.fleet_in_threads import InThreadPool
from tests.fleet_sources import Deadly
from shitu.build import in_shards
from shitu.build.builder import GalleryBuilder
from shitu.config import load_config
from shitu.fleet.shards import cut
in_shards.cut = partial(cut, size=4)
executor = partial(in_shards.InShards, fleet=InThreadPool(1), place=sys.argv[1])
GalleryBuilder(load_config(None, sys.argv[4:]), source=Deadly(sys.argv[2], sys.argv[3]), executor=executor).run()
"""


def test_a_killed_driver_does_only_the_rest(tmp_path: Path, small_list: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL at the 10th image of 24: of shards of 4, done from the last to the first, three are whole."""
    monkeypatch.setattr(in_shards, "cut", partial(cut, size=4))
    tenth = small_list.read_text(encoding="utf-8").splitlines()[9].split("\t")[0]
    overrides = index_overrides(small_list, tmp_path / "index")
    place, mark = str(tmp_path / "index.parts"), str(tmp_path / "mark")
    command = [sys.executable, "-c", KILLED, place, tenth, mark, *overrides]
    killed = subprocess.run(command, check=False, cwd=DEMO.parent, timeout=120)
    assert killed.returncode == -9
    assert not (tmp_path / "index" / "gallery.json").exists()
    (key,) = os.listdir(place)
    whole = sorted((tmp_path / "index.parts" / key).glob("*.shitu"))
    assert len(whole) == 3
    whole[0].write_bytes(whole[0].read_bytes()[:-1])  # and one of them is damaged since
    fleet = InThreadPool()
    report = build(load_config(None, overrides), fleet)
    assert (report.images, report.resumed, report.failed) == (24, 8, [])
    assert sum(len(shard.lines) for shard in fleet.done) == 16
    build(load_config(None, index_overrides(small_list, tmp_path / "here")))
    same(tmp_path / "here", tmp_path / "index")
    assert not (tmp_path / "index.parts").exists()


def test_a_changed_image_is_embedded_again(tmp_path: Path, small_list: Path) -> None:
    """Between the run that was broken off and the next one; an unchanged one is not."""
    lines = small_list.read_text(encoding="utf-8").splitlines()
    photos = [tmp_path / f"{number}.jpg" for number in range(3)]
    for photo, line in zip(photos, lines[::8], strict=True):
        photo.write_bytes((DEMO / line.split("\t")[0]).read_bytes())
    small_list.write_text("".join(f"{photo}\tx\n" for photo in photos), encoding="utf-8")
    config = load_config(None, index_overrides(small_list, tmp_path / "index"))

    class Stopping(InThreadPool):
        def map(self, *arguments: object) -> Iterator[str]:
            list(super().map(*arguments))  # type: ignore[arg-type]
            raise ShituError("stopped")

    with pytest.raises(ShituError, match="stopped"):
        build(config, Stopping())
    photos[1].write_bytes(photos[0].read_bytes() + b"\0")
    fleet = InThreadPool()
    assert build(config, fleet).resumed == 2
    assert [entry.path for shard in fleet.done for entry in shard.lines] == [str(photos[1])]


def test_a_machine_that_does_not_see_the_images_is_told_of(tmp_path: Path, small_list: Path) -> None:
    class Elsewhere(InThreadPool):
        def map(self, work: object, shards: list[Shard], parts: Parts) -> Iterator[str]:  # type: ignore[override]
            for shard in shards:
                rows = [{"identity": "", "sha256": "", "boxes": [], "error": "no such file", "missing": True}]
                head = json.dumps(["float32", 1, [row | {"known": True} for row in rows * len(shard.lines)]])
                parts.write(shard.name, head.encode() + b"\n")
                yield shard.name

    with pytest.raises(UsageError, match=r"is there, and a machine of the fleet does not see it"):
        build(load_config(None, index_overrides(small_list, tmp_path / "index")), Elsewhere())


# --- recognising -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recognising(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A config with a gallery of 160 entries."""
    folder = tmp_path_factory.mktemp("recognising")
    (folder / "list.txt").write_text(
        "".join((DEMO / "gallery.txt").read_text(encoding="utf-8").splitlines(keepends=True)[::3]), encoding="utf-8"
    )
    config = load_config(None, [*index_overrides(folder / "list.txt", folder / "index"), "Global.use_gpu=False"])
    GalleryBuilder(config).run()
    return config


@pytest.mark.parametrize("place", ["folder", "memory://"], indirect=True)
def test_photos_are_recognised_as_here(recognising: Config, tmp_path: Path, place: str) -> None:
    (tmp_path / "坏的.jpg").write_bytes(Path(PHOTOS[0]).read_bytes()[:900])
    names = [*PHOTOS[:4], str(tmp_path / "坏的.jpg"), str(tmp_path / "gone.jpg"), *PHOTOS[4:6]]
    here = [told for _, told in recognize_files(SystemPredictor(recognising, many=True), read_sources(names))]
    fleet = InThreadPool()

    def far() -> Iterator[Recognition]:
        return recognise_in_shards(recognising, names, fleet, place, size=3)

    broken_off = far()
    assert next(broken_off).image == names[0]
    broken_off.close()
    count = len(fleet.done)
    there = list(far())
    assert len(fleet.done) == count == 3, "what was done is not done again"
    assert [told.to_dict(unnamed=True) for told in there] == [told.to_dict(unnamed=True) for told in here]
    assert [told.image for told in there if told.error] == names[4:6]
    assert sum(len(told.regions) for told in there) > 5
    list(far())
    assert len(fleet.done) == 6, "when all was told the parts were deleted"


def test_another_gallery_has_no_part_in_it(recognising: Config, tmp_path: Path) -> None:
    """What was recognised with a gallery is nothing to go on with after it was changed, and a photo likewise."""
    fleet, photo, place = InThreadPool(), tmp_path / "photo.jpg", str(tmp_path / "parts")
    photo.write_bytes(Path(PHOTOS[0]).read_bytes())

    def first() -> None:
        records = recognise_in_shards(recognising, [str(photo)], fleet, place)
        next(records)
        records.close()

    first()
    first()
    assert len(fleet.done) == 1
    photo.write_bytes(photo.read_bytes() + b"\0")
    first()
    assert len(fleet.done) == 2
    with Gallery.open(recognising.IndexProcess.index_dir or "") as gallery:
        gallery.remove([0])
    first()
    assert len(fleet.done) == 3


# --- object stores ---------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[str]:
    """A store in memory with three photos of two things, and what is no photo."""
    pytest.importorskip("fsspec")
    root = f"memory://{tmp_path}/照片"
    for number, name in enumerate(["tea/b.jpg", "tea/a c#1.jpg", "cola/x.jpg"]):
        put(f"{root}/{name}", Path(PHOTOS[number]).read_bytes())
    put(f"{root}/notes.txt", b"no photo")
    put(f"{root}/.hidden/x.jpg", b"")
    yield root
    delete(f"memory://{tmp_path}")


def test_a_store_is_a_source(store: str) -> None:
    names = ["cola/x.jpg", "tea/a c#1.jpg", "tea/b.jpg"]
    found = list(find_sources([store]))
    assert found == [f"{store}/{name}" for name in names]
    assert list(find_sources([found[1]])) == [found[1]]
    pictures = dict(read_sources(found))
    for name, (_, expected) in zip(["tea/b.jpg", "tea/a c#1.jpg", "cola/x.jpg"], read_sources(PHOTOS[:3]), strict=True):
        np.testing.assert_array_equal(pictures[f"{store}/{name}"], expected)
    ((_, error),) = read_sources([f"{store}/gone.jpg"])
    assert isinstance(error, ImageError)
    assert "no such object" in str(error)
    with pytest.raises(UsageError, match="no object at or below"):
        list(find_sources([f"{store}/none"]))
    put(f"{store}/texts/a.txt", b"")
    with pytest.raises(UsageError, match="no image below"):
        list(find_sources([f"{store}/texts"]))


def test_a_gallery_is_built_from_a_store(store: str, tmp_path: Path) -> None:
    from shitu.build.photos import read_photos

    folder = tmp_path / "photos"
    for url in find_stored(store):
        path = folder / url.removeprefix(f"{store}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_stored(url) as stream:
            path.write_bytes(stream.read())
    for name, root, source in (("here", str(folder), None), ("there", store, Stored(store))):
        config = load_config(None, [f"IndexProcess.index_dir={tmp_path / name}", f"IndexProcess.image_root={root}"])
        executor = partial(InShards, fleet=InThreadPool(), place=f"{store}.parts")
        builder = GalleryBuilder(config, source=source, executor=executor)
        assert builder.run(read_photos(root, None)).failed == []
    same(tmp_path / "here", tmp_path / "there")
    assert next(item.image for item in Gallery.open(tmp_path / "there").items()) == "cola/x.jpg"


def test_a_list_reads_nothing_outside_its_root(store: str, tmp_path: Path) -> None:
    source = Stored(f"{store}/tea")
    assert source.identity(f"{store}/tea/b.jpg") == identity_of(f"{store}/tea/b.jpg") != ""
    outside = ("cola/x.jpg", "tea/../cola/x.jpg", "teapot", "tea")
    for path in (*(f"{store}/{name}" for name in outside), PHOTOS[0], f"file://{PHOTOS[0]}"):
        assert source.identity(path) == ""
        with pytest.raises(ImageError, match="does not lie below"), source.open(path):
            pass


def test_an_object_that_is_replaced_is_another(store: str) -> None:
    before = identity_of(f"{store}/tea/b.jpg")
    put(f"{store}/tea/b.jpg", b"something else")
    assert "" != identity_of(f"{store}/tea/b.jpg") != before
    assert identity_of(f"{store}/gone") == ""


def test_schemes_that_reach_further_are_none() -> None:
    pytest.importorskip("fsspec")
    for name in ("zip://a::http://b", "simplecache::s3://a", "http://a/b", "reference://x", "github://x", r"C:\x", "a"):
        assert not is_stored(name)
    with pytest.raises(ImageError, match="no such object"), open_stored("file:///a::memory://b"):
        pass
    with pytest.raises(UsageError, match=r"s3:// needs a library of its own: Install s3fs"):
        find_stored("s3://bucket/x")


# --- the commands ----------------------------------------------------------------------------------------------------


class InPlaceOfRay(InThreadPool):
    """What the commands open; the Ray that they would have opened is in `asked`."""

    asked: ClassVar[list[tuple[object, ...]]] = []

    def __init__(self, address: str | None, *, cores: int, gpus: int) -> None:
        super().__init__()
        self.asked.append((address, cores, gpus))

    def __enter__(self) -> InPlaceOfRay:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def run(*arguments: object, status: int = 0, stdin: str | None = None) -> tuple[str, str]:
    done = CliRunner().invoke(main, [*map(str, arguments)], input=stdin)
    assert done.exit_code == status, done.output
    return done.stdout, done.stderr


def test_the_commands_say_the_same_with_ray(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch, small_list: Path
) -> None:
    monkeypatch.setattr("shitu.fleet.on_ray.OnRay", InPlaceOfRay)
    monkeypatch.chdir(tmp_path)
    one_core = ("-o", "Global.cpu_num_threads=1")
    settings = [part for each in index_overrides(with_bad_images(small_list), Path("here")) for part in ("-o", each)]
    here = run("build-gallery", *settings, status=1)
    there = run("build-gallery", *settings, *one_core, "-g", "there", "--engine", "ray", "--address", "a:1", status=1)
    assert there[1].replace("there holds", "here holds") == here[1]
    assert InPlaceOfRay.asked.pop() == ("a:1", 1, 0)
    same(tmp_path / "here", tmp_path / "there")

    photos = [*PHOTOS[:3], small_list.parent / "坏的.jpg"]
    for style in ("json", "csv", "table"):
        options = ["--format", style, "--unnamed", "-g", "here"]
        alone = run("predict", *photos, *options, "--no-pictures", status=1)
        assert run("predict", *photos, *options, "--engine", "ray", status=1) == alone
    listed = "".join(f"{photo}\n" for photo in photos)
    assert run("predict", "-", *options, "--engine", "ray", "--parts", "p", stdin=listed, status=1)[0] == alone[0]
    told = run("predict", store, "-g", "here", "--engine", "ray")[0]
    assert [json.loads(line)["image"] for line in told.splitlines()] == list(find_sources([store]))
    run("build-gallery", store, "-g", "stored", "--engine", "ray")
    with Gallery.open("stored") as gallery:
        assert {item.label for item in gallery.items()} == {"cola", "tea"}
    small_list.write_text("tea/b.jpg\ttea\n/etc/hostname\tx\n", encoding="utf-8")
    root = ("-o", f"IndexProcess.image_root={store}", "-o", r"IndexProcess.delimiter=\t")
    told = run("build-gallery", small_list, *root, "-g", "listed", status=1)[1]
    assert "1 image indexed" in told
    assert "/etc/hostname: does not lie below memory://" in told
    assert not {path.name for path in tmp_path.iterdir()} & {"here.parts", "there.parts", "output.parts", "p"}


def test_what_goes_together_and_what_does_not(tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shitu.fleet.on_ray.OnRay", InPlaceOfRay)
    config = tmp_path / "my.yaml"
    config.write_text(f"base: general\nIndexProcess:\n  image_root: {store}\n  data_file: list.txt\n", encoding="utf-8")
    ray = ("--engine", "ray")
    for arguments, message in {
        ("build-gallery", store, "--address", "auto"): "--address is for a Ray cluster; add --engine ray",
        ("predict", PHOTOS[0], "--parts", "x"): "--parts is for a Ray cluster; add --engine ray",
        ("predict", PHOTOS[0], *ray, "--pictures"): "machines of a fleet draw none",
        ("predict", "0", *ray, "--every", "1s"): "--every watches in this process",
        ("build-gallery", store, "--crops", tmp_path / "crops"): "copy the photos here",
        ("build-gallery", "-c", config): f"image_root is {store}: nothing is fetched because a file says so",
    }.items():
        assert message in run(*arguments, status=2)[1]
    with pytest.raises(UsageError, match="where shall parts lie"):
        place_of(Far(None, None), "milvus://host/x")
    assert place_of(Far(None, None), "my_gallery/") == "my_gallery.parts"


def test_a_process_can_be_told_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    all_of_them = available_cores()
    for said, cores in {"1": 1, "0": 1, "9999": all_of_them, "": all_of_them, "x": all_of_them}.items():
        monkeypatch.setenv("SHITU_CORES", said)
        assert available_cores() == cores
