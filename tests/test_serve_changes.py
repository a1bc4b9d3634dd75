"""Changes from all sides: a command beside the server, a process that is killed, a gallery that is another by now."""

from __future__ import annotations

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shitu.gallery import Item, open_writer
from shitu.gallery.change import new_facts
from shitu.gallery.gallery import Gallery
from tests.conftest import Run
from tests.serving import BEACH, demo_gallery, drawn, files, httpx, serving

BASE = "/v1/galleries/demo"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("changes")
    demo_gallery(folder)
    return folder / "demo"


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A folder with a copy of the gallery."""
    shutil.copytree(made, tmp_path / "demo")
    return tmp_path


def teach(client: Any, number: int) -> Any:
    form = {"label": f"thing {number}", "bbox": "[0, 0, 160, 160]"}
    return client.post(f"{BASE}/items", files=[("files", (f"{number}.png", drawn(number)))], data=form)


def name_of(client: Any, number: int) -> str | None:
    """What the service calls a picture."""
    sent = [("files", ("a.png", drawn(number)))]
    (found,) = client.post(f"{BASE}/recognise", files=sent, params={"whole_image": "always"}).json()["answers"]
    return found["regions"][0]["rec_docs"] if found["regions"] else None


def test_what_a_command_adds_or_removes_is_known_at_once(place: Path, shitu: Run) -> None:
    photo = place / "bear" / "x.png"
    photo.parent.mkdir()
    photo.write_bytes(drawn(1))
    with serving(place, "-g", "demo") as running, running.client() as client:
        assert name_of(client, 1) is None
        before = client.get(BASE).json()["entries"]
        assert shitu("gallery", "append", "-g", "demo", photo, "--label", "熊", cwd=place).returncode == 0
        assert name_of(client, 1) == "熊"
        assert client.get(BASE).json()["entries"] > before
        assert shitu("gallery", "remove", "demo", "--label", "熊", cwd=place).returncode == 0
        assert name_of(client, 1) is None
        assert teach(client, 2).status_code == 201
        assert shitu("gallery", "undo", "demo", cwd=place).returncode == 0
        assert name_of(client, 2) is None


def test_killed_in_the_middle_nothing_acknowledged_is_lost(place: Path) -> None:
    acknowledged: list[int] = []
    enough = threading.Event()
    with serving(place, "-g", "demo") as running:
        before = len(Gallery.open(place / "demo"))

        def run(start: int) -> None:
            with running.client() as client:
                for number in range(start, start + 1000):
                    try:
                        done = teach(client, number)
                    except httpx.HTTPError:
                        return
                    acknowledged.extend(done.json()["ids"] if done.status_code == 201 else [])
                    if len(acknowledged) >= 20:
                        enough.set()

        with ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(run, 1000 * worker) for worker in range(4)]
            assert enough.wait(120)
            running.process.kill()
            for job in jobs:
                job.result()
    with Gallery.open(place / "demo") as opened:
        assert [told for told in opened.verify() if "belongs to no gallery" not in told] == []  # what the next sweeps
        there = opened.lookup(acknowledged)
        assert set(acknowledged) <= set(there)
        assert len(opened) >= before + len(acknowledged)
        for item in there.values():
            assert list((place / "demo" / "photos").glob(f"??/{item.sha256}.png"))
    with serving(place, "-g", "demo") as again, again.client() as client:
        assert client.get(BASE).json()["entries"] >= before + len(acknowledged)


def test_a_gallery_that_another_process_writes_is_waited_for_and_then_given_up(place: Path) -> None:
    with serving(place, "-g", "demo", "--busy-wait", 0.2) as running, running.client() as client:
        with open_writer(str(place / "demo")):  # as a long build beside would
            late = teach(client, 1)
            assert (late.status_code, late.json()["error"]["code"]) == (503, "gallery_busy")
            assert int(late.headers["retry-after"]) >= 1
            assert str(place) not in late.text
            assert client.post(f"{BASE}/recognise", files=files(BEACH)).status_code == 200  # readers go on
        assert teach(client, 1).status_code == 201


def test_a_gallery_of_another_model_in_its_place_is_told(place: Path) -> None:
    with serving(place, "-g", "demo") as running, running.client() as client:
        assert client.post(f"{BASE}/recognise", files=files(BEACH)).status_code == 200
        facts = new_facts(8, "IP", "Flat", "another", "another_model")
        with open_writer(str(place / "demo")) as writer:
            change = writer.begin(facts)
            change.add(np.eye(2, 8, dtype=np.float32), [Item("a", "a.jpg"), Item("b", "b.jpg")])
            change.commit()
        answer = client.post(f"{BASE}/recognise", files=files(BEACH))
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "gallery_unusable")
        assert "another_model" in answer.text
        assert teach(client, 1).status_code == 409
        (listed,) = client.get("/v1/galleries").json()["galleries"]
        assert "another_model" in listed["error"]
        with open_writer(str(place / "demo")) as writer:
            writer.undo()
        assert client.post(f"{BASE}/recognise", files=files(BEACH)).status_code == 200


def test_searches_meet_no_half_change(place: Path) -> None:
    """Two entries are always moved together: whoever reads finds both under one name."""
    with serving(place, "-g", "demo") as running, running.client() as client:
        ids = [number for seed in (1, 2) for number in teach(client, seed).json()["ids"]]
        client.patch(f"{BASE}/items", json={"ids": ids, "label": "pair 0"})
        ended, wrong = threading.Event(), []

        def read() -> int:
            count = 0
            with running.client() as reader:
                while not ended.is_set():
                    found = reader.get(f"{BASE}/labels", params={"text": "pair"}).json()["labels"]
                    if [each["count"] for each in found] != [2]:
                        wrong.append(found)
                    count += 1
            return count

        with ThreadPoolExecutor(3) as pool:
            readers = [pool.submit(read) for _ in range(3)]
            for number in range(1, 21):
                renamed = {"from": f"pair {number - 1}", "to": f"pair {number}"}
                assert client.post(f"{BASE}/labels/rename", json=renamed).status_code == 200
            ended.set()
            assert sum(each.result() for each in readers) > 0
        assert not wrong


def test_the_first_start_makes_an_empty_gallery(tmp_path: Path, shitu: Run) -> None:
    with serving(tmp_path) as running, running.client() as client:
        (only,) = client.get("/v1/galleries").json()["galleries"]
        assert (only["name"], only["entries"]) == ("default", 0)
        sent = {"files": ("a.png", drawn(1))}
        assert client.post("/v1/galleries/default/items", files=sent, data={"label": "茶"}).status_code == 201
        assert running.stop() == 0
    printed = shitu("gallery", "list", tmp_path / "galleries" / "default")
    assert {json.loads(line)["label"] for line in printed.stdout.splitlines()} == {"茶"}
