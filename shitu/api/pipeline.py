"""A gallery with its models, ready to name what is in pictures and to learn new things."""

from __future__ import annotations

import itertools
import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator
from threading import Lock
from typing import TYPE_CHECKING, Any

from shitu.api.answers import Answer, Answers
from shitu.api.given import Keep, as_jpeg, itself, nothing, several
from shitu.config import Config
from shitu.errors import ImageError
from shitu.images.find import find_images
from shitu.images.read import Picture
from shitu.recognise.files import Read, recognize_files
from shitu.recognise.from_config import DetPredictor, SystemPredictor
from shitu.recognise.system import Recogniser
from shitu.sources.memory import picture_of
from shitu.sources.read import find_sources, read_sources

if TYPE_CHECKING:
    from shitu.build.builder import BuildReport
    from shitu.build.embed import Models
    from shitu.video.watch import Watched

log = logging.getLogger("shitu")


class Pipeline:
    """What `shitu.open` returns: the models and the gallery of a config. Any number of threads may share it.

    What this object, or another process, adds to the gallery is seen by the calls of `predict` that begin later.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._recogniser: Recogniser = SystemPredictor(config)
        self._lock = Lock()

    def predict(self, source: Any, *, bgr: bool = False) -> Answers:
        """Find the objects in pictures and name them: one Answer for each picture, in order.

        source: a path, a folder, a pattern, a web address; the bytes of an image file; a Pillow image; an array
            (h, w, 3) uint8 in RGB; or several of them.
        bgr: arrays are in BGR, as `cv2.imread` and `cv2.VideoCapture` return them.

        A picture that cannot be read has an Answer with `error`, and a warning is logged. Raises UsageError where a
        path does not exist, or something is no picture at all; GalleryError where the gallery has become unusable.
        """
        recogniser = self._refreshed()
        pictures: deque[Picture | bytes | None] = deque()  # of what cannot be read again, until it is answered

        def read() -> Iterator[Read]:
            for name, picture, keep in _read(source, bgr):
                pictures.append(None if isinstance(picture, ImageError) else keep(picture))
                yield name, picture

        answers = []
        for _, found in recognize_files(recogniser, read(), self.config.Global.batch_size):
            if found.error:
                log.warning("failed: %s", found.error)
            answers.append(Answer(found, pictures.popleft()))
        return Answers(answers)

    def watch(
        self, source: str | os.PathLike[str] | int, *, every: float = 0.5, agree: tuple[int, int] = (3, 5)
    ) -> Iterator[Watched]:
        """Look at a video file, a stream's address or a camera by number every so many seconds: docs/video.md.

        Each frame comes with what in it has a name (`found.regions`) and with what has just got one (`events`); a name
        needs m of a track's last n frames, `agree` = (m, n). Raises ShituError where the source cannot be opened.
        """
        from shitu.video.capture import shown_name
        from shitu.video.frames import frames
        from shitu.video.watch import watch

        name = str(source)
        return watch(self._refreshed(), frames(name, every), shown_name(name), agree)

    def add(self, source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, label: str) -> BuildReport:
        """Add image files (a path, a folder, a pattern, or several) to the gallery, on disk and at once or not at all.

        Images whose content is already there are passed over, as by `shitu gallery append`; the report counts them.
        Raises UsageError, GalleryError, GalleryBusyError; ImageError where none of the images can be read.
        """
        from shitu.build.builder import GalleryBuilder  # who only asks needs none of it
        from shitu.build.list_file import Entry

        paths = [source] if isinstance(source, str | os.PathLike) else source
        entries = [Entry(path, path, label, 0) for path in find_images([os.fspath(path) for path in paths])]
        builder = GalleryBuilder(self.config.replace("IndexProcess", index_operation="append"), models=self._models())
        report = builder.run(entries)
        if report.failed and not (report.images or report.already_there):
            raise ImageError(report.failed[0][1])
        for _, reason in report.failed:
            log.warning("failed: %s", reason)
        return report

    def _models(self) -> Models:
        """Those of this pipeline, so that adding one image loads none."""
        from shitu.build.embed import Models

        det, rec = self._recogniser.det_predictor, self._recogniser.rec_predictor
        crop = self.config.IndexProcess.crop
        if crop == "none" or (crop == "both" and det is None):
            return Models(rec, None)
        return Models(rec, det or DetPredictor(self.config))

    def __len__(self) -> int:
        """How many entries the gallery has."""
        return len(self._refreshed().gallery)

    def __repr__(self) -> str:
        return f"<shitu {self.config.IndexProcess.index_dir}: {len(self):,} entries>"

    def _refreshed(self) -> Recogniser:
        with self._lock:
            self._recogniser = self._recogniser.refreshed()
            return self._recogniser


def _read(source: Any, bgr: bool) -> Iterator[tuple[str, Picture | ImageError, Keep]]:
    """(name, picture, what an answer keeps of it) of all that is meant; neighbouring paths are read ahead."""
    numbers = itertools.count(1)
    for named, group in itertools.groupby(several(source), key=lambda one: isinstance(one, str | os.PathLike)):
        if named:
            for name, picture in read_sources(find_sources([os.fspath(one) for one in group])):
                yield name, picture, nothing if os.path.isfile(name) else as_jpeg
            continue
        for one in group:
            name = f"picture-{next(numbers)}"
            try:
                yield name, picture_of(one, name, bgr=bgr), itself
            except ImageError as error:
                yield name, error, nothing
