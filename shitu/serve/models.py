"""The networks of a service: each is opened once, whatever number of galleries use it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

from shitu.config import Config
from shitu.measure import measure_of
from shitu.recognise.detect import Detector
from shitu.recognise.embed import Extractor
from shitu.recognise.from_config import DetPredictor, Parts, RecPredictor
from shitu.serve.gather import SharedExtractor

Key = tuple[Hashable, ...]


class Networks:
    """Detectors and extractors by what makes them; raises ConfigError, ModelError, EngineError."""

    def __init__(self, expected: Callable[[], int], seen: Callable[[int], object]) -> None:
        self._expected, self._seen = expected, seen
        self._lock = threading.Lock()
        self._detectors: dict[Key, DetPredictor] = {}
        self._extractors: dict[Key, SharedExtractor] = {}

    def detector(self, config: Config) -> Detector | None:
        """With the thresholds of this config, on sessions shared with others; None where the config wants none."""
        section = config.Global
        if not section.det_inference_model_dir:
            return None
        key = (section.det_inference_model_dir, repr(config.DetPreProcess), section.label_list)
        with self._lock:
            if key not in self._detectors:
                self._detectors[key] = DetPredictor(config, many=True)
            return self._detectors[key].at(section.threshold, section.max_det_results)

    def extractor(self, config: Config) -> Extractor:
        index = config.IndexProcess
        key = (
            config.Global.rec_inference_model_dir,
            repr(config.RecPreProcess),
            repr(config.RecPostProcess),
            measure_of(index.dist_type).packed,
        )
        with self._lock:
            if key not in self._extractors:
                rec = RecPredictor(config, many=True)
                self._extractors[key] = SharedExtractor(rec, self._expected, self._seen)
            return self._extractors[key]

    def parts(self, config: Config) -> Parts:
        return self.detector(config), self.extractor(config)

    def close(self) -> None:
        for each in self._extractors.values():
            each.close()
