"""Frames -> events: detect, follow, embed what is new or has changed, search, and tell when a thing has a name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from shitu.recognise.system import Recogniser
from shitu.results import Box, Recognition
from shitu.video.capture import Frame
from shitu.video.tracks import Tracks

AGREE = (3, 5)


@dataclass(frozen=True)
class Event:
    """At `t` seconds a track has got a name; `first`: the first time that anything has this one."""

    t: float
    track: int
    label: str
    first: bool
    score: float
    bbox: Box

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "t": round(self.t, 3), "score": round(self.score, 6), "bbox": list(self.bbox)}


@dataclass(frozen=True)
class Watched:
    """A frame, the things in it that have a name, and what was new; `embedded`: how many crops that took."""

    frame: Frame
    found: Recognition
    events: tuple[Event, ...]
    embedded: int

    @property
    def first(self) -> bool:
        """Whether a name is there for the first time."""
        return any(event.first for event in self.events)


def watch(
    recogniser: Recogniser, frames: Iterable[Frame], name: str, agree: tuple[int, int] = AGREE
) -> Iterator[Watched]:
    """Every frame, looked at. `name` is that of the video; a name needs m of a track's last n frames, `agree` = (m, n).

    What others add to the gallery is taken up. Raises GalleryError, EngineError.
    """
    tracks = Tracks(agree)
    known: set[str] = set()
    for frame in frames:
        now = recogniser.refreshed()
        anew = now is not recogniser
        recogniser = now
        image = frame.picture
        candidates = recogniser.candidates(image)
        followed = tracks.follow([each.bbox for each in candidates])
        stale = [place for place, track in enumerate(followed) if track.changed(image) or anew or not track.region]
        (matched,) = recogniser.match_candidates([image], [[candidates[place] for place in stale]])
        for place, region in zip(stale, matched.regions, strict=True):
            followed[place].region = region
        seen = [(track, replace(track.region, bbox=track.box)) for track in followed if track.region]
        chosen = {id(region) for region in recogniser.choose([region for _, region in seen])}
        told = [(track, region) for track, region in seen if id(region) in chosen]
        renamed = tracks.vote({track.number: region.label for track, region in told})
        events = []
        for track, region in told:
            if track in renamed:
                new = region.label not in known
                known.add(region.label)
                events.append(Event(frame.t, track.number, region.label, new, region.score, track.box))
        named = tuple(region for track, region in told if track.name == region.label)
        yield Watched(frame, Recognition(name, image.shape[1], image.shape[0], named), tuple(events), len(stale))
