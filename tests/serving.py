"""The service on loopback, in a thread of the test's process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shitu.config import load_config

LIMIT_S = 60.0


@contextmanager
def serving(root: Path, *overrides: str, **settings: Any) -> Iterator[str]:
    """Its address. The socket listens before the server runs, so that nobody has to wait for it."""
    import uvicorn

    from shitu.serve.app import create_app
    from shitu.serve.settings import Settings

    app = create_app(Settings(load_config(None, overrides), None, overrides, root, **settings))
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=30))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(LIMIT_S)
        listener.close()
        assert not thread.is_alive()
