"""What jobs do: import, compact, verify, and what is doubtful or seen in a gallery as a whole."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shitu.build.embed import Embedded, Models, Spec, embed_shard
from shitu.build.list_file import Entry
from shitu.build.source import Files
from shitu.errors import GalleryError, ImageError
from shitu.evaluation.gallery_map import NEIGHBOURS, doubt, flat, taken
from shitu.gallery.change import GalleryWriter
from shitu.gallery.duplicates import find_duplicates
from shitu.serve.galleries import Served
from shitu.serve.jobs import Job
from shitu.serve.service import Service
from shitu.serve.teaching import Learnt, Lesson, check_label, teach

MOST_TOLD = 1000
MOST_SPOTS = 20_000
SAME_PICTURE = 0.995  # the cosine, as for `shitu gallery dedup`
FAR_SHARE = 0.01  # of the entries: those furthest from any other of their label


def add_all(service: Service, gallery: Served, entries: Sequence[Entry], job: Job) -> dict[str, Any]:
    """All that can be read, in one change; called off, nothing is changed."""
    for entry in entries:
        check_label(entry.label)
    recogniser = gallery.recogniser()
    crop = gallery.config.IndexProcess.crop
    models = Models(recogniser.rec_predictor, None if crop == "none" else recogniser.det_predictor)
    job.total = len(entries)
    made: list[tuple[Entry, Embedded]] = []
    failed: list[dict[str, str]] = []
    done = embed_shard(entries, Files(), Spec(gallery.config), models)
    for entry, each in zip(entries, done, strict=True):
        job.progress()
        if each.error:
            failed.append({"image": entry.image, "error": service.told(each.error.replace(entry.path, entry.image))})
        else:
            made.append((entry, each))
    if not made:
        raise ImageError(f"none of {len(entries)} pictures could be read: {failed[0]['error'] if failed else 'none'}")

    def work(writer: GalleryWriter) -> Learnt:
        lessons = []
        for entry, each in made:
            job.progress(0)
            assert each.vectors is not None
            lessons.append(Lesson(Path(entry.path), each.sha256, entry.label, each.boxes, each.vectors))
        return teach(gallery, lessons, move=False)(writer)

    def note(learnt: Learnt) -> tuple[str, dict[str, Any], str] | None:
        ids = learnt.ids
        return ("import", {"ids": [ids[0], ids[-1]], "count": len(ids), "job": job.id}, job.by) if ids else None

    learnt = service.changing(gallery, work, note).result()
    told = {"added": len(learnt.ids), "already_there": learnt.already_there, "entries": learnt.entries}
    told |= {"other_label": learnt.relabelled}
    return told | {"failed": failed[:MOST_TOLD], "failed_count": len(failed)}


def compact(service: Service, gallery: Served, job: Job) -> dict[str, Any]:
    """What was removed leaves the disk, photos included; then nothing can be undone."""

    def work(writer: GalleryWriter) -> dict[str, Any]:
        before = gallery.reader().info().get("bytes")
        writer.compact()
        reader = gallery.reader()

        def wanted(sha256s: list[str]) -> set[str]:
            return {item.sha256 for item in reader.lookup(reader.find(sha256s=sha256s)).values()}

        removed = gallery.photos.clear(wanted)
        told = {"entries": len(reader), "bytes_before": before, "bytes": reader.info().get("bytes")}
        return told | {"photos_removed": removed}

    found: dict[str, Any] = service.changing(gallery, work, lambda told: ("compact", {"job": job.id}, job.by)).result()
    return found


def verify(service: Service, gallery: Served, job: Job) -> dict[str, Any]:
    """As `shitu gallery verify`; and which photos that taught are not what they were."""
    reader = gallery.reader()
    problems = [service.told(each) for each in reader.verify()]
    files = gallery.photos.files()
    job.total = len(files)
    for path in files:
        job.progress()
        if hashlib.sha256(path.read_bytes()).hexdigest() != path.name.partition(".")[0]:
            problems.append(f"{path.parent.name}/{path.name}: the photo has changed; remove its entries")
    unchecked = [service.told(each) for each in reader.unchecked()]
    return {"sound": not problems, "problems": problems[:MOST_TOLD], "unchecked": unchecked, "photos": len(files)}


def doubtful(gallery: Served, job: Job) -> dict[str, Any]:
    """Entries nearest to another label, pictures that are there twice, and entries far from all of their label."""
    reader = gallery.reader()
    job.total = 2 * len(reader)
    found: dict[int, dict[str, Any]] = {}
    nearest: list[tuple[float, int, int]] = []
    sign = reader.facts.measure.sign
    for ids, vectors in reader.blocks():
        near = reader.search(vectors, NEIGHBOURS)
        items = reader.lookup({*ids.tolist(), *(match.id for matches in near for match in matches)})
        for number, matches in zip(ids.tolist(), near, strict=True):
            item, other = items[number], doubt(items[number], matches, items)
            if other is not None:
                kept = {"other_id": other.id, "other_label": other.label, "score": round(other.score, 6)}
                found[number] = {"id": number, "label": item.label, "kind": "other_label", **kept}
            own = [match for match in matches if match.label == item.label and match.id != number]
            if own:
                nearest.append((sign * own[0].score, number, own[0].id))
        job.progress(len(ids))
    for pair in find_duplicates(reader, SAME_PICTURE):
        number, of = pair.item.id, pair.of
        kept = {"other_id": of.id, "other_label": of.label, "score": pair.cosine}
        found.setdefault(number, {"id": number, "label": pair.item.label, "kind": "duplicate", **kept})
    job.progress(len(reader))
    nearest.sort()
    for score, number, other_id in nearest[: int(len(nearest) * FAR_SHARE)]:
        label = reader.lookup([number])[number].label
        kept = {"other_id": other_id, "other_label": label, "score": round(sign * score, 6)}
        found.setdefault(number, {"id": number, "label": label, "kind": "outlier", **kept})
    told = sorted(found.values(), key=lambda each: each["id"])
    return {"doubtful": told[:MOST_TOLD], "count": len(told)}


def spots(gallery: Served, most: int, job: Job) -> dict[str, Any]:
    """The gallery in two dimensions, x and y from 0 to 1: by principal components, as `shitu gallery map` has it."""
    reader = gallery.reader()
    if not len(reader):
        raise GalleryError(f"the gallery {gallery.name} has no entries: there is nothing to show")
    chosen = np.unique(np.linspace(0, len(reader) - 1, min(most, len(reader))).astype(np.int64))
    ids, vectors = taken(reader, chosen)
    job.total = len(ids)
    places = flat(reader, vectors)
    told = []
    for start in range(0, len(ids), 1000):
        part = slice(start, start + 1000)
        near = reader.search(vectors[part], NEIGHBOURS)
        items = reader.lookup({*ids[part].tolist(), *(match.id for matches in near for match in matches)})
        for number, (x, y), matches in zip(ids[part].tolist(), places[part].tolist(), near, strict=True):
            item = items[number]
            spot = {"id": number, "label": item.label, "x": round(x, 5), "y": round(y, 5)}
            told.append(spot | {"doubtful": doubt(item, matches, items) is not None})
        job.progress(len(ids[part]))
    return {"spots": told, "entries": len(reader)}
