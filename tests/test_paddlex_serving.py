"""PaddleX's routes: its clients work, its schema holds, and what its own server gets wrong.

data/paddlex_openapi.json is of the document that PaddleX 3.7.2 serves: its components, and the answers of each route.
"""

from __future__ import annotations

import ast
import base64
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image

from shitu.config import load_config
from shitu.recognise.from_config import DetPredictor, RecPredictor
from tests.conftest import DEMO, ROOT
from tests.serving import serving

requests = pytest.importorskip("requests", reason="the client that PaddleX's documents show needs it")

SPEC = json.loads((ROOT / "tests/data/paddlex_openapi.json").read_text(encoding="utf-8"))
PHOTO = DEMO / "photos" / "picnic.jpg"


def encoded(data: Path | bytes) -> str:
    return base64.b64encode(data if isinstance(data, bytes) else data.read_bytes()).decode()


def noise(number: int) -> bytes:
    file = BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def pairs(*numbers: int) -> list[dict[str, str]]:
    return [{"image": encoded(noise(number)), "label": f"noise {number}"} for number in numbers]


def call(url: str, route: str, **body: Any) -> Any:
    """The answer, valid by PaddleX's own schema of its status: that of 500 for those that PaddleX never gives."""
    told = requests.post(f"{url}/{route}", json=body, timeout=60)
    answers = SPEC["paths"][f"/{route}"]["post"]["responses"]
    jsonschema.validate(told.json(), {"$ref": answers.get(str(told.status_code), answers["500"])} | SPEC)
    if told.status_code != 200:
        assert told.json()["errorCode"] == told.status_code
        return told
    return told.json()["result"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("paddlex") / "galleries"


@pytest.fixture(scope="module")
def url(root: Path) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "*")
        with serving(root.parent, "--root", root) as service:
            yield service.url


def test_a_client_after_paddlex_s_documents_runs(url: str, tmp_path: Path) -> None:
    pictures = sorted((DEMO / "gallery" / "google").glob("*.jpg"))[:4]
    command = [sys.executable, str(ROOT / "tests/paddlex_client.py"), url, *map(str, pictures), str(PHOTO)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["counts"] == [3, 4, 3]
    assert uuid.UUID(told["key"])
    assert told["objects"]
    with Image.open(tmp_path / "out.jpg") as drawn, Image.open(PHOTO) as photo:
        assert (drawn.format, drawn.size) == ("JPEG", photo.size)


def test_health(url: str) -> None:
    told = requests.get(f"{url}/health", timeout=60).json()
    jsonschema.validate(told, {"$ref": "#/components/schemas/AIStudioNoResultResponse"} | SPEC)
    assert (told["errorCode"], told["errorMsg"]) == (0, "Healthy")


def test_an_index_is_built_changed_and_asked(url: str) -> None:
    """Entries are whole pictures, ids count from 0, and what is removed is found no more."""
    built = call(url, "shitu-index-build", imageLabelPairs=pairs(1, 2, 1), logId="mine", nobody="knows this")
    key = built["indexKey"]
    assert (built["imageCount"], built["ids"]) == (3, [0, 1, 2]), "the same picture twice is two entries, as there"
    asked = {"image": encoded(noise(1)), "indexKey": key, "detThreshold": 1.0, "visualize": False}
    found = call(url, "shitu-infer", **asked, recThreshold=0.99)
    (thing,) = found["detectedObjects"]
    assert "image" not in found
    assert thing["bbox"] == [0, 0, 64, 64], "nothing was detected, so it is the whole picture"
    assert thing["score"] == 0
    assert [(each["label"], each["id"]) for each in thing["recResults"][:2]] == [("noise 1", 0), ("noise 1", 2)]
    assert thing["recResults"][0]["score"] == pytest.approx(1, abs=1e-4)
    assert len(thing["recResults"]) == 3, "the best one passes, so all are told"
    assert call(url, "shitu-index-remove", indexKey=key, ids=[0, 2, 99, -1, 2**70])["imageCount"] == 1
    assert call(url, "shitu-index-add", indexKey=key, imageLabelPairs=pairs(3)) == {"imageCount": 2, "ids": [3]}
    (best,) = call(url, "shitu-infer", **asked, recThreshold=-1, topk=1)["detectedObjects"][0]["recResults"]
    assert best["id"] in (1, 3), "one of them, for topk is heeded"
    assert call(url, "shitu-infer", **asked, recThreshold=1.1, topk=10**30)["detectedObjects"][0]["recResults"] == []


def test_objects_are_those_of_detector_and_search(url: str) -> None:
    """Against the parts themselves, with a threshold of the request's, and scores by hand."""
    config = load_config(None, ["Global.threshold=0.2"])
    with Image.open(PHOTO) as photo:
        picture = np.asarray(photo.convert("RGB"))
    found = DetPredictor(config).predict([picture])[0]
    assert len(found) > 1
    taught = [picture[top:bottom, left:right] for left, top, right, bottom in (each.bbox for each in found[:2])]
    rec = RecPredictor(config)
    files = []
    for crop in taught:
        file = BytesIO()
        Image.fromarray(crop).save(file, "PNG")
        files.append({"image": encoded(file.getvalue()), "label": f"thing {len(files)}"})
    key = call(url, "shitu-index-build", imageLabelPairs=files)["indexKey"]
    vectors, gallery = (
        rec.predict([picture[b[1] : b[3], b[0] : b[2]] for b in boxes])
        for boxes in ([each.bbox for each in found], [each.bbox for each in found[:2]])
    )
    scores = vectors @ gallery.T
    limit = 0.9
    told = call(url, "shitu-infer", image=encoded(PHOTO), indexKey=key, detThreshold=0.2, recThreshold=limit)
    things = told["detectedObjects"]
    assert [thing["bbox"] for thing in things] == [list(map(float, each.bbox)) for each in found]
    for thing, each, row in zip(things, found, scores, strict=True):
        assert thing["score"] == pytest.approx(each.score, abs=1e-4)
        wanted = sorted(row.tolist(), reverse=True) if row.max() >= limit else []
        assert [one["score"] for one in thing["recResults"]] == pytest.approx(wanted, abs=1e-3)
    assert {thing["recResults"][0]["label"] for thing in things if thing["recResults"]} == {"thing 0", "thing 1"}
    fewer = call(url, "shitu-infer", image=encoded(PHOTO), indexKey=key, detThreshold=found[0].score - 1e-4)
    assert len(fewer["detectedObjects"]) < len(found)


def test_21_of_21_parallel_additions_survive(url: str) -> None:
    """Of which PaddleX's own server keeps 3 or 4."""
    key = call(url, "shitu-index-build", imageLabelPairs=pairs(0))["indexKey"]
    with ThreadPoolExecutor(20) as pool:
        added = list(
            pool.map(lambda n: call(url, "shitu-index-add", indexKey=key, imageLabelPairs=pairs(n)), range(1, 21))
        )
    assert sorted(number for one in added for number in one["ids"]) == list(range(1, 21))
    assert max(one["imageCount"] for one in added) == 21
    assert call(url, "shitu-index-remove", indexKey=key, ids=[])["imageCount"] == 21


def test_what_goes_wrong_is_told_as_paddlex_does(url: str, root: Path) -> None:
    outside = root.parent / "outside"
    outside.write_bytes(b"x")
    before = sorted(root.iterdir())
    good = pairs(1)
    bad = [{"image": encoded(b"no picture"), "label": "x"}]
    for status, route, body in (
        (404, "shitu-infer", {"image": encoded(PHOTO), "indexKey": str(uuid.UUID(int=0))}),
        (404, "shitu-infer", {"image": encoded(PHOTO), "indexKey": "../outside"}),
        (404, "shitu-index-add", {"imageLabelPairs": good, "indexKey": "../../etc/passwd"}),
        (404, "shitu-index-remove", {"ids": [0], "indexKey": ""}),
        (400, "shitu-index-build", {"imageLabelPairs": []}),
        (400, "shitu-index-build", {"imageLabelPairs": [*good, *bad]}),
        (400, "shitu-infer", {"image": "%%%"}),
        (400, "shitu-infer", {"image": ""}),
        (403, "shitu-infer", {"image": f"{url}/v1/health"}),
        (422, "shitu-infer", {"image": encoded(PHOTO), "topk": 0}),
        (422, "shitu-infer", {}),
    ):
        told = call(url, route, **body, logId="of the client")
        assert told.status_code == status, (route, told.text[:200])
        assert told.json()["logId"] == "of the client"
        assert str(root.parent) not in told.text
    missing = json.loads(call(url, "shitu-infer").json()["errorMsg"])
    assert missing == [{"type": "missing", "loc": "body.image", "msg": "Field required"}]
    assert sorted(root.iterdir()) == before, "no half-built gallery stays"


def test_what_never_reaches_a_route_is_told_so_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with serving(tmp_path, "--max-upload", 1, token="a-long-token") as service:
        url = service.url
        assert call(url, "shitu-infer", image="").status_code == 401
        monkeypatch.setattr(requests, "post", partial(requests.post, headers={"Authorization": "Bearer a-long-token"}))
        assert call(url, "shitu-infer", image="x" * 2_000_000).status_code == 413
        assert requests.get(f"{url}/health", timeout=60).status_code == 200, (
            "needs no token, as health checks have none"
        )


def test_a_client_of_paddle_serving(url: str) -> None:
    """The default gallery is empty until it is taught; `value[0]` is Python, as there."""
    picture = noise(77)

    def ask(image: str) -> Any:
        answer = requests.post(f"{url}/recognition/prediction", json={"key": ["image"], "value": [image]}, timeout=60)
        assert answer.status_code == 200
        assert set(answer.json()) == {"err_no", "err_msg", "key", "value", "tensors"}
        return answer.json()

    assert ask(encoded(picture)) == {"err_no": 0, "err_msg": "", "key": ["result"], "value": ["[]"], "tensors": []}
    requests.post(f"{url}/v1/galleries/default/items", files={"files": picture}, data={"label": "茶"}, timeout=60)
    found = ast.literal_eval(ask(encoded(picture))["value"][0])
    ours = requests.post(f"{url}/v1/galleries/default/recognise", files={"files": picture}, timeout=60).json()
    (wanted,) = ours["answers"]  # with as many parts as the detector sees in noise
    assert found == [{key: one[key] for key in ("bbox", "rec_docs", "rec_scores")} for one in wanted["regions"]]
    assert {one["rec_docs"] for one in found} == {"茶"}
    bad = ask(encoded(b"no picture"))
    assert (bad["err_no"] != 0, "not an image" in bad["err_msg"], bad["value"]) == (True, True, [])


def test_an_index_survives_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with serving(tmp_path) as service:
        key = call(service.url, "shitu-index-build", imageLabelPairs=pairs(5, 6))["indexKey"]
    with serving(tmp_path) as service:
        asked = {"image": encoded(noise(6)), "indexKey": key, "detThreshold": 1.0}  # no box of a part of the noise
        found = call(service.url, "shitu-infer", **asked)
        assert found["detectedObjects"][0]["recResults"][0]["label"] == "noise 6"
        assert call(service.url, "shitu-index-add", indexKey=key, imageLabelPairs=pairs(7))["imageCount"] == 3
