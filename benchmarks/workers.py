"""One photo at a time through shitu or through PaddleClas, timed in its parts. Started by predict_system.py.

python benchmarks/workers.py shitu|paddleclas JOB.json [KEY=VALUE ...]
Reads photo paths from stdin, one a line; answers each with a line of JSON on the stream that stdout was: the seconds of
every part, the regions, and the features of the crops. "folder" recognises the photos of the job's `folder`, "gallery"
builds a gallery of its `entries`: the answer is the seconds for all. "quit" ends it.
"""

from __future__ import annotations

import os
import sys

if sys.argv[1:2] == ["paddleclas"]:
    os.environ["FLAGS_enable_pir_api"] = "0"  # noqa: SIM112 (it looks for inference.pdmodel only without the new IR)

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


class Clock:
    """Adds up the seconds spent in functions, by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds[part] += time.perf_counter() - start

        return run


class Shitu:
    def __init__(self, job: dict[str, Any], clock: Clock) -> None:
        from shitu.build.builder import GalleryBuilder
        from shitu.config import load_config
        from shitu.draw import AnnotatedWriter, draw_recognition
        from shitu.images.read import read_image
        from shitu.recognise.from_config import SystemPredictor

        overrides = [f"{key}={value}" for key, value in job["overrides"].items()]
        overrides += [*sys.argv[3:], f"IndexProcess.index_dir={job.get('gallery') or job['out'] + '/shitu'}"]
        self.job, self.config = job, load_config(job["yaml"], overrides)
        config = self.config
        if not job.get("gallery"):
            GalleryBuilder(config).run()
        self.system = SystemPredictor(config)
        self.many = SystemPredictor(config, self.system.gallery, many=True)
        self.rows: Any = None
        self.features: list[Any] = []
        for each in (self.system.det_predictor, self.many.det_predictor):
            assert each is not None
            decode = clock.timed("nms", each.decode)  # counted, though its rows are not taken
            each.decode = lambda outputs, decode=decode: (decode(outputs), self.rows)[1]  # type: ignore[misc]
        assert self.system.det_predictor is not None
        self.system.det_predictor.predict = clock.timed("detector", self.system.det_predictor.predict)  # type: ignore
        self.system.rec_predictor.predict = clock.timed("recogniser", self._keep(self.system.rec_predictor.predict))  # type: ignore
        self.system.gallery.search = clock.timed("search", self.system.gallery.search)  # type: ignore
        self.read = clock.timed("reading", read_image)
        writer = AnnotatedWriter(f"{job['out']}/shitu-pictures")
        self.draw = clock.timed(
            "drawing", lambda name, image, found: writer.write(name, draw_recognition(image, found))
        )

    def _keep(self, predict: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def run(images: Any) -> Any:
            self.features = predict(images)
            return self.features

        return run

    def run(self, path: str) -> list[Any]:
        image = self.read(path)
        (found,) = self.system.predict([image], [path])
        self.draw(path, image, found)
        return [[list(region.bbox), region.label, region.score] for region in found.regions]

    def folder(self) -> None:
        """As `shitu predict` does it: the next are read, and pictures drawn, beside."""
        from shitu.draw import draw_recognition
        from shitu.draw.annotated_writer import PictureWriter
        from shitu.images.read_ahead import read_ahead
        from shitu.recognise.files import recognize_files

        with PictureWriter(f"{self.job['out']}/shitu-pictures", draw_recognition) as pictures:
            records = recognize_files(self.many, read_ahead(self.job["folder"]), self.config.Global.batch_size)
            for image, record in records:
                assert image is not None
                pictures.write(record.image, image, record)

    def gallery(self, out: str) -> None:
        from dataclasses import replace

        from shitu.build.builder import GalleryBuilder

        index = replace(self.config.IndexProcess, index_dir=out, data_file=self.job["entries"])
        GalleryBuilder(replace(self.config, IndexProcess=index)).run()


class PaddleClas:
    def __init__(self, job: dict[str, Any], clock: Clock) -> None:
        import cv2
        from matplotlib import get_data_path  # its DejaVu: PaddleClas's simfang.ttf is not in the wheel
        from paddleclas.deploy.python.build_gallery import GalleryBuilder
        from paddleclas.deploy.python.predict_system import SystemPredictor
        from paddleclas.deploy.utils.config import get_config
        from paddleclas.deploy.utils.draw_bbox import draw_bbox_results

        overrides = [f"{key}={value}" for key, value in job["overrides"].items()]
        overrides.append(f"IndexProcess.index_dir={job.get('gallery') or job['out'] + '/paddleclas'}")
        self.job, self.build = job, GalleryBuilder
        config = get_config(job["yaml"], overrides, show=False)
        if not job.get("gallery"):
            GalleryBuilder(config)
        self.config = config
        self.system = SystemPredictor(config)
        self.rows: Any = None
        self.features: list[Any] = []
        detector = self.system.det_predictor
        parse = detector.parse_det_results
        detector.parse_det_results = lambda _rows, *rest: parse(self.rows, *rest)
        detector.predict = clock.timed("detector", detector.predict)
        self.system.rec_predictor.predict = clock.timed("recogniser", self._keep(self.system.rec_predictor.predict))
        searcher = self.system.Searcher
        searcher.search = clock.timed("search", searcher.search)
        # as its main() does
        self.read = clock.timed("reading", lambda path: cv2.imread(path)[:, :, ::-1])
        font, folder = f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", f"{job['out']}/paddleclas-pictures"
        self.draw = clock.timed("drawing", lambda *a: draw_bbox_results(*a, font_path=font, save_dir=folder))

    def _keep(self, predict: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def run(image: Any) -> Any:
            feature = predict(image)
            self.features.append(feature[0])
            return feature

        return run

    def run(self, path: str) -> list[Any]:
        self.features = []
        image = self.read(path)
        found = self.system.predict(image)
        self.draw(image, found, path)
        return [[[int(v) for v in r["bbox"]], r["rec_docs"], float(r["rec_scores"])] for r in found]

    def folder(self) -> None:
        """As its main() does it: one after the other."""
        for path in self.job["folder"]:
            self.run(path)

    def gallery(self, out: str) -> None:
        self.config["IndexProcess"].update(index_dir=out, data_file=self.job["entries"])
        self.build(self.config)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # PaddleClas prints
    job = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    clock = Clock()
    side = (Shitu if sys.argv[1] == "shitu" else PaddleClas)(job, clock)
    print(json.dumps("ready"), file=answers)
    for line in sys.stdin:
        path = line.strip()
        if path == "quit":
            break
        if path in ("folder", "gallery"):
            side.rows = np.array(job["grid"], np.float32)
            start, busy = time.perf_counter(), time.process_time()
            with tempfile.TemporaryDirectory() as out:
                side.gallery(f"{out}/index") if path == "gallery" else side.folder()
                record = {"seconds": time.perf_counter() - start, "processor": time.process_time() - busy}
            print(json.dumps(record), file=answers)
            continue
        side.rows = np.array(job["rows"][path], np.float32)
        clock.seconds.clear()
        start, busy = time.perf_counter(), time.process_time()
        regions = side.run(path)
        clock.seconds["total"] = time.perf_counter() - start
        record = {"seconds": clock.seconds, "processor": time.process_time() - busy, "regions": regions}
        print(json.dumps({**record, "features": np.asarray(side.features).tolist()}), file=answers)


if __name__ == "__main__":
    main()
