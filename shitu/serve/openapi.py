"""The OpenAPI document: FastAPI's, with the bodies that are read by hand and the token."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from shitu.serve import schema, schema_jobs

ABOUT = """Recognition by galleries, and teaching them: docs/service.md. Every error is
`{"error": {"code", "message"}}`; the message says what came, what was wanted, and what to do next."""
_BY_HAND = (schema.ImagesIn, schema.Teaching, schema_jobs.JobIn)


def document(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema:
        return app.openapi_schema
    found = get_openapi(title=app.title, version=app.version, description=ABOUT, routes=app.routes)
    refs = "#/components/schemas/{model}"
    _, more = models_json_schema([(kind, "validation") for kind in _BY_HAND], ref_template=refs)
    components = found.setdefault("components", {})
    components["schemas"] = {**more["$defs"], **components.get("schemas", {})}
    if app.state.service.settings.token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
    app.openapi_schema = found
    return found
