"""Other processes: workers that run a variant, and `shitu predict` from its start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from shitu.benchmark.variants import Variant
from shitu.errors import EngineError, ShituError

# An idle process's OpenMP threads still spin for 0.2 s and would take the next one's cores.
PAUSE = 0.25


class WorkerProcess:
    """A variant's recogniser in a process of its own. A context: leaving it ends the process."""

    def __init__(self, variant: Variant, config: str | None, overrides: Sequence[str], images: Sequence[str],
                 out: str) -> None:  # fmt: skip
        self.variant = variant
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the process)
        command = [sys.executable, "-m", "shitu.benchmark.worker"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._log, text=True)
        try:
            job = {"config": config, "overrides": [*overrides, *variant.overrides()], "images": images, "out": out}
            self._send(job)
            self._answer()
        except ShituError:
            self.close()
            raise

    def ask(self, do: str, **arguments: Any) -> Any:
        """What the worker's method of that name returns. Raises EngineError where it failed."""
        time.sleep(PAUSE)
        self._send({"do": do, **arguments})
        return self._answer()

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _send(self, record: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the answer, or its absence, tells why
            print(json.dumps(record), file=self._process.stdin, flush=True)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            said = self._log.read().decode("utf-8", "replace").strip().splitlines()
            raise EngineError(f"{self.variant}: its process ended: {' '.join(said[-2:])[-300:] or 'without a word'}")
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise EngineError(found["error"])
        return found


def cold_start(variant: Variant, config: str | None, overrides: Sequence[str], image: str, scratch: Path) -> float:
    """Seconds from the start of `shitu predict` to its first line of results, without drawing."""
    command = [sys.executable, "-m", "shitu", "-q", "predict", "--no-pictures"]
    command += ["-c", config] if config else []
    command += [word for each in [*overrides, *variant.overrides()] for word in ("-o", each)]
    environment = dict(os.environ)
    if environment.pop("PYTHONDONTWRITEBYTECODE", None):  # as after an installation: compiled modules are there
        environment["PYTHONPYCACHEPREFIX"] = str(scratch / "pycache")
    start = time.perf_counter()
    process = subprocess.Popen(
        [*command, image], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    seconds = time.perf_counter() - start
    _, said = process.communicate()
    if not line:
        raise EngineError(f"shitu predict with {variant}: {said.strip()[-300:]}")
    return seconds
