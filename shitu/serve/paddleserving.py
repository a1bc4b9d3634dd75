"""Paddle Serving's route, as PaddleClas deploys PP-ShiTu with it (`deploy/paddleserving/recognition`).

Its clients send `{"key": ["image"], "value": [Base64]}` and get in `value[0]` Python's own text of a list of records.
The status is 200 whatever happens; `err_no` is not 0 where something went wrong.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from shitu.errors import ShituError
from shitu.serve.common import TheService, errors
from shitu.serve.paddlex_calls import upload_of
from shitu.serve.recognising import Options, recognised

router = APIRouter(tags=["Paddle Serving"])
_FAILED = 8  # Paddle Serving's number for what it has no other for


class Prediction(BaseModel):
    key: list[str] = Field(min_length=1, examples=[["image"]])
    value: list[str] = Field(min_length=1, description="An image file in Base64, of which the first is recognised")


class Predicted(BaseModel):
    err_no: int = 0
    err_msg: str = ""
    key: list[str] = []
    value: list[str] = []
    tensors: list[Any] = []


@router.post("/recognition/prediction", operation_id="prediction", responses=errors(413, 422))
async def prediction(service: TheService, asked: Prediction) -> Predicted:
    """The picture by the gallery that the service was started with, as `shitu predict` recognises it."""
    try:
        gallery = await asyncio.to_thread(service.galleries.get, service.galleries.default())
        upload = await upload_of(service, asked.value[0], "image")
        record = await service.run(recognised, service, gallery, upload, Options())
    except ShituError as error:
        return Predicted(err_no=_FAILED, err_msg=service.told(str(error)))
    if "error" in record:
        return Predicted(err_no=_FAILED, err_msg=record["error"])
    rows = [{key: region[key] for key in ("bbox", "rec_docs", "rec_scores")} for region in record["regions"]]
    return Predicted(key=["result"], value=[str(rows)])
