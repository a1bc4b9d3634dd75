"""The OpenAPI document: complete, and nothing that follows it, or nearly, makes the service fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving import Running, demo_gallery, serving

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis, of the extra dev, is not installed")
hypothesis = pytest.importorskip("hypothesis")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("openapi")
    demo_gallery(folder)
    with serving(folder, "-g", "demo", "-g", "drinks=empty") as running:
        yield running


@pytest.fixture(scope="module")
def document(server: Running) -> dict[str, Any]:
    with server.client() as client:
        told: dict[str, Any] = client.get("/openapi.json").json()
    return told


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_operation_says_what_it_is_for_and_how_it_fails(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert operation.get("description") or operation.get("summary"), name
        if "/health" in name or "/ready" in name:
            continue
        for status in ("401", "403", "429", "500", "504"):
            assert status in operation["responses"], (name, status)
        if "{gallery}" in name:
            assert {"404", "409"} <= set(operation["responses"]), name


def test_answers_have_examples_that_are_as_their_schema_says(document: dict[str, Any]) -> None:
    validator = pytest.importorskip("jsonschema").Draft202012Validator
    for name, operation in operations(document):
        if not name.split()[1].startswith("/v1/galleries"):
            continue
        for status, answer in operation["responses"].items():
            schema = answer.get("content", {}).get("application/json", {}).get("schema")
            if status.startswith("2") and schema:
                told = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
                for each in told["examples"]:
                    wrong = validator({**told, "components": document["components"]}).iter_errors(each)
                    assert not list(wrong), (name, each)


def test_every_reference_is_there(document: dict[str, Any]) -> None:
    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from (each for key, each in value.items() if key == "$ref")
            for each in value.values():
                yield from references(each)
        elif isinstance(value, list):
            for each in value:
                yield from references(each)

    there = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= there
    assert not [
        name for name, _ in operations(document) if "HTTPValidationError" in str(dict(operations(document))[name])
    ]


def test_nothing_that_follows_the_document_makes_it_fail(document: dict[str, Any], server: Running) -> None:
    """A few requests, drawn from the document and against it, to every operation: none is answered 500."""
    document["servers"] = [{"url": server.url}]
    api = schemathesis.openapi.from_dict(document)
    failed = []
    for found in api.get_all_operations():
        operation = found.ok()

        @hypothesis.given(case=operation.as_strategy())
        @hypothesis.settings(
            max_examples=5,
            database=None,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        def ask(case: Any) -> None:
            case.operation.base_url = server.url
            answer = case.call(base_url=server.url, timeout=60)
            if answer.status_code >= 500 and answer.status_code != 503:
                failed.append((case.method, case.path, case.query, case.body, answer.text[:300]))

        ask()
    assert not failed
    assert server.process.poll() is None
    assert not [line for line in server.said if "Traceback" in line]


@pytest.mark.parametrize("name", ["drinks"])
def test_a_missing_gallery_was_made(server: Running, name: str) -> None:
    assert Path(server.folder / "empty" / "gallery.json").is_file()
