"""Long work over real HTTP: import, export, compact, verify, measure, cancel; and what is collected for review."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from shitu.gallery.gallery import Gallery
from tests.conftest import DEMO, ROOT, Run
from tests.serving import BEACH, LABELS, SECONDS, Running, demo_gallery, drawn, files, serving


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jobs")
    demo_gallery(folder)
    return folder


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Running]:
    with serving(place, "-g", "demo", "--collect", "collected", "--collect-below", 0.9) as running:
        yield running


@pytest.fixture
def client(server: Running) -> Iterator[Any]:
    with server.client() as made:
        yield made


@pytest.fixture
def gallery(client: Any, request: pytest.FixtureRequest) -> str:
    name = re.sub(r"\W+", "_", str(request.node.name))[:60]
    assert client.post("/v1/galleries", json={"name": name}).status_code == 201
    return name


def zipped(**members: bytes) -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def ended(client: Any, started: Any) -> dict[str, Any]:
    """The job as its stream of events last told it."""
    assert started.status_code == 202, started.text
    number = started.json()["job"]["id"]
    told: list[dict[str, Any]] = []
    with client.stream("GET", f"/v1/jobs/{number}/events", timeout=SECONDS) as events:
        told = [json.loads(line[6:]) for line in events.iter_lines() if line.startswith("data: ")]
    assert told[-1] == client.get(f"/v1/jobs/{number}").json()
    assert [each["done"] for each in told] == sorted(each["done"] for each in told)
    return told[-1]


def do(client: Any, gallery: str, **asked: Any) -> dict[str, Any]:
    return ended(client, client.post(f"/v1/galleries/{gallery}/jobs", json=asked))


def send(client: Any, gallery: str, kind: str, data: bytes, name: str = "a.zip", **form: str) -> Any:
    sent = [("files", (name, data))]
    return client.post(f"/v1/galleries/{gallery}/jobs", files=sent, data={"kind": kind, **form})


def labels_of(client: Any, gallery: str) -> dict[str, int]:
    found = client.get(f"/v1/galleries/{gallery}/labels", params={"limit": 1000}).json()["labels"]
    return {each["label"]: each["count"] for each in found}


def test_a_zip_of_folders_is_imported_and_taken_back_as_one(client: Any, gallery: str, place: Path) -> None:
    members = {f"photos/{label}/{number}.png": drawn(number) for number, label in enumerate(("红茶", "cola", "cola"))}
    job = ended(client, send(client, gallery, "import", zipped(**members, **{"photos/cola/bad.jpg": b"no picture"})))
    assert (job["state"], job["done"], job["total"]) == ("done", 4, 4)
    assert job["result"]["failed_count"] == 1
    assert job["result"]["failed"][0]["image"] == "photos/cola/bad.jpg"
    assert set(labels_of(client, gallery)) == {"红茶", "cola"}
    assert str(place) not in json.dumps(job)
    again = ended(client, send(client, gallery, "import", zipped(**members)))["result"]
    assert (again["added"], again["already_there"]) == (0, job["result"]["added"])
    assert client.post(f"/v1/galleries/{gallery}/undo").json() == {"entries": 0}
    assert not list((place / "galleries").glob(".job-*"))


def test_a_list_says_what_pictures_show(client: Any, gallery: str) -> None:
    listed = "p/1.png\t绿茶\n2.png\tgreen tea\n".encode()
    ended(
        client, send(client, gallery, "import", zipped(**{"p/1.png": drawn(1), "q/2.png": drawn(2), "l.txt": listed}))
    )
    assert set(labels_of(client, gallery)) == {"绿茶", "green tea"}
    missing = send(client, gallery, "import", zipped(**{"1.png": drawn(1), "l.txt": b"3.png\ta\n"}))
    assert missing.status_code == 400
    assert "3.png" in missing.json()["error"]["message"]


@pytest.mark.parametrize("name", ["../out.png", "/etc/out.png", "a/../../out.png", "c:\\out.png"])
def test_an_archive_that_leads_out_is_refused(client: Any, gallery: str, place: Path, name: str) -> None:
    refused = send(client, gallery, "import", zipped(**{name: drawn(1)}))
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "bad_request")
    assert not list(place.rglob("out.png"))
    assert not list((place / "galleries").glob(".job-*"))


def test_a_damaged_archive_is_refused(client: Any, gallery: str) -> None:
    whole = zipped(**{"a/1.png": drawn(1)})
    assert send(client, gallery, "import", whole[: len(whole) // 2]).status_code == 400
    empty = ended(client, send(client, gallery, "import", b""))  # no archive at all: a picture that is none
    assert (empty["state"], empty["error"]) == (
        "failed",
        "none of 1 pictures could be read: a.zip: is empty (0 bytes); copy or download it again",
    )


def test_an_export_is_a_gallery_for_every_command_and_comes_back(
    client: Any, gallery: str, place: Path, tmp_path: Path, shitu: Run
) -> None:
    for number, label in enumerate(("红茶", "cola", "cola")):
        sent = [("files", ("a.png", drawn(number)))]
        client.post(f"/v1/galleries/{gallery}/items", files=sent, data={"label": label})
    client.request("DELETE", f"/v1/galleries/{gallery}/items", json={"ids": [0, 1]})  # 红茶: whole and largest
    archive = client.get(f"/v1/galleries/{gallery}/export")
    with zipfile.ZipFile(BytesIO(archive.content)) as found:
        assert found.testzip() is None
        found.extractall(tmp_path)
    assert shitu("gallery", "verify", tmp_path / gallery).returncode == 0
    with Gallery.open(tmp_path / gallery) as copy, Gallery.open(place / "galleries" / gallery) as mine:
        key = lambda item: (item.label, item.image, item.sha256, item.box)  # noqa: E731
        assert [key(each) for each in copy.items()] == [key(each) for each in mine.items()]
        assert (copy.vectors() == mine.vectors()).all()
        assert all((tmp_path / gallery / each.image).is_file() for each in copy.items())
    client.post("/v1/galleries", json={"name": "back"})
    ended(client, send(client, "back", "import", archive.content))
    assert set(labels_of(client, "back")) == set(labels_of(client, gallery))


def test_compact_clears_photos_that_nothing_names(client: Any, gallery: str, place: Path) -> None:
    for number in range(2):
        sent = [("files", ("a.png", drawn(number)))]
        form = {"label": str(number), "bbox": "[0,0,160,160]"}
        client.post(f"/v1/galleries/{gallery}/items", files=sent, data=form)
    client.request("DELETE", f"/v1/galleries/{gallery}/items", json={"ids": [0]})
    photos = sorted((place / "galleries" / gallery / "photos").glob("??/*.png"))
    assert do(client, gallery, kind="compact")["result"]["photos_removed"] == 0  # too new: it may be on its way
    for path in photos:
        os.utime(path, (0, 0))
    assert do(client, gallery, kind="compact")["result"]["photos_removed"] == 1
    assert do(client, gallery, kind="verify")["result"] == {
        "sound": True,
        "problems": [],
        "unchecked": [],
        "photos": 1,
    }
    path = next((place / "galleries" / gallery / "photos").glob("??/*.png"))
    path.write_bytes(b"other")
    assert not do(client, gallery, kind="verify")["result"]["sound"]


def test_doubtful_entries_and_the_map(client: Any, gallery: str) -> None:
    for number, label in ((1, "a"), (1, "b"), (2, "a"), (3, "c")):
        sent = [("files", ("x.png", drawn(number) + b" " * number * ord(label)))]  # alike, and other files
        client.post(f"/v1/galleries/{gallery}/items", files=sent, data={"label": label, "bbox": "[0,0,160,160]"})
    found = do(client, gallery, kind="doubtful")["result"]["doubtful"]
    assert {(0, 1), (1, 0)} <= {(each["id"], each["other_id"]) for each in found if each["kind"] == "other_label"}
    spots = do(client, gallery, kind="map")["result"]["spots"]
    assert [each["id"] for each in spots] == [0, 1, 2, 3]
    assert all(0 <= each[axis] <= 1 for each in spots for axis in "xy")
    assert [each["doubtful"] for each in spots][:2] == [True, True]
    assert (spots[0]["x"], spots[0]["y"]) == (spots[1]["x"], spots[1]["y"])


def test_evaluate_and_calibrate_say_what_the_commands_say(client: Any, place: Path, shitu: Run) -> None:
    lines = [line for line in (DEMO / "photos.txt").read_text("utf-8").splitlines() if line.split("\t")[1] in LABELS]
    photos = {line.split("\t")[0] for line in lines}
    (place / "queries.txt").write_text("\n".join(lines), encoding="utf-8")
    asked = ("--query", "queries.txt", "--image-root", DEMO)
    wanted = json.loads(shitu("evaluate", "-g", "demo", *asked, cwd=place).stdout)
    data = zipped(**{name: (DEMO / name).read_bytes() for name in photos}, **{"q.txt": "\n".join(lines).encode()})
    found = ended(client, send(client, "demo", "evaluate", data))
    assert found["done"] == found["total"] == len(lines)
    for key in ("queries", "known", "recall", "at_threshold", "open_set"):
        assert found["result"][key] == wanted[key], key
    page = client.get(found["result"]["report"])
    assert "sandbox" in page.headers["content-security-policy"]
    assert str(place) not in page.text
    assert str(ROOT) not in page.text
    assert "inference_general.yaml" in page.text
    own = do(client, "demo", kind="evaluate")["result"]  # its own pictures, each without itself
    with Gallery.open(place / "demo") as opened:
        assert own["queries"] == len(opened)
    told = do(client, "demo", kind="calibrate")["result"]
    assert told["known_queries"] == own["known"]


def test_a_job_that_is_called_off_changes_nothing(client: Any, gallery: str) -> None:
    members = {f"a/{number}.png": drawn(number) for number in range(400)}
    started = send(client, gallery, "import", zipped(**members))
    client.delete(f"/v1/jobs/{started.json()['job']['id']}")
    job = ended(client, started)
    assert job["state"] == "cancelled"
    assert labels_of(client, gallery) == {}
    assert client.get("/v1/jobs").json()["jobs"][0]["id"] == job["id"]
    assert client.get("/v1/jobs/nothing/events").status_code == 404


def test_doubtful_photos_are_looked_through_and_named(client: Any, gallery: str, place: Path) -> None:
    ask = f"/v1/galleries/{gallery}/recognise"
    (answer,) = client.post(ask, files=files(BEACH)).json()["answers"]
    client.post(ask, files=files(BEACH))
    page = client.get("/v1/review", params={"gallery": gallery}).json()
    assert page["total"] == 1
    (photo,) = page["photos"]
    assert photo["record"]["unnamed"] == answer["unnamed"]
    url, of = f"/v1/review/{photo['id']}", {"gallery": gallery}
    assert client.get(f"{url}/picture", params=of).headers["content-type"] == "image/jpeg"
    named = client.post(url, params=of, json={"verdict": "name", "label": "浮标", "region": 0}).json()
    assert len(named["ids"]) == 1
    assert client.get("/v1/review", params=of).json()["total"] == 0
    (after,) = client.post(ask, files=files(BEACH)).json()["answers"]
    assert "浮标" in [each["rec_docs"] for each in after["regions"]]
    wrong = client.post(url.replace(photo["id"], "../../x"), params=of, json={"verdict": "right"})
    assert wrong.status_code in (404, 405)
    told = do(client, gallery, kind="evaluate", list="review")["result"]
    assert told["queries"] == 1
