"""Tracks: boxes of successive frames that overlap are one thing, whose name several frames have to agree on."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shitu.images.boxes import iou_matrix
from shitu.images.read import Picture
from shitu.results import Box, Region

OVERLAP = 0.3  # IoU from which boxes of successive frames are one thing, as in SORT (Bewley 2016)
CHANGED = 10.0  # of 255: mean difference of 16 x 16 thumbnails from which a crop is embedded again
_THUMBNAIL = (16, 16)


@dataclass(eq=False)
class Track:
    """One thing: where it was last seen, what the last frames called it, and the name that it has by now."""

    number: int
    box: Box
    votes: deque[str | None]
    region: Region | None = None  # what the last embedding of it found
    name: str | None = None
    missed: int = 0  # frames since it was seen
    thumbnail: NDArray[np.float32] = field(default_factory=lambda: np.full(_THUMBNAIL, -999, np.float32))

    def changed(self, image: Picture) -> bool:
        """Whether it looks unlike it did when this was last true."""
        left, top, right, bottom = self.box
        crop = Image.fromarray(image[top:bottom, left:right]).resize(_THUMBNAIL, Image.Resampling.BOX, reducing_gap=2)
        now = np.asarray(crop.convert("L"), np.float32)
        if np.abs(now - self.thumbnail).mean() <= CHANGED:
            return False
        self.thumbnail = now
        return True


class Tracks:
    """All that is in view. A name needs `agree` = (m, n): m of a track's last n frames."""

    def __init__(self, agree: tuple[int, int]) -> None:
        self.agree = agree
        self.live: list[Track] = []
        self.count = 0  # of all that ever were

    def follow(self, boxes: Sequence[Box]) -> list[Track]:
        """The track of each box, greatest overlap first; new ones where none overlaps enough.

        What has not been seen for n frames is forgotten.
        """
        found: list[Track | None] = [None] * len(boxes)
        overlap = iou_matrix([track.box for track in self.live], boxes) if self.live and boxes else np.zeros((0, 0))
        for place in np.argsort(-overlap, axis=None, kind="stable"):
            row, column = divmod(int(place), len(boxes))
            if overlap[row, column] < OVERLAP:
                break
            if found[column] is None and self.live[row] not in found:
                found[column] = self.live[row]
        followed = [track or self._new(box) for track, box in zip(found, boxes, strict=True)]
        for track, box in zip(followed, boxes, strict=True):
            track.box, track.missed = box, -1
        for track in self.live:
            track.missed += 1
        self.live = [track for track in self.live if track.missed < self.agree[1]]
        return followed

    def vote(self, names: dict[int, str]) -> list[Track]:
        """Takes this frame's names by the tracks' numbers; returns the tracks that it gives a new name.

        A name that none of the last n frames has confirmed is forgotten.
        """
        renamed = []
        for track in self.live:
            label = names.get(track.number)
            track.votes.append(label)
            if track.name not in track.votes:
                track.name = None
            if label not in (None, track.name) and track.votes.count(label) >= self.agree[0]:
                track.name = label
                renamed.append(track)
        return renamed

    def _new(self, box: Box) -> Track:
        self.count += 1
        self.live.append(Track(self.count, box, deque(maxlen=self.agree[1])))
        return self.live[-1]
