"""What goes in and comes out of jobs, and of photos to be looked through."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from shitu.serve.schema import Answer, In, Label, example


class JobIn(In):
    kind: Literal["import", "compact", "verify", "doubtful", "map", "evaluate", "calibrate"]
    label: Label | None = None
    list: Literal["gallery", "review"] = Field(
        "gallery",
        description="evaluate, calibrate, where no files come: the gallery's own pictures, or the reviewed",
    )
    most: int = Field(2000, ge=1, le=20_000, description="map: entries shown, spread evenly")
    false_accept: float = Field(0.05, gt=0, lt=1, description="calibrate: share of unknown things that may be named")


JOB_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/JobIn"},
                "example": {"kind": "verify"},
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["kind", "files"],
                    "properties": {
                        "kind": {"type": "string", "enum": ["import", "evaluate", "calibrate"]},
                        "files": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}},
                        "label": {"type": "string", "minLength": 1, "maxLength": 200},
                    },
                }
            },
        },
    }
}


_JOB = {"id": "5f0c…", "kind": "import", "gallery": "drinks", "created": 1764262800.0, "state": "running"}
_JOB |= {"done": 12, "total": 300}


class JobOut(BaseModel):
    model_config = example(**_JOB)

    id: str
    kind: str
    gallery: str
    created: float = Field(description="Seconds since 1970")
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    done: int
    total: int
    error: str | None = None
    result: Any = None


class JobStarted(BaseModel):
    model_config = example(job=_JOB)

    job: JobOut


class Jobs(BaseModel):
    model_config = example(jobs=[_JOB])

    jobs: list[JobOut]


class ReviewOut(BaseModel):
    id: str
    gallery: str
    name: str
    time: float
    record: Answer
    verdict: str | None


class Reviews(BaseModel):
    photos: list[ReviewOut]
    total: int


class Verdict(In):
    verdict: Literal["right", "wrong", "name"]
    label: Label | None = None
    region: int | None = Field(None, ge=0, description="Its place in `regions`, then `unnamed`, of the record")


class Judged(BaseModel):
    id: str
    verdict: str
    ids: list[int]
