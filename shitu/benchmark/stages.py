"""Times the stations of a recogniser from outside: each is wrapped, nothing in `recognise/` knows of it."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from shitu.recognise.system import Recogniser

STAGES = (
    "decode", "detector pre", "detector run", "detector post", "crop", "recogniser pre", "recogniser run", "search",
    "suppression", "drawing", "other",
)  # fmt: skip
PROCESSOR = "processor"  # what all threads took together; beside the stages, not one of them
_BUSY = ("busy pre", "busy run")  # of the recogniser's threads, which work side by side


class Clock:
    """Adds up the seconds spent in functions, by stage; any number of threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = defaultdict(float)
        self._since: float | None = None

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time counted."""

        def run(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self.add(stage, time.perf_counter() - start)

        return run

    def add(self, stage: str, seconds: float) -> None:
        with self._lock:
            self._seconds[stage] += seconds

    def mark(self) -> None:
        """A moment from which `since` counts."""
        self._since = time.perf_counter()

    def since(self, stage: str) -> None:
        """What passed since the last mark belongs to the stage."""
        if self._since is not None:
            self.add(stage, time.perf_counter() - self._since)
            self._since = None

    def taken(self, whole: float) -> dict[str, float]:
        """Seconds of each of STAGES that make up `whole`, and the clock begins anew.

        The recogniser's wall time is divided as its threads' time was; `other` is what no station took.
        """
        with self._lock:
            seconds, self._seconds = self._seconds, defaultdict(float)
        busy = sum(seconds[name] for name in _BUSY)
        for name in _BUSY:
            stage = name.replace("busy", "recogniser")
            seconds[stage] = seconds["recogniser"] * seconds[name] / busy if busy else 0.0
        found = {stage: seconds[stage] for stage in STAGES}
        found["other"] = max(0.0, whole - sum(found.values()))
        return found


class _Station:
    """Another object with some of its methods replaced; a call goes to `call`."""

    def __init__(self, inner: Any, call: Callable[..., Any] | None = None, **methods: Callable[..., Any]) -> None:
        self._inner, self._call = inner, call
        self.__dict__.update(methods)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __call__(self, *arguments: Any) -> Any:
        assert self._call is not None
        return self._call(*arguments)


def watch(system: Recogniser, clock: Clock) -> None:
    """From now on the clock counts what this recogniser does."""

    def wrap(owner: Any, name: str, stage: str) -> None:
        setattr(owner, name, clock.timed(stage, getattr(owner, name)))

    if det := system.det_predictor:
        setattr(det, "preprocess", _Station(det.preprocess, clock.timed("detector pre", det.preprocess)))  # noqa: B010
        wrap(det._streams, "map", "detector run")
        wrap(det, "decode", "detector post")
        wrap(det, "_select", "detector post")
    rec = system.rec_predictor
    wrap(rec, "prepare", "busy pre")
    wrap(rec, "_run_tensors", "busy run")
    wrap(rec, "predict", "recogniser")
    predict, candidates = rec.predict, system.candidates

    def after_crops(images: Any) -> Any:
        clock.since("crop")
        return predict(images)

    def before_crops(image: Any) -> Any:
        found = candidates(image)
        clock.mark()
        return found

    setattr(rec, "predict", after_crops)  # noqa: B010
    setattr(system, "candidates", before_crops)  # noqa: B010
    search = clock.timed("search", system.gallery.search)
    setattr(system, "gallery", _Station(system.gallery, search=search))  # noqa: B010
    wrap(system, "_recognition", "suppression")
    wrap(system, "_region", "suppression")
