"""The same on a real Ray of this machine: two actors of one core, one of them killed in the middle, and the driver."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from shitu.build import in_shards
from shitu.build.builder import BuildReport, GalleryBuilder
from shitu.build.in_shards import InShards
from shitu.build.source import Source
from shitu.config import load_config
from shitu.errors import ModelError, ShituError, UsageError
from shitu.fleet import on_ray
from shitu.fleet.on_ray import OnRay
from shitu.fleet.parts import Parts
from shitu.fleet.shards import Run, cut
from shitu.recognise.files import recognize_files
from shitu.recognise.from_config import SystemPredictor
from shitu.recognise.in_shards import recognise_in_shards
from shitu.sources.read import read_sources
from tests.conftest import DEMO, index_overrides
from tests.fleet_sources import Deadly
from tests.test_fleet import PHOTOS, same, with_bad_images

# not importorskip: what is said to Ray before it is imported matters
pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'shitu[ray]'")


@pytest.fixture(scope="module")
def fleet() -> Iterator[OnRay]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(on_ray, "available_cores", lambda: 2)
        with OnRay(cores=1) as fleet:
            yield fleet


def build(overrides: list[str], source: Source | None = None, fleet: OnRay | None = None) -> BuildReport:
    config = load_config(None, overrides)
    place = f"{config.IndexProcess.index_dir}.parts"
    executor = {"executor": partial(InShards, fleet=fleet, place=place)} if fleet else {}
    return GalleryBuilder(config, source=source, **executor).run()  # type: ignore[arg-type]


DRIVER = """
import os, sys
from functools import partial
from importlib.util import find_spec
from tests.fleet_sources import Deadly
from tests.test_fleet_on_ray import build
from shitu.build import in_shards
from shitu.fleet.on_ray import OnRay
from shitu.fleet.shards import cut
in_shards.cut = partial(cut, size=4)
with OnRay(cores=1) as fleet:
    build(sys.argv[3:], Deadly(sys.argv[1], sys.argv[2], os.getpid()), fleet)
"""


def test_a_killed_driver_and_a_killed_actor_change_nothing(
    tmp_path: Path, small_list: Path, fleet: OnRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the driver dies, killed by the actor that opens the 21st of 26 images; then, when the same is run again, an
    actor at the 23rd."""
    monkeypatch.setattr(in_shards, "cut", partial(cut, size=4))
    lines = with_bad_images(small_list).read_text(encoding="utf-8").splitlines()
    driver, actor = (lines[number].split("\t")[0] for number in (20, 22))
    overrides = index_overrides(small_list, tmp_path / "there")
    command = [sys.executable, "-c", DRIVER, driver, str(tmp_path / "first"), *overrides]
    with subprocess.Popen(command, cwd=DEMO.parent) as process:
        assert process.wait(120) == -9
    for logs in Path(tempfile.gettempdir()).glob(f"shitu-ray-{process.pid}-*"):
        shutil.rmtree(logs)
    assert not (tmp_path / "there" / "gallery.json").exists()
    mark = tmp_path / "second"
    report = build(overrides, Deadly(actor, str(mark)), fleet)
    assert int(mark.read_text()) != os.getpid()
    assert report.resumed >= 10
    assert (report.images, [Path(path).name for path, _ in report.failed]) == (24, ["坏的.jpg", "gone.jpg"])
    build(index_overrides(small_list, tmp_path / "here"))
    same(tmp_path / "here", tmp_path / "there")
    assert not (tmp_path / "there.parts").exists()

    config = load_config(None, overrides)
    names = [*PHOTOS[:3], str(small_list.parent / "坏的.jpg"), *PHOTOS[3:5]]
    there = list(recognise_in_shards(config, names, fleet, str(tmp_path / "parts"), size=2))
    here = [told for _, told in recognize_files(SystemPredictor(config, many=True), read_sources(names))]
    assert [told.to_dict(unnamed=True) for told in there] == [told.to_dict(unnamed=True) for told in here]


class Failing:
    """Work that goes wrong where models are opened, or by the death of its process."""

    def __init__(self, how: str) -> None:
        self.how = how

    def open(self) -> Run:
        if self.how == "model":
            raise ModelError("no such model here")
        os._exit(1)


def test_what_goes_wrong_in_an_actor_is_told(tmp_path: Path, fleet: OnRay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray, "RETRIES", 0)
    parts, shards = Parts(str(tmp_path), "key"), cut(["a.jpg", "b.jpg"], str)
    with pytest.raises(ModelError, match="no such model here"):
        list(fleet.map(Failing("model"), shards, parts))
    with pytest.raises(ShituError, match=r"died 1 times over the images from a\.jpg to b\.jpg"):
        list(fleet.map(Failing("death"), shards, parts))
    assert list(fleet.map(Failing(""), [], parts)) == []
    monkeypatch.setattr(fleet, "_cores", 4)
    with pytest.raises(UsageError, match=r"wants 4 cores and 1\.6 GB, and no machine has them \(2 cores"):
        list(fleet.map(Failing(""), shards, parts))


def test_where_no_ray_is() -> None:
    with pytest.raises(UsageError, match=r"no Ray at 127\.0\.0\.1:9: .*refused; is it running"), OnRay("127.0.0.1:9"):
        pass


def test_nothing_is_open_to_others(fleet: OnRay) -> None:
    """Ray of this machine alone listens on the loopback address alone."""
    import psutil

    open_to: set[str] = set()
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # one that has just ended listens no more
            open_to |= {each.laddr.ip for each in process.net_connections("inet") if each.status == "LISTEN"}
    assert open_to
    assert open_to <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
