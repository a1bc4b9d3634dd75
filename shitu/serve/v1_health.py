"""Whether the service is there, and its figures."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from shitu import __version__
from shitu.serve import schema
from shitu.serve.common import TheService, errors
from shitu.serve.problems import HttpError

router = APIRouter(tags=["health"])


@router.get("/v1/health", response_model=schema.Status)
@router.get("/v2/health/live", response_model=schema.Status, tags=["open inference protocol"])
async def health(service: TheService) -> Any:
    """Answers while the process lives; needs no token."""
    return {"status": "stopping" if service.stopping.is_set() else "ok"}


@router.get("/v1/ready", response_model=schema.Status, responses=errors(503))
@router.get("/v2/health/ready", response_model=schema.Status, responses=errors(503), tags=["open inference protocol"])
async def ready(service: TheService) -> Any:
    """Answers 200 while requests are taken."""
    if service.stopping.is_set():
        raise HttpError(503, "stopping", "the service is stopping", retry=5)
    return {"status": "ok"}


@router.get("/v1/version", response_model=schema.Version, responses=errors())
async def version() -> Any:
    return {"version": __version__}


@router.get("/metrics", response_class=Response, responses=errors())
async def metrics(service: TheService) -> Response:
    """For Prometheus."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
