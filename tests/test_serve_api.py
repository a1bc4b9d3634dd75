"""The service over real HTTP: answers as the command line gives them, and teaching that is known at once."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shitu.gallery.gallery import Gallery
from tests.conftest import DEMO, Run
from tests.serving import BEACH, LABELS, Running, demo_gallery, drawn, files, serving

PHOTOS = sorted((DEMO / "photos").glob("*.jpg"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serve")
    for name in ("demo", "taught"):
        demo_gallery(folder, name)
    return folder


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Running]:
    with serving(place, "-g", "demo", "-g", "taught") as running:
        yield running


@pytest.fixture
def client(server: Running) -> Iterator[Any]:
    with server.client() as made:
        yield made


@pytest.fixture
def gallery(client: Any, request: pytest.FixtureRequest) -> str:
    """A new gallery, empty, with a name of two scripts."""
    name = f"茶 {request.node.name}"[:60].replace("[", " ").replace("]", "").strip()
    made = client.post("/v1/galleries", json={"name": name})
    assert made.status_code == 201, made.text
    assert (made.json()["entries"], made.json()["managed"]) == (0, True)
    return name


def recognised(client: Any, gallery: str, *paths: Path, **query: Any) -> list[dict[str, Any]]:
    answer = client.post(f"/v1/galleries/{gallery}/recognise", files=files(*paths), params=query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["answers"])


# --- answers ---------------------------------------------------------------------------------------------------------


def test_answers_are_those_of_predict(client: Any, place: Path, shitu: Run) -> None:
    printed = shitu("predict", "-g", "demo", "--no-pictures", "--unnamed", *PHOTOS, cwd=place)
    wanted = [json.loads(line) for line in printed.stdout.splitlines()]
    for each in wanted:
        each["image"] = Path(each["image"]).name
    found = recognised(client, "demo", *PHOTOS)
    assert len({each.pop("answer") for each in found}) == len(PHOTOS)
    assert found == wanted
    assert any(each["regions"] for each in found)


def test_a_request_has_its_own_settings(client: Any) -> None:
    (usual,) = recognised(client, "demo", BEACH)
    (none,) = recognised(client, "demo", BEACH, score_thres=1.0)
    (bare,) = recognised(client, "demo", BEACH, unnamed=False, return_k=1)
    assert usual["regions"]
    assert not none["regions"]
    assert "unnamed" not in bare
    assert [len(each["matches"]) for each in bare["regions"]] == [1] * len(bare["regions"])
    asked = [[0, 0, 50, 50], usual["regions"][0]["bbox"], [0, 0, 51, 50], [0, 0, 900, 675]]  # none covers another up
    (given,) = recognised(client, "demo", BEACH, regions=json.dumps(asked))
    boxes = [each["bbox"] for each in (*given["regions"], *given["unnamed"])]
    assert boxes == [asked[1], asked[0], asked[2], asked[3]]
    assert given["regions"][0]["rec_docs"] == usual["regions"][0]["rec_docs"]


def test_base64_says_the_same_as_a_file(client: Any) -> None:
    text = base64.b64encode(BEACH.read_bytes()).decode()
    images = {"images": [{"base64": text, "name": "beach.jpg"}, {"base64": "data:image/jpeg;base64," + text}]}
    first, second = client.post("/v1/galleries/demo/recognise", json=images).json()["answers"]
    (wanted,) = recognised(client, "demo", BEACH)
    for each in (first, second, wanted):
        del each["answer"]
    assert first == wanted
    assert second == wanted | {"image": "picture-2"}


def test_one_bad_picture_of_several_has_an_error(client: Any) -> None:
    sent = [*files(BEACH), ("files", ("bad.jpg", b"\xff\xd8\xff no picture"))]
    good, bad = client.post("/v1/galleries/demo/recognise", files=sent).json()["answers"]
    assert good["regions"]
    assert "bad.jpg: damaged" in bad["error"]


def test_vectors_find_what_recognise_finds(client: Any, place: Path) -> None:
    box = recognised(client, "demo", BEACH)[0]["regions"][0]
    query = {"regions": json.dumps([box["bbox"]])}
    (embedded,) = client.post("/v1/embed", files=files(BEACH), params=query).json()["answers"]
    vector = embedded["vectors"][0]["vector"]
    found = client.post("/v1/galleries/demo/search", json={"vectors": [vector], "k": 5}).json()["results"][0]
    assert [each["id"] for each in found] == [each["id"] for each in box["matches"]]
    with Gallery.open(place / "demo") as opened:  # brute force
        scores = opened.vectors() @ np.asarray(vector, np.float32)
        ids = [item.id for item in opened.items()]
    assert found[0]["id"] == ids[int(np.argmax(scores))]
    assert found[0]["score"] == pytest.approx(float(scores.max()), abs=1e-5)


def test_detect_is_predict_det(client: Any, place: Path, shitu: Run) -> None:
    printed = shitu("predict-det", "--no-pictures", BEACH, cwd=place)
    wanted = json.loads(printed.stdout) | {"image": "beach.jpg"}
    assert client.post("/v1/detect", files=files(BEACH)).json() == {"answers": [wanted]}


# --- teaching --------------------------------------------------------------------------------------------------------


def test_a_taught_region_is_named_in_the_next_photo(client: Any, gallery: str) -> None:
    (first,) = recognised(client, gallery, BEACH)
    assert not first["regions"]
    assert first["unnamed"]
    taught = {"label": "救生圈", "answer": first["answer"], "region": 0}
    done = client.post(f"/v1/galleries/{gallery}/items", json=taught)
    assert done.status_code == 201, done.text
    assert (len(done.json()["ids"]), done.json()["entries"]) == (1, 1)
    shifted = Image.open(BEACH).crop((20, 10, 900, 675))
    out = BytesIO()
    shifted.save(out, "JPEG", quality=90)
    sent = [("files", ("next.jpg", out.getvalue()))]
    (second,) = client.post(f"/v1/galleries/{gallery}/recognise", files=sent).json()["answers"]
    assert [each["rec_docs"] for each in second["regions"]] == ["救生圈"]
    assert client.post(f"/v1/galleries/{gallery}/undo").json() == {"entries": 0}
    assert not recognised(client, gallery, BEACH)[0]["regions"]
    assert client.post(f"/v1/galleries/{gallery}/undo").json() == {"entries": 1}


def test_what_is_there_already_is_not_added_again_but_moved_to_a_new_name(client: Any, gallery: str) -> None:
    def teach(label: str) -> dict[str, Any]:
        form = {"label": label, "bbox": "10,10,200,200"}
        told: dict[str, Any] = client.post(f"/v1/galleries/{gallery}/items", files=files(BEACH), data=form).json()
        return told

    assert teach("a") == {"ids": [0], "already_there": 0, "relabelled": 0, "entries": 1}
    assert teach("a") == {"ids": [], "already_there": 1, "relabelled": 0, "entries": 1}
    assert teach("b") == {"ids": [1], "already_there": 0, "relabelled": 1, "entries": 1}
    (item,) = client.get(f"/v1/galleries/{gallery}/items").json()["items"]
    assert (item["label"], item["bbox"]) == ("b", [10, 10, 200, 200])
    assert item["sha256"] == sha256(BEACH.read_bytes()).hexdigest()


def test_twenty_at_once_all_survive(client: Any, gallery: str) -> None:
    def teach(number: int) -> list[int]:
        sent = [("files", (f"{number}.png", drawn(number)))]
        done = client.post(f"/v1/galleries/{gallery}/items", files=sent, data={"label": f"thing {number}"})
        assert done.status_code == 201, done.text
        return list(done.json()["ids"])

    with ThreadPoolExecutor(20) as pool:
        ids = [number for made in pool.map(teach, range(20)) for number in made]
    assert len(set(ids)) == len(ids)
    labels = client.get(f"/v1/galleries/{gallery}/labels", params={"limit": 1000}).json()
    assert {each["label"] for each in labels["labels"]} == {f"thing {number}" for number in range(20)}
    assert sum(each["count"] for each in labels["labels"]) == len(ids)


def test_labels_and_items_are_moved_merged_paged_and_removed(client: Any, gallery: str) -> None:
    base = f"/v1/galleries/{gallery}"
    for number, label in enumerate(("红茶", "绿茶", "绿茶", "cola")):
        form = {"label": label, "bbox": "[0, 0, 160, 160]"}
        client.post(f"{base}/items", files=[("files", ("a.png", drawn(number)))], data=form)
    sort = lambda kind: [  # noqa: E731
        each["label"] for each in client.get(f"{base}/labels", params={"sort": kind}).json()["labels"]
    ]
    assert sort("name") == ["cola", "红茶", "绿茶"]
    assert sort("count")[0] == "绿茶"
    assert sort("newest")[0] == "cola"
    before = client.post("/v1/galleries/" + gallery + "/recognise", files=[("files", ("a.png", drawn(0)))]).json()
    refused = client.post(f"{base}/labels/rename", json={"from": "红茶", "to": "绿茶"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "label_exists")
    merged = client.post(f"{base}/labels/rename", json={"from": "红茶", "to": "绿茶", "merge": True}).json()
    assert (len(merged["ids"]), merged["entries"]) == (1, 4)
    after = client.post("/v1/galleries/" + gallery + "/recognise", files=[("files", ("a.png", drawn(0)))]).json()
    scores = [each["answers"][0]["regions"][0]["rec_scores"] for each in (before, after)]
    assert scores[0] == scores[1]  # the vectors are the same
    page = client.get(f"{base}/items", params={"limit": 3}).json()
    rest = client.get(f"{base}/items", params={"limit": 3, "after": page["next"]}).json()
    ids = [each["id"] for each in (*page["items"], *rest["items"])]
    assert (len(ids), rest["next"]) == (4, None)
    moved = client.patch(f"{base}/items", json={"ids": ids[:2], "label": "x"}).json()
    assert client.get(f"{base}/items", params={"label": "x"}).json()["items"][0]["id"] in moved["ids"]
    gone = client.request("DELETE", f"{base}/items", json={"ids": [*moved["ids"], 10**9]}).json()
    assert gone == {"removed": 2, "entries": 2}
    assert client.post(f"{base}/items/remove", json={"ids": ids}).json()["entries"] == 0


def test_an_entry_shows_its_picture(client: Any, gallery: str) -> None:
    form = {"label": "a", "bbox": "[0, 0, 160, 80]"}
    done = client.post(f"/v1/galleries/{gallery}/items", files=[("files", ("a.png", drawn(5)))], data=form).json()
    url = f"/v1/galleries/{gallery}/items/{done['ids'][0]}/picture"
    shown = Image.open(BytesIO(client.get(url, params={"size": 80}).content))
    assert (shown.format, shown.size) == ("JPEG", (80, 40))
    tag = {"If-None-Match": client.get(url, params={"size": 80}).headers["etag"]}
    assert client.get(url, params={"size": 80}, headers=tag).status_code == 304
    assert client.get(url, params={"size": 81}, headers=tag).status_code == 200
    assert client.get(url.replace(f"/{done['ids'][0]}/", "/99/")).status_code == 404
    mine = Image.open(BytesIO(client.get("/v1/galleries/demo/items/0/picture").content))  # where the list had it
    assert mine.format == "JPEG"


def test_taught_pictures_survive_compact_and_commands_find_them(
    client: Any, gallery: str, place: Path, shitu: Run
) -> None:
    form = {"label": "a", "bbox": "[0, 0, 160, 160]"}
    for number in range(3):
        client.post(f"/v1/galleries/{gallery}/items", files=[("files", ("a.png", drawn(number)))], data=form)
    folder = place / "galleries" / gallery
    assert shitu("gallery", "compact", folder).returncode == 0
    assert shitu("gallery", "verify", folder).returncode == 0
    mapped = json.loads(shitu("gallery", "map", folder, "--html", "map.html", cwd=place).stdout)
    assert (mapped["entries"], mapped["shown"]) == (3, 3)
    assert (place / "map.html").read_text(encoding="utf-8").count("data:image") >= 3
    assert client.get(f"/v1/galleries/{gallery}/items/1/picture").status_code == 200


def test_a_gallery_that_a_command_built_is_taught(client: Any, place: Path, shitu: Run) -> None:
    """Its other pictures lie where its list had them; the new one is named from there, and found from there."""
    form = {"label": "a", "bbox": "[0, 0, 160, 160]"}
    done = client.post("/v1/galleries/taught/items", files=[("files", ("a.png", drawn(1)))], data=form).json()
    (item,) = client.get("/v1/galleries/taught/items", params={"label": "a"}).json()["items"]
    assert item["image"] == f"photos/{item['sha256'][:2]}/{item['sha256']}.png"
    assert client.get(f"/v1/galleries/taught/items/{done['ids'][0]}/picture").status_code == 200
    mapped = json.loads(shitu("gallery", "map", "taught", "--html", "taught.html", cwd=place).stdout)
    page = (place / "taught.html").read_text(encoding="utf-8")
    assert page.count("data:image") >= mapped["shown"] == mapped["entries"]


# --- galleries -------------------------------------------------------------------------------------------------------


def test_galleries_are_made_renamed_and_deleted(client: Any, gallery: str, place: Path) -> None:
    there = client.get("/v1/galleries").json()["galleries"]
    names = {each["name"]: each for each in there}
    assert names["demo"]["managed"] is False
    assert names["demo"]["labels"] == len(LABELS)
    assert client.post("/v1/galleries", json={"name": gallery}).json()["error"]["code"] == "gallery_exists"
    client.post(f"/v1/galleries/{gallery}/items", files=[("files", ("a.png", drawn(1)))], data={"label": "a"})
    renamed = client.patch(f"/v1/galleries/{gallery}", json={"name": "renamed"}).json()
    assert (renamed["name"], renamed["labels"]) == ("renamed", 1)
    assert client.get(f"/v1/galleries/{gallery}").status_code == 404
    assert client.get("/v1/galleries/renamed/items/0/picture").status_code == 200
    assert client.get("/v1/galleries/renamed").json()["info"]["dimension"] == 512
    assert client.delete("/v1/galleries/renamed").status_code == 200
    assert not (place / "galleries" / "renamed").exists()
    assert client.delete("/v1/galleries/demo").json()["error"]["code"] == "gallery_fixed"


def test_changes_are_written_down(client: Any, gallery: str, place: Path) -> None:
    client.post(f"/v1/galleries/{gallery}/items", files=[("files", ("a.png", drawn(1)))], data={"label": "茶"})
    client.post(f"/v1/galleries/{gallery}/undo")
    lines = (place / "galleries" / "audit.jsonl").read_text(encoding="utf-8").splitlines()
    mine = [each for each in map(json.loads, lines) if each["gallery"] == gallery]
    assert [each["change"] for each in mine] == ["create", "add", "undo"]
    assert (mine[1]["label"], mine[1]["by"]) == ("茶", "127.0.0.1")
