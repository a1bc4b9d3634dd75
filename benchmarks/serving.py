"""A `shitu serve` in a process of its own, for the time of a `with`; and the demo's gallery."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from shitu.build.builder import GalleryBuilder
from shitu.config import Config, load_config

DEMO = Path(__file__).resolve().parent.parent / "demo"
START_S = 120.0


def demo_gallery(scratch: Path) -> Config:
    """Built in `scratch`, with the bundled models and settings."""
    config = load_config("configs/inference_general.yaml", [f"IndexProcess.index_dir={scratch}/demo"])
    GalleryBuilder(config).run()
    return config


class Server:
    """`url` is where it answers; `folder` is its root and keeps its log. fixed: NAME=FOLDER of more galleries."""

    def __init__(self, folder: Path, *fixed: str, token: str = "") -> None:
        galleries = [word for each in fixed for word in ("--gallery", each)]
        command = [sys.executable, "-m", "shitu", "serve", "--port", "0", "--root", str(folder / "root"), *galleries]
        environment = os.environ | {"no_proxy": "*"} | ({"SHITU_TOKEN": token} if token else {})
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder)
        self._said: SimpleQueue[str] = SimpleQueue()
        self._log = (folder / "serve.log").open("a", encoding="utf-8")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = self._said.get(timeout=START_S)
        if not self.url:
            raise RuntimeError(f"the service did not start: {(folder / 'serve.log').read_text(encoding='utf-8')}")

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._log.write(line)
            self._log.flush()
            if found := re.search(r"http://[\w.:\[\]]+", line):
                self._said.put(found[0])
        self._said.put("")

    def memory(self) -> float:
        """MB that the process occupies now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(found[1]) / 1000 if found else 0.0

    def processor(self) -> float:
        """Seconds of all cores that the process has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(timeout=60)
        self._reader.join()
        self._log.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: Any) -> None:
        if self.process.poll() is None:
            self.stop()
