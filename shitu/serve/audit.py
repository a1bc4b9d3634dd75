"""Who changed what: a JSON line for every change that was committed."""

from __future__ import annotations

import datetime
import json
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger("shitu")


class Audit:
    """Appends to one file. A line that cannot be written is logged: the change itself is done."""

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.Lock()

    def write(self, gallery: str, change: str, what: Mapping[str, Any], by: str = "") -> None:
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, "gallery": gallery, "change": change, "by": by, **what}, ensure_ascii=False)
        try:
            with self._lock:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")
        except OSError as error:
            log.error("the audit log %s cannot be written (%s): %s", self.path, error.strerror, line)
