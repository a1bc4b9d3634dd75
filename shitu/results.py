"""The records that the stations of the pipeline pass on.

Boxes are `xyxy`: left, top, right, bottom in pixels of the upright image, right and bottom exclusive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Detection:
    """One object found: `bbox` inside the image, at least 1x1 pixel; `score` in 0..1."""

    bbox: Box
    score: float
    class_id: int = 0
    label: str = "foreground"

    def to_dict(self) -> dict[str, Any]:
        return {"bbox": list(self.bbox), "det_score": round(self.score, 6)}


@dataclass(frozen=True)
class Match:
    """One gallery entry near a query.

    `score` is the cosine similarity for IP (greater is nearer), the squared distance for L2 and the number of
    differing bits for hamming (smaller is nearer).
    """

    label: str
    score: float
    id: int
    image: str

    def to_dict(self) -> dict[str, Any]:
        return {"label": self.label, "score": round(self.score, 6), "id": self.id, "image": self.image}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Match:
        return cls(told["label"], told["score"], told["id"], told["image"])


@dataclass(frozen=True)
class Region:
    """A part of an image that was recognised; `matches` has at least one entry, nearest first.

    `chosen` is the place of the match that names it: 0, unless a vote chose another label than the nearest's.
    """

    bbox: Box
    det_score: float
    matches: tuple[Match, ...]
    chosen: int = 0

    @property
    def label(self) -> str:
        return self.matches[self.chosen].label

    @property
    def score(self) -> float:
        return self.matches[self.chosen].score

    def to_dict(self) -> dict[str, Any]:
        """PaddleClas's keys `bbox`, `rec_docs`, `rec_scores`, and ours."""
        return {
            "bbox": list(self.bbox),
            "rec_docs": self.label,
            "rec_scores": round(self.score, 6),
            **self.unnamed_dict(),
        }

    def unnamed_dict(self) -> dict[str, Any]:
        """The same of an object without a name."""
        matches = [match.to_dict() for match in self.matches]
        return {"bbox": list(self.bbox), "det_score": round(self.det_score, 6), "matches": matches}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Region:
        """Of either; the first match of its label is the one that names it."""
        left, top, right, bottom = told["bbox"]
        matches = tuple(map(Match.from_dict, told["matches"]))
        label = told.get("rec_docs")
        chosen = next((place for place, match in enumerate(matches) if match.label == label), 0)
        return cls((left, top, right, bottom), told["det_score"], matches, chosen)


@dataclass(frozen=True)
class ImageResult:
    """What is told of one image, by its name; no region is a result too. `error` is set where the image failed."""

    image: str
    width: int = 0
    height: int = 0
    regions: tuple[Region | Detection, ...] = ()
    error: str | None = None

    def to_dict(self, unnamed: bool = False) -> dict[str, Any]:
        """Ready for JSON; `unnamed`: with the objects that have no name, where these are known."""
        told: dict[str, Any] = {"image": self.image, "width": self.width, "height": self.height}
        told["regions"] = [region.to_dict() for region in self.regions]
        return told if self.error is None else told | {"error": self.error}


@dataclass(frozen=True)
class Recognition(ImageResult):
    """What was recognised in one image; `unnamed` are objects of which no match is near enough, the surest first."""

    regions: tuple[Region, ...] = ()
    unnamed: tuple[Region, ...] = ()  # which may have no match, in an empty gallery

    def to_dict(self, unnamed: bool = False) -> dict[str, Any]:
        told = [each.unnamed_dict() for each in self.unnamed]
        return super().to_dict() | ({"unnamed": told} if unnamed else {})

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Recognition:
        """What `to_dict` told, to six digits. Raises KeyError, TypeError, ValueError for anything else."""
        regions, unnamed = (tuple(map(Region.from_dict, told.get(key, ()))) for key in ("regions", "unnamed"))
        return cls(told["image"], told["width"], told["height"], regions, told.get("error"), unnamed)


@dataclass(frozen=True)
class DetectedObjects(ImageResult):
    """What the detector alone found in one image."""

    regions: tuple[Detection, ...] = ()
