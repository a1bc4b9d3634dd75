"""Photos that were recognised with doubt, kept to be looked through; the answers make a list to calibrate by.

A photo and its record lie in --collect FOLDER/GALLERY as SHA256.photo and SHA256.json; at most MOST of a gallery.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shitu.errors import ShituError
from shitu.evaluation.queries import Query
from shitu.files import replace_file
from shitu.serve.pictures import Answered
from shitu.serve.problems import HttpError

MOST = 2000
_ID = re.compile(r"[0-9a-f]{64}")


class Review:
    """`folder` None: nothing is kept. `below`: the score, or for distances the distance above, that means doubt."""

    def __init__(self, folder: Path | None, below: float) -> None:
        self.folder, self._below = folder, below
        self._lock = threading.Lock()

    def offer(self, gallery: str, answered: Answered, record: Mapping[str, Any], sign: float) -> None:
        """Keep it where an object in it has a doubtful name, or none. What was looked through does not come again."""
        if self.folder is None:
            return
        best = [sign * each["matches"][0]["score"] if each["matches"] else None for each in _regions(record)]
        if not best or all(score is not None and score >= sign * self._below for score in best):
            return
        place = self.folder / gallery
        path = place / f"{answered.sha256}.json"
        with self._lock:
            if path.exists() or (place.is_dir() and sum(1 for _ in place.glob("*.json")) >= MOST):
                return
            place.mkdir(parents=True, exist_ok=True)
            kept = {"name": answered.name, "time": time.time(), "record": dict(record), "verdict": None}
            replace_file(path.with_suffix(".photo"), lambda file: file.write(answered.data), durable=False)
            self._write(path, kept)

    def pending(self, gallery: str, after: str, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Those not looked through, by id above `after`, and how many there are in all."""
        waiting = [(path.stem, kept) for path, kept in self._all(gallery) if kept["verdict"] is None]
        page = [one for one in waiting if one[0] > after][:limit]
        return [{"id": number, "gallery": gallery, **kept} for number, kept in page], len(waiting)

    def get(self, gallery: str, number: str) -> dict[str, Any]:
        """Raises HttpError 404."""
        path = self._path(gallery, number)
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return found
        except (OSError, ValueError):
            raise HttpError(404, "review_not_found", "there is no such photo to look through") from None

    def picture(self, gallery: str, number: str) -> bytes:
        try:
            return self._path(gallery, number).with_suffix(".photo").read_bytes()
        except OSError:
            raise HttpError(404, "review_not_found", "there is no such photo to look through") from None

    def judge(self, gallery: str, number: str, verdict: str, label: str | None, region: int) -> None:
        """Note it. `right`: what was named is so; `name`: the region is `label`."""
        with self._lock:
            kept = self.get(gallery, number)
            answers = kept.get("answers", [])
            if verdict == "right":
                answers = [{"label": each["rec_docs"], "bbox": each["bbox"]} for each in kept["record"]["regions"]]
            elif verdict == "name":
                answers = [*answers, {"label": label, "bbox": _regions(kept["record"])[region]["bbox"]}]
            self._write(self._path(gallery, number), kept | {"verdict": verdict, "answers": answers})

    def queries(self, gallery: str) -> list[Query]:
        """What has been judged right, or named, as questions with known answers."""
        made: list[Query] = []
        for path, kept in self._all(gallery):
            for each in kept.get("answers", []):
                photo = str(path.with_suffix(".photo"))
                made.append(Query(kept["name"], photo, each["label"], tuple(each["bbox"]), len(made) + 1))
        return made

    def _path(self, gallery: str, number: str) -> Path:
        if self.folder is None or not _ID.fullmatch(number):
            raise HttpError(404, "review_not_found", "nothing is collected: start with --collect FOLDER")
        return self.folder / gallery / f"{number}.json"

    def _all(self, gallery: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        if self.folder is None:
            return
        for path in sorted((self.folder / gallery).glob("*.json")):
            try:
                yield path, json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue

    def _write(self, path: Path, kept: Mapping[str, Any]) -> None:
        try:
            replace_file(path, lambda file: file.write(json.dumps(kept, ensure_ascii=False).encode()))
        except OSError as error:
            raise ShituError(f"a photo to review cannot be kept ({error.strerror}); make room") from error


def _regions(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [*record["regions"], *record.get("unnamed", ())]
