"""A list file -> embeddings -> gallery: `index_operation` new, append and remove.

Decoding and preprocessing run ahead of the network in threads, a bounded number of images ahead. A bad image is
counted and reported; a killed build goes on where it was; the old gallery stays whole until the new one is complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.build.embed import EmbedAhead, Outcome, Progress
from shitu.build.list_file import Entry, read_list
from shitu.build.staging import Staging
from shitu.config import Config
from shitu.errors import ConfigError, GalleryError
from shitu.gallery import Gallery, Item, write_lock
from shitu.gallery.read.faiss_index import check_method
from shitu.measure import measure_of
from shitu.recognise.from_config import DetPredictor, RecPredictor


@dataclass
class BuildReport:
    """What a build did. `failed` holds (path, reason); `relabel` images that are there under another label."""

    indexed: int = 0
    images: int = 0
    resumed: int = 0
    removed: int | None = None
    already_there: int = 0
    relabel: list[str] = field(default_factory=list)
    missing: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    total: int = 0


class GalleryBuilder:
    """Builds or changes the gallery of `IndexProcess.index_dir`.

    Raises ConfigError, ModelError, GalleryError, GalleryBusyError; what is wrong with one image goes to the report.
    """

    def __init__(self, config: Config, *, skip_missing: bool = False) -> None:
        self.config, self.index = config, config.IndexProcess
        if not self.index.index_dir:
            raise ConfigError("IndexProcess.index_dir is empty; say where the gallery shall be kept")
        self.index_dir = Path(self.index.index_dir)
        self.skip_missing = skip_missing
        self.report = BuildReport()

    def run(self, entries: Iterable[Entry] | None = None, progress: Progress = lambda count: None) -> BuildReport:
        """Do `IndexProcess.index_operation` with `entries` (default: those of `IndexProcess.data_file`)."""
        entries = list(self.entries() if entries is None else entries)
        if not entries:
            raise ConfigError(f"{self.index.data_file}: no line in it; wanted `path<delimiter>label` lines")
        if self.index.index_operation != "new":  # told before the lock makes a folder
            self._open().close()
        with write_lock(self.index_dir):
            if self.index.index_operation == "remove":
                self._remove(entries)
            else:
                self._add(entries, progress)
        return self.report

    def entries(self) -> Iterator[Entry]:
        if not self.index.data_file:
            raise ConfigError(
                "IndexProcess.data_file is empty; it lists the gallery, one `path<delimiter>label` per "
                "line: -o IndexProcess.data_file=LIST"
            )
        return read_list(self.index.data_file, self.index.image_root, self.index.delimiter)

    def _remove(self, entries: Sequence[Entry]) -> None:
        gallery = self._open()
        unwanted = {(entry.image, entry.label) for entry in entries}
        self.report.removed = gallery.remove(
            [item.id for item in gallery.items() if (item.image, item.label) in unwanted]
        )
        self.report.total = len(gallery)

    def _open(self) -> Gallery:
        """Without its index, which may be gigabytes: nothing is searched here."""
        return Gallery.open(self.index_dir, delimiter=self.index.delimiter, load_index=False)

    def _add(self, entries: Sequence[Entry], progress: Progress) -> None:
        appending = self.index.index_operation == "append"
        rec = RecPredictor(self.config)
        if rec.dimension != self.index.embedding_size:
            raise ConfigError(
                f"IndexProcess.embedding_size is {self.index.embedding_size}, the vectors of {rec.model.path} have "
                f"{rec.dimension}; add -o IndexProcess.embedding_size={rec.dimension}"
            )
        det = self._detector()
        gallery = self._open() if appending else None
        if not appending:
            check_method(self.index.index_method, measure_of(self.index.dist_type), rec.dimension)
        if gallery is not None:
            gallery.check_fits(fingerprint=rec.fingerprint, dimension=rec.dimension, dist_type=self.index.dist_type)
        with self._staging(rec, det) as staging:
            known: dict[str, tuple[str, ...]] = {}
            for item in gallery.items() if gallery is not None else ():
                if item.sha256:
                    known[item.sha256] = (*known.get(item.sha256, ()), item.label)
            ahead = EmbedAhead(rec, det, staging, crop=self.index.crop, batch_size=self.index.batch_size)
            outcomes = ahead.run(entries, progress, known=known.keys())
            rows, items = self._collect(entries, outcomes, known if appending else None)
            if items or not appending:
                self._commit(gallery, staging.vectors(), rows, items, rec)
            staging.delete()
        self.report.indexed = len(items)
        self.report.total = len(self._open())

    def _detector(self) -> DetPredictor | None:
        if self.index.crop == "none":
            return None
        return DetPredictor(self.config)  # says what to do when no detector is configured

    def _staging(self, rec: RecPredictor, det: DetPredictor | None) -> Staging:
        key = f"{rec.fingerprint} {self.index.crop}"
        if det:
            key += f" {det.model.fingerprint()} {det.threshold} {det.max_results}"
        width = rec.dimension // 8 if rec.packed else rec.dimension
        return Staging(self.index_dir / "building", key=key, width=width, dtype="uint8" if rec.packed else "float32")

    def _collect(
        self, entries: Sequence[Entry], outcomes: Sequence[Outcome], known: dict[str, tuple[str, ...]] | None
    ) -> tuple[list[int], list[Item]]:
        """Rows of the staged vectors and their items, in the order of the list."""
        rows: list[int] = []
        items: list[Item] = []
        seen: dict[str, tuple[str, ...]] = {}
        for entry, outcome in zip(entries, outcomes, strict=True):
            if outcome.error:
                self._count_failure(entry, outcome)
                continue
            if known is not None and (labels := known.get(outcome.sha256) or seen.get(outcome.sha256)):
                self.report.already_there += 1
                if entry.label not in labels:
                    self.report.relabel.append(entry.image)
                continue
            seen[outcome.sha256] = (entry.label,)
            self.report.images += 1
            self.report.resumed += outcome.resumed
            for number, box in enumerate(outcome.boxes):
                rows.append(outcome.start + number)
                items.append(Item(entry.label, entry.image, outcome.sha256, box))
        return rows, items

    def _count_failure(self, entry: Entry, outcome: Outcome) -> None:
        if outcome.missing and self.skip_missing:
            self.report.missing += 1
        else:
            self.report.failed.append((entry.path, outcome.error))

    def _commit(
        self, gallery: Gallery | None, staged: NDArray[Any], rows: list[int], items: list[Item], rec: RecPredictor
    ) -> None:
        if not items:
            failed = self.report.failed[:3]
            reasons = "; ".join(reason if path in reason else f"{path}: {reason}" for path, reason in failed)
            raise GalleryError(
                f"no image could be indexed, the gallery is left as it was. {reasons}. Mend them, or list others"
            )
        in_order = np.array_equal(rows, np.arange(len(staged)))
        vectors = staged if in_order else staged[np.asarray(rows)]
        if gallery is not None:
            gallery.append(vectors, items)
            return
        Gallery.create(
            self.index_dir,
            vectors,
            items,
            index_method=self.index.index_method,
            dist_type=self.index.dist_type,
            fingerprint=rec.fingerprint,
            model_name=rec.model.name,
        )
