"""A list file -> embeddings -> gallery: `index_operation` new, append and remove.

A bad image is counted and reported; a killed build goes on where it was; the old gallery stays whole until the new one
is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shitu.build.embed import STATS_AHEAD, Embedded, Executor, InThreads, Models, Spec
from shitu.build.list_file import Entry, read_list
from shitu.build.source import Files, Source
from shitu.build.staging import Staged, Staging
from shitu.config import Config
from shitu.errors import ConfigError, GalleryError
from shitu.gallery import GalleryReader, Item, open_reader, open_writer
from shitu.gallery.change import GalleryWriter, new_facts
from shitu.images.read_ahead import map_ahead
from shitu.made_with import settings_to_keep

Progress = Callable[[int], object]
Labels = dict[str, tuple[str, ...]]


@dataclass
class BuildReport:
    """What a build did. `failed` holds (path, reason); `relabel` images that are there under another label.

    `repeated` counts lines that say again what one above says; `contradicting` tells of images
    listed with two labels, by their content.
    """

    indexed: int = 0
    images: int = 0
    resumed: int = 0
    removed: int | None = None
    already_there: int = 0
    relabel: list[str] = field(default_factory=list)
    repeated: int = 0
    contradicting: list[str] = field(default_factory=list)
    missing: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    total: int = 0


@dataclass(frozen=True)
class _Outcome:
    """What the staging area, or this run, knows of an entry; `staged` is None where there is an error."""

    staged: Staged | None
    resumed: bool = False
    error: str = ""
    missing: bool = False


class GalleryBuilder:
    """Builds or changes the gallery of `IndexProcess.index_dir`; may be run again.

    yes: a gallery is replaced even where most of what is listed is missing. source: where the images come from;
    executor: who embeds them, given the models; by default threads of this process. models: those of the config, where
    they are open already.
    Raises ConfigError, ModelError, GalleryError, GalleryBusyError; what is wrong with one image goes to the report.
    """

    def __init__(
        self,
        config: Config,
        *,
        skip_missing: bool = False,
        yes: bool = False,
        source: Source | None = None,
        executor: Callable[[Models], Executor] = InThreads,
        models: Models | None = None,
    ) -> None:
        self.config, self.index = config, config.IndexProcess
        if not self.index.index_dir:
            raise ConfigError("IndexProcess.index_dir is empty; say where the gallery shall be kept")
        self.index_dir: str = self.index.index_dir
        self.skip_missing, self.yes = skip_missing, yes
        self._source, self._executor, self._models = source or Files(), executor, models
        self.report = BuildReport()

    def run(self, entries: Iterable[Entry] | None = None, progress: Progress = lambda count: None) -> BuildReport:
        """Do `IndexProcess.index_operation` with `entries` (default: those of `IndexProcess.data_file`)."""
        self.report = BuildReport()
        entries = self._once(self.entries() if entries is None else entries)
        if not entries:
            raise ConfigError(f"{self.index.data_file}: no line in it; wanted `path<delimiter>label` lines")
        with ExitStack() as held:
            if self.index.index_operation != "new":  # told before the lock makes a folder
                held.enter_context(closing(self._open()))  # while it is open, another program's files are read once
            writer = held.enter_context(open_writer(self.index_dir, delimiter=self.index.delimiter))
            if self.index.index_operation == "remove":
                self._remove(entries, writer)
            else:
                self._add(entries, writer, progress)
        self.report.total = len(self._open())
        return self.report

    def _once(self, entries: Iterable[Entry]) -> list[Entry]:
        """The entries without those that say again what one before says."""
        kept: dict[tuple[str, str], Entry] = {}
        for number, entry in enumerate(entries):
            kept.setdefault((entry.path, entry.label), entry)
            self.report.repeated = number + 1 - len(kept)
        return list(kept.values())

    def _check_loss(self, entries: Sequence[Entry], identities: Sequence[str]) -> None:
        """GalleryError where a gallery would be replaced though most of what is listed is not there."""
        missing = identities.count("")
        if self.yes or self.index.index_operation != "new" or 2 * missing <= len(identities):
            return
        try:
            held = len(self._open())
        except GalleryError:  # none is there, or none that could be lost
            return
        if held:
            gone = entries[identities.index("")].path
            raise GalleryError(
                f"{missing} of {len(identities)} listed images are missing, such as {gone}, and the {held:,} entries "
                f"that {self.index_dir} holds would be lost; is a disk not mounted, or image_root another? Nothing was "
                "changed; --yes replaces them all the same"
            )

    def entries(self) -> Iterator[Entry]:
        if not self.index.data_file:
            raise ConfigError(
                "IndexProcess.data_file is empty; it lists the gallery, one `path<delimiter>label` per "
                "line: -o IndexProcess.data_file=LIST"
            )
        return read_list(self.index.data_file, self.index.image_root, self.index.delimiter)

    def _open(self) -> GalleryReader:
        """Without its index, which may be gigabytes: nothing is searched here."""
        return open_reader(self.index_dir, delimiter=self.index.delimiter, load_index=False)

    def _remove(self, entries: Sequence[Entry], writer: GalleryWriter) -> None:
        unwanted = {(entry.image, entry.label) for entry in entries}
        change = writer.begin()
        change.remove([item.id for item in self._open().items() if (item.image, item.label) in unwanted])
        self.report.removed = change.commit().removed

    def _add(self, entries: Sequence[Entry], writer: GalleryWriter, progress: Progress) -> None:
        models = self._models or Models.open(self.config)
        rec, index = models.rec, self.index
        if rec.dimension != index.embedding_size:
            raise ConfigError(
                f"IndexProcess.embedding_size is {index.embedding_size}, the vectors of {rec.model.path} have "
                f"{rec.dimension}; add -o IndexProcess.embedding_size={rec.dimension}"
            )
        facts = new_facts(
            rec.dimension,
            index.dist_type,
            index.index_method,
            rec.fingerprint,
            rec.model.name,
            settings=settings_to_keep(self.config),
            memory_limit=int((index.memory_limit or 0) * 1e9),
        )
        known: Labels | None = None
        if index.index_operation == "append":
            gallery = self._open()
            gallery.facts.check_fits(
                gallery.url,
                fingerprint=facts.fingerprint,
                dimension=facts.dimension,
                dist_type=facts.dist_type,
                apart=rec.apart,
            )
            known = _labels(gallery)
        change = writer.begin(facts if known is None else None)
        measure = facts.measure
        width, dtype = measure.width(facts.dimension), measure.dtype.name
        with Staging(writer.staging, key=f"{models.key} {index.crop}", width=width, dtype=dtype) as staging:
            outcomes = self._embed(entries, models, staging, frozenset(known or ()), progress)
            rows, items = self._collect(entries, outcomes, known)
            if not items and known is None:
                raise GalleryError(
                    f"no image could be indexed, the gallery is left as it was. {self._reasons()}. "
                    "Mend them, or list others"
                )
            change.add(_rows_of(staging.vectors(), rows), items, made_by=facts)
            change.commit()
            staging.delete()
        self.report.indexed = len(items)

    def _embed(
        self, entries: Sequence[Entry], models: Models, staging: Staging, known: frozenset[str], progress: Progress
    ) -> list[_Outcome]:
        """What is not staged yet goes to the executor; outcomes in the order of the entries."""
        identities = list(map_ahead(lambda entry: self._source.identity(entry.path), entries, STATS_AHEAD))
        self._check_loss(entries, identities)
        staged = [staging.get(identity) for identity in identities]
        fresh = [entry for entry, found in zip(entries, staged, strict=True) if found is None]
        progress(len(entries) - len(fresh))
        made = self._executor(models).map(fresh, self._source, Spec(self.config, known))
        outcomes = []
        for found in staged:
            if found is not None:
                outcomes.append(_Outcome(found, resumed=True))
                continue
            outcomes.append(_staged(next(made), staging))
            progress(1)
        next(made, None)  # there is none: its executor clears up
        return outcomes

    def _collect(
        self, entries: Sequence[Entry], outcomes: Sequence[_Outcome], known: Labels | None
    ) -> tuple[list[int], list[Item]]:
        """Rows of the staged vectors and their items, in the order of the list; `known`: the labels by content."""
        rows: list[int] = []
        items: list[Item] = []
        seen: Labels = {}
        for entry, outcome in zip(entries, outcomes, strict=True):
            staged = outcome.staged
            if staged is None:
                self._count_failure(entry, outcome)
                continue
            if known is not None and (labels := known.get(staged.sha256) or seen.get(staged.sha256)):
                self.report.already_there += 1
                if entry.label not in labels:
                    self.report.relabel.append(entry.image)
                continue
            before = seen.get(staged.sha256, ())
            if before and entry.label not in before:
                self.report.contradicting.append(f"{entry.path} is listed as {entry.label}, and as {before[0]}")
            seen[staged.sha256] = (*before, entry.label)
            self.report.images += 1
            self.report.resumed += outcome.resumed
            for number, box in enumerate(staged.boxes):
                rows.append(staged.start + number)
                items.append(Item(entry.label, entry.image, staged.sha256, box))
        return rows, items

    def _count_failure(self, entry: Entry, outcome: _Outcome) -> None:
        if outcome.missing and self.skip_missing:
            self.report.missing += 1
        else:
            self.report.failed.append((entry.path, outcome.error))

    def _reasons(self) -> str:
        failed = self.report.failed[:3]
        return "; ".join(reason if path in reason else f"{path}: {reason}" for path, reason in failed)


def _staged(made: Embedded, staging: Staging) -> _Outcome:
    if made.error:
        return _Outcome(None, error=made.error, missing=made.missing)
    if made.vectors is None:  # the gallery has it
        return _Outcome(Staged(made.sha256, -1, ()))
    return _Outcome(staging.add(made.identity, made.sha256, made.boxes, made.vectors), resumed=made.resumed)


def _labels(gallery: GalleryReader) -> Labels:
    """The labels under which an image of some content is there, by its sha256."""
    found: Labels = {}
    for item in gallery.items():
        if item.sha256:
            found[item.sha256] = (*found.get(item.sha256, ()), item.label)
    return found


def _rows_of(staged: NDArray[np.generic], rows: list[int]) -> NDArray[np.generic]:
    """`staged[rows]`, not copied where that is all of them."""
    return staged if np.array_equal(rows, np.arange(len(staged))) else staged[np.asarray(rows, np.int64)]
