"""Another kind of gallery, in a dictionary: what is done with a folder is done with it by the same commands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import shitu
from shitu.build.builder import GalleryBuilder
from shitu.cli import main
from shitu.config import Config, load_config
from shitu.errors import GalleryError
from shitu.evaluation.evaluate import evaluate
from shitu.evaluation.queries import read_queries
from shitu.gallery import open_reader, open_writer
from shitu.gallery.gallery import Gallery
from shitu.gallery.open import KINDS
from shitu.images.read import read_image
from shitu.recognise.from_config import SystemPredictor
from shitu.results import Recognition, Region
from tests.conftest import DEMO, index_overrides
from tests.dictionary_gallery import GALLERIES, KIND
from tests.gallery_places import EVERY, available, place_of

PHOTO = DEMO / "photos" / "beach.jpg"


@pytest.fixture(autouse=True)
def kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "dictionary", KIND)
    GALLERIES.clear()


def configured(data_file: Path, url: str, **more: object) -> Config:
    return load_config(None, [*index_overrides(data_file, url, index_method="Flat", **more), "Global.use_gpu=False"])  # type: ignore[arg-type]


@pytest.mark.parametrize("dist_type", ["IP", "hamming"])
def test_build_predict_append_remove_evaluate(
    tmp_path: Path,
    small_list: Path,
    dist_type: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = small_list.read_text(encoding="utf-8").splitlines(keepends=True)
    half = tmp_path / "half.txt"
    half.write_text("".join(lines[:12]), encoding="utf-8")
    kinds = [kind for kind in EVERY if available(kind) and (kind, dist_type) != ("milvus", "hamming")]
    photo, found = read_image(PHOTO), []
    for kind in kinds:
        url = place_of(kind, request, tmp_path, monkeypatch)()
        more = {"dist_type": dist_type, "score_thres": -1, "hamming_radius": 500}
        config = configured(half, url, **more)
        reports = [GalleryBuilder(config).run()]
        old = SystemPredictor(config)
        for operation, data_file in (("append", small_list), ("append", small_list), ("remove", half)):
            changed = configured(data_file, url, index_operation=operation, **more)
            reports.append(GalleryBuilder(changed).run())
        counts = [(one.images, one.already_there, one.removed, one.total) for one in reports]
        assert counts == [(12, 0, None, 12), (12, 12, None, 24), (0, 24, None, 24), (0, 0, 12, 12)]
        assert (len(old.gallery), len(old.gallery.refreshed())) == (12, 12)
        assert {item.image for item in old.gallery.refreshed().items()} == {line.split("\t")[0] for line in lines[12:]}
        fresh = SystemPredictor(config)
        query = tmp_path / "queries.txt"
        query.write_text(f"{PHOTO}\t{lines[12].split(chr(9))[1]}", encoding="utf-8")
        figures = evaluate(config, read_queries(query, None, "\t")).to_dict()
        assert figures["gallery"].pop("path") == url
        figures.pop("gallery")
        found.append((without_ids(fresh.predict([photo])), figures))
    assert len(found[0][0][0].regions) >= 1
    assert all(each == found[0] for each in found)


def without_ids(answers: list[Recognition]) -> list[Recognition]:
    """In Milvus an id is a hash."""

    def matches(region: Region) -> Region:
        return replace(region, matches=tuple(replace(match, id=-1) for match in region.matches))

    return [replace(one, regions=tuple(map(matches, one.regions))) for one in answers]


@pytest.mark.parametrize("kind", ["milvus", "postgres"])
def test_a_pipeline_adds_to_a_database_and_names_from_it(
    small_list: Path, kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From Python, with the settings that the gallery remembers; another process's commit is seen by the next call."""
    url = place_of(kind, request, tmp_path, monkeypatch)()
    GalleryBuilder(configured(small_list, url, score_thres=-1)).run()
    pipeline = shitu.open(url)
    assert (len(pipeline), pipeline.config.IndexProcess.score_thres) == (24, -1)
    report = pipeline.add(PHOTO, label="海滩")
    assert (report.images, report.total) == (1, 25)
    assert pipeline.add(PHOTO, label="海滩").already_there == 1
    assert "海滩" in pipeline.predict(PHOTO)[0].labels
    with pytest.raises(GalleryError, match="made by another model"):
        open_reader(url).facts.check_fits(url, fingerprint="another", dimension=512, dist_type="IP")
    with pytest.raises(GalleryError, match="has dist_type IP"):
        GalleryBuilder(configured(small_list, url, index_operation="append", dist_type="L2")).run()
    GalleryBuilder(configured(small_list, url, index_operation="remove")).run()
    assert len(pipeline) == 1


def test_the_commands_take_its_url(small_list: Path) -> None:
    url = "dictionary://two"
    GalleryBuilder(configured(small_list, url)).run()

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(main, ["gallery", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    assert json.loads(run("info", url))["entries"] == 24
    assert len(run("list", url).splitlines()) == 24
    assert json.loads(run("remove", url, "--id", "3"))["entries"] == 23
    run("verify", url)


def test_an_emptied_gallery_is_still_one(tmp_path: Path, small_list: Path) -> None:
    """Before, no entries counted as no gallery: another one was made in its place, without a check of the model."""
    for url in (str(tmp_path / "folder"), "dictionary://three"):
        config = configured(small_list, url)
        GalleryBuilder(config).run()
        GalleryBuilder(configured(small_list, url, index_operation="remove")).run()
        empty = open_reader(url)
        assert len(empty) == 0
        assert SystemPredictor(config, empty).gallery is empty
        with pytest.raises(GalleryError, match="has dist_type IP"):
            GalleryBuilder(configured(small_list, url, index_operation="append", dist_type="L2")).run()
        report = GalleryBuilder(configured(small_list, url, index_operation="append")).run()
        full = empty.refreshed()
        assert (report.total, full.facts.uid) == (24, empty.facts.uid)
        assert full.find(ids=range(99)) == list(range(24, 48)), "ids are never used again"


def test_an_unknown_scheme() -> None:
    for opening in (open_reader, open_writer):
        with pytest.raises(GalleryError, match=r"qdrant:// are unknown \(known: milvus://, postgresql://, dictionary"):
            opening("qdrant://host/x")


def test_a_windows_path_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="there is no gallery in"):
        open_reader(str(tmp_path / "C:\\index"))
    with pytest.raises(GalleryError, match="there is no gallery in"):
        Gallery.open("C:\\index")
