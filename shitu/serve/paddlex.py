"""PaddleX's four routes and /health in its own envelope, so that clients of `paddlex --serve` work unchanged.

The schema is PaddleX 3.7.2's (PP-ShiTuV2). An index key is the name of a gallery in the root folder, and survives a
restart. Beyond PaddleX's fields stand `ids`, and `id` and `image` of a match. docs/service.md says what differs.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Literal, TypeVar

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field

from shitu.errors import ShituError
from shitu.serve.common import WORDS, TheService, who
from shitu.serve.paddlex_calls import Wanted, add, build, infer, remove
from shitu.serve.problems import HttpError, enveloped, problem_of

Result = TypeVar("Result")
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class NoResult(BaseModel):
    """What is answered where there is no result: of /health, and of what went wrong."""

    logId: str
    errorCode: int
    errorMsg: str


class Answer(BaseModel, Generic[Result]):
    logId: str
    result: Result
    errorCode: Literal[0] = 0
    errorMsg: Literal["Success"] = "Success"


class Asked(BaseModel):
    logId: str | None = None


class ImageLabelPair(BaseModel):
    image: str = Field(description="An image file in Base64, or a web address of a host that the service allows")
    label: str


class BuildIndexRequest(Asked):
    imageLabelPairs: list[ImageLabelPair]


class AddImagesToIndexRequest(Asked):
    imageLabelPairs: list[ImageLabelPair]
    indexKey: str


class RemoveImagesFromIndexRequest(Asked):
    ids: list[int]
    indexKey: str


class InferRequest(Asked):
    image: str = Field(description="An image file in Base64, or a web address of a host that the service allows")
    indexKey: str | None = Field(None, description="null: the gallery that the service was started with")
    detThreshold: float | None = None
    recThreshold: float | None = None
    hammingRadius: float | None = None
    topk: int | None = Field(None, ge=1)
    visualize: bool | None = Field(None, description="false: no `image` in the answer")


class IndexResult(BaseModel):
    imageCount: int = Field(description="Entries that are in the index now")
    indexKey: str | None = None
    ids: list[int] | None = None  # of the images of this request, in their order


class RecResult(BaseModel):
    label: str
    score: float
    id: int
    image: str


class DetectedObject(BaseModel):
    bbox: tuple[float, float, float, float]
    recResults: list[RecResult]
    score: float


class InferResult(BaseModel):
    detectedObjects: list[DetectedObject]
    image: str | None = None


class Enveloped(APIRoute):
    """What goes wrong in a route is told as PaddleX tells it."""

    def get_route_handler(self) -> Handler:
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await inner(request)
            except RequestValidationError as error:
                shown = [
                    {"type": each["type"], "loc": ".".join(map(str, each["loc"])), "msg": each["msg"]}
                    for each in error.errors()
                ]
                return refused(422, json.dumps(shown, ensure_ascii=False), await _log_id(request))
            except ShituError as error:
                problem = problem_of(error)
                message = request.app.state.service.told(str(problem))
                return refused(problem.status, message, await _log_id(request), problem.headers)
            except HTTPException as error:
                return refused(error.status_code, str(error.detail), await _log_id(request))

        return handle


def refused(status: int, message: str, log_id: str = "", headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(enveloped(status, message, log_id), status, headers)


async def _log_id(request: Request) -> str:
    """The client's own, where it sent one."""
    try:
        told = (await request.json())["logId"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return told if isinstance(told, str) else ""


router = APIRouter(route_class=Enveloped, tags=["PaddleX"])
_FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"model": NoResult, "description": words} for status, words in WORDS.items()
}
_TOLD: dict[str, Any] = {"response_model_exclude_none": True, "responses": _FAILURES}


@router.get("/health", operation_id="checkHealth")
async def health() -> NoResult:
    return NoResult(logId=str(uuid.uuid4()), errorCode=0, errorMsg="Healthy")


@router.post("/shitu-index-build", operation_id="buildIndex", **_TOLD)
async def build_index(request: Request, service: TheService, asked: BuildIndexRequest) -> Answer[IndexResult]:
    """A new gallery of these images, each entered whole; `indexKey` is its name."""
    key, ids = await build(service, _pairs(asked.imageLabelPairs), who(request))
    return _answer(asked, IndexResult(indexKey=key, imageCount=len(ids), ids=ids))


@router.post("/shitu-index-add", operation_id="addImagesToIndex", **_TOLD)
async def add_images(request: Request, service: TheService, asked: AddImagesToIndexRequest) -> Answer[IndexResult]:
    """All of these images, or none."""
    ids, count = await add(service, asked.indexKey, _pairs(asked.imageLabelPairs), who(request))
    return _answer(asked, IndexResult(imageCount=count, ids=ids))


@router.post("/shitu-index-remove", operation_id="removeImagesFromIndex", **_TOLD)
async def remove_images(
    request: Request, service: TheService, asked: RemoveImagesFromIndexRequest
) -> Answer[IndexResult]:
    """Ids that are not there are passed over."""
    count = await remove(service, asked.indexKey, asked.ids, who(request))
    return _answer(asked, IndexResult(imageCount=count))


@router.post("/shitu-infer", operation_id="infer", **_TOLD)
async def infer_image(service: TheService, asked: InferRequest) -> Answer[InferResult]:
    """Every object that is found; `recResults` is empty where its best match misses the threshold."""
    wanted = Wanted(
        asked.detThreshold, asked.recThreshold, asked.hammingRadius, asked.topk, asked.visualize is not False
    )
    found = await infer(service, asked.indexKey, asked.image, wanted)
    return _answer(asked, InferResult.model_validate(found))


def _pairs(pairs: list[ImageLabelPair]) -> list[tuple[str, str]]:
    if not pairs:
        raise HttpError(400, "bad_request", "imageLabelPairs is empty; give at least one image with its label")
    return [(pair.image, pair.label) for pair in pairs]


def _answer(asked: Asked, result: Result) -> Answer[Result]:
    return Answer(logId=asked.logId or str(uuid.uuid4()), result=result)
