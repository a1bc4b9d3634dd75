"""Paddle Serving's route, as PaddleClas deploys PP-ShiTu with it: `deploy/paddleserving/recognition`.

Its clients send the first picture as `{"key": ["image"], "value": [Base64]}` and get `value[0]`, Python's own text of a
list of records. The status is always 200; `err_no` is not 0 where something went wrong.
"""

from __future__ import annotations

import logging
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from shitu.errors import ShituError
from shitu.images.read import Picture
from shitu.serve.common import TheService
from shitu.serve.galleries import Served
from shitu.serve.incoming import decoded, of_base64

router = APIRouter(tags=["Paddle Serving"])
_WRONG_INPUT, _FAILED = 5, 8
