"""The application: routes on a service, and the server that runs it."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from shitu import __version__
from shitu.errors import ShituError, UsageError
from shitu.serve import paddleserving, paddlex, v1_galleries, v1_health, v1_items, v1_jobs, v1_recognise, v1_review
from shitu.serve.incoming import sentences
from shitu.serve.limits import Limits
from shitu.serve.openapi import document
from shitu.serve.problems import STATUS_CODES, HttpError, body_of, problem_of
from shitu.serve.service import Service
from shitu.serve.settings import Settings
from shitu.serve.studio import routes as studio

log = logging.getLogger("shitu")
ROUTERS = (
    v1_health.router,
    v1_recognise.router,
    v1_galleries.router,
    v1_items.router,
    v1_jobs.router,
    v1_review.router,
    paddlex.router,
    paddleserving.router,
    studio.router,
)
STOP_SECONDS = 60  # for what was accepted


def create_app(settings: Settings) -> FastAPI:
    """Opens models and galleries: raises ConfigError, ModelError, EngineError, GalleryError."""
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(service.close)

    app = FastAPI(title="shitu", version=__version__, lifespan=lifespan, redoc_url=None, docs_url=None)
    app.state.service = service
    for router in ROUTERS:
        app.include_router(router)
    app.add_middleware(Limits, settings=settings, metrics=service.metrics, slots=service.workers + settings.waiting)
    app.add_exception_handler(ShituError, _on_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    return app


def _answer(problem: HttpError, request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    return JSONResponse(body_of(problem.code, service.told(str(problem))), problem.status, problem.headers)


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ShituError)
    problem = problem_of(error)
    if problem.status >= 500:
        log.error("%s %s: %s", request.method, request.url.path, error)
    return _answer(problem, request)


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = STATUS_CODES.get(error.status_code, "failed")
    found = JSONResponse(body_of(code, str(error.detail)), error.status_code)
    found.headers.update(error.headers or {})
    return found


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return _answer(HttpError(422, "invalid_request", sentences(error.errors())), request)


class Server(uvicorn.Server):
    """Tells the service as soon as it is asked to stop, so that streams end and jobs are given up."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    async def startup(self, sockets: list[Any] | None = None) -> None:
        await super().startup(sockets)
        for each in sockets or ():
            host, port = each.getsockname()[:2]
            log.info("Listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """A second Ctrl-C ends it at once. (uvicorn's own would raise the signal again after all was well.)"""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self._service.stopping.set()
        self.should_exit = True


def run(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; returns when all that was accepted is answered.

    Raises UsageError where the address cannot be had, and what `create_app` raises.
    """
    place = _bound(settings)  # before models are loaded
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=True,
        timeout_graceful_shutdown=STOP_SECONDS,
        proxy_headers=False,
    )
    Server(config, app.state.service).run(sockets=[place])


def _bound(settings: Settings) -> socket.socket:
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        found = socket.socket(family)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((settings.host, settings.port))
    except OSError as error:
        raise UsageError(
            f"{settings.host}:{settings.port} cannot be listened at ({error.strerror}): another program may have it; "
            "choose another --port, or another --host"
        ) from None
    return found
