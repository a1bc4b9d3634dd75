"""A gallery in a database, served: taught over HTTP, seen by a command beside, undone, its pictures shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from shitu.gallery import open_reader
from tests.conftest import DEMO, Run
from tests.databases import Server, needs
from tests.serving import BEACH, files, serving


@pytest.mark.parametrize("kind", ["postgres", "milvus"])
def test_a_gallery_in_a_database_is_served(
    kind: str, tmp_path: Path, shitu: Run, request: pytest.FixtureRequest
) -> None:
    if kind == "milvus":
        needs("pymilvus", "milvus_lite", extra="milvus")
        url = f"milvus://{tmp_path}/lite.db/served"
    else:
        database: Server = request.getfixturevalue("postgres")
        url = database.url("served")
    chosen = tmp_path / "list.txt"
    lines = (DEMO / "gallery.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    chosen.write_text("".join(lines[:12]), encoding="utf-8")
    built = shitu("build-gallery", "-g", url, f"-oIndexProcess.data_file={chosen}", f"-oIndexProcess.image_root={DEMO}")
    assert built.returncode == 0, built.stderr
    with serving(tmp_path, "-g", f"goods={url}") as running, running.client() as client:
        at = "/v1/galleries/goods"
        before = client.get(at).json()["entries"]
        (answer,) = client.post(f"{at}/recognise", files=files(BEACH)).json()["answers"]
        told = client.post(
            f"{at}/items", json={"label": "沙滩", "answer": answer["answer"], "bbox": [138, 359, 296, 542]}
        )
        assert told.status_code == 201, told.text
        (number,) = told.json()["ids"]
        assert told.json()["entries"] == before + 1
        assert client.get(f"{at}/items/{number}/picture").headers["content-type"] == "image/jpeg"
        if kind == "postgres":  # milvus-lite is one process's
            assert open_reader(url).find(labels=["沙滩"]) == [number]
        again = client.post(f"{at}/recognise?regions=[[138,359,296,542]]", files=files(BEACH)).json()["answers"][0]
        assert again["regions"][0]["rec_docs"] == "沙滩"
        assert client.post(f"{at}/undo").json()["entries"] == before
        assert "沙滩" not in {label["label"] for label in client.get(f"{at}/labels").json()["labels"]}
