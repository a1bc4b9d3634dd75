"""One engine, precision and number of threads in a process of its own: python -m shitu.benchmark.worker

The first line of stdin is a job: {"config", "overrides", "images", "out"}; each line after it asks for something, and
is answered by one line of JSON. The end of stdin ends it.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from shitu.benchmark.stages import PROCESSOR, Clock, watch
from shitu.draw import AnnotatedWriter, draw_recognition
from shitu.draw.annotated_writer import PictureWriter
from shitu.errors import ShituError
from shitu.images.read import read_image
from shitu.images.read_ahead import read_ahead
from shitu.made_with import load_config_for_gallery
from shitu.recognise.files import recognize_files
from shitu.recognise.from_config import SystemPredictor

CROPS = 32  # in one call, where the recogniser is timed alone
REPEATS = 3  # of each network in a round


class Worker:
    """A recogniser whose stations are timed."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.images: list[str] = job["images"]
        self.out: str = job["out"]
        self.clock = Clock()
        self.config = load_config_for_gallery(job["config"], job["overrides"])
        self.system = SystemPredictor(self.config)
        self.many: SystemPredictor | None = None
        self.det, self.rec = self.system.det_predictor, self.system.rec_predictor
        first = [read_image(name) for name in self.images[:1]]
        self.crops = [self.rec.prepare(image) for image in first] * CROPS
        watch(self.system, self.clock)
        self.read = self.clock.timed("decode", read_image)
        writer = AnnotatedWriter(self.out)
        self.draw = self.clock.timed(
            "drawing", lambda name, image, found: writer.write(name, draw_recognition(image, found))
        )

    def stages(self, batch: int) -> dict[str, Any]:
        """One after the other, so that each station has the machine for itself: seconds per image, group by group."""
        groups = []
        for start in range(0, len(self.images), batch):
            names = self.images[start : start + batch]
            self.clock.taken(0.0)
            before, busy = time.perf_counter(), time.process_time()
            images = [self.read(name) for name in names]
            for name, image, found in zip(names, images, self.system.predict(images, names), strict=True):
                self.draw(name, image, found)
            whole = time.perf_counter() - before
            parts = {PROCESSOR: time.process_time() - busy, "whole": whole, **self.clock.taken(whole)}
            groups.append({stage: seconds / len(names) for stage, seconds in parts.items()})
        return {"groups": groups}

    def folder(self, batch: int) -> dict[str, Any]:
        """As `shitu predict` does it: several at a time, with reading and drawing beside. Seconds for all images."""
        if self.many is None:
            self.many = SystemPredictor(self.config, self.system.gallery, many=True)
        before = time.perf_counter()
        with PictureWriter(self.out, draw_recognition) as pictures:
            for image, record in recognize_files(self.many, read_ahead(self.images), batch):
                if image is not None:
                    pictures.write(record.image, image, record)
        return {"seconds": time.perf_counter() - before}

    def networks(self) -> dict[str, Any]:
        """Seconds of each network alone: the detector for an image, the recogniser for each of CROPS; medians."""
        seconds: dict[str, list[float]] = {"recogniser": []}
        count = sum(len(each) for each in self.crops)
        image = read_image(self.images[0])
        for _ in range(REPEATS):
            before = time.perf_counter()
            self.rec.predict_tensors(self.crops)
            seconds["recogniser"].append((time.perf_counter() - before) / count)
            if self.det is not None:
                self.clock.taken(0.0)
                self.det.predict([image])
                seconds.setdefault("detector", []).append(self.clock.taken(0.0)["detector run"])
        return {"seconds": {kind: median(values) for kind, values in seconds.items()}}

    def answers(self) -> dict[str, Any]:
        """What was recognised in each image: (label, box) pairs."""
        found = self.system.predict([read_image(name) for name in self.images], self.images)
        return {"answers": [[[region.label, list(region.bbox)] for region in each.regions] for each in found]}

    def memory(self) -> dict[str, Any]:
        return {"bytes": peak_memory()}

    def engines(self) -> dict[str, Any]:
        """Engine and precision of each network: what `auto` has taken."""
        kinds = {"detector": self.det, "recogniser": self.rec}
        return {"engines": {kind: getattr(each, "engine", "") for kind, each in kinds.items() if each is not None}}


def peak_memory() -> int:
    """The most bytes that this process held at a time."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # the engines print

    def answer(record: dict[str, Any]) -> None:
        print(json.dumps(record), file=answers)

    np.seterr(all="ignore")
    try:
        worker = Worker(json.loads(sys.stdin.readline()))
        answer({"ready": True})
        for line in sys.stdin:
            asked = json.loads(line)
            answer(getattr(worker, asked.pop("do"))(**asked))
    except ShituError as error:
        answer({"error": str(error)})


if __name__ == "__main__":
    main()
