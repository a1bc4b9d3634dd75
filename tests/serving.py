"""`shitu serve` as a process of its own, for tests that ask it over real HTTP."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from shitu.cli import main
from tests.conftest import DEMO, index_overrides

httpx = pytest.importorskip("httpx", reason="httpx, of the extra dev, is not installed")
pytest.importorskip("fastapi", reason="FastAPI, of the extra serve, is not installed")
pytest.importorskip("uvicorn", reason="uvicorn, of the extra serve, is not installed")

BEACH = DEMO / "photos" / "beach.jpg"
LABELS = {"ring buoy", "bucket", "sailboat", "pretzel", "magnet", "ambulance"}
SECONDS = 120  # a machine that is busy takes long to load models


@dataclass
class Running:
    """A server: its address, its process, what it has said, and a client for it."""

    url: str
    process: subprocess.Popen[str]
    folder: Path
    said: list[str] = field(default_factory=list)
    token: str = ""

    def client(self, **more: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return httpx.Client(base_url=self.url, timeout=SECONDS, headers=headers | more.pop("headers", {}), **more)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(SECONDS)


@contextmanager
def serving(folder: Path, *arguments: object, token: str = "") -> Iterator[Running]:
    """A server in `folder` on a port that is free; ends with the block."""
    command = [sys.executable, "-m", "shitu", "serve", "--port", "0", *map(str, arguments)]
    environment = os.environ | {"SHITU_TOKEN": token, "PYTHONUNBUFFERED": "1"}
    environment.pop("SHITU_GALLERY", None)
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said: list[str] = []
    lines: Queue[str] = Queue()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            lines.put(line)
        lines.put("")

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield Running(_address(lines, said), process, folder, said, token)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(SECONDS)
        reader.join(SECONDS)
        process.stderr.close()


def demo_gallery(folder: Path, name: str = "demo") -> None:
    """A gallery of the demo's pictures of a few things, some of which are in BEACH."""
    lines = (DEMO / "gallery.txt").read_text(encoding="utf-8").splitlines()
    chosen = folder / f"{name}.txt"
    chosen.write_text("".join(f"{line}\n" for line in lines if line.split("\t")[1] in LABELS), encoding="utf-8")
    overrides = [f"-o{each}" for each in index_overrides(chosen, folder / name)]
    done = CliRunner().invoke(main, ["build-gallery", *overrides])
    assert done.exit_code == 0, done.output


def files(*paths: Path) -> list[tuple[str, tuple[str, bytes]]]:
    """What httpx sends as a form's files."""
    return [("files", (path.name, path.read_bytes())) for path in paths]


def drawn(seed: int) -> bytes:
    """A PNG file like no other, 160 pixels high and wide."""
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    out = BytesIO()
    Image.fromarray(pixels).resize((160, 160), Image.Resampling.NEAREST).save(out, "PNG")
    return out.getvalue()


def _address(lines: Queue[str], said: list[str]) -> str:
    while True:
        try:
            line = lines.get(timeout=SECONDS)
        except Empty:
            pytest.fail(f"the server says nothing: {said}")
        if found := re.search(r"(http://\S+:\d+)\s", line):
            return found[1]
        if not line:
            pytest.fail(f"the server did not start: {''.join(said)}")
