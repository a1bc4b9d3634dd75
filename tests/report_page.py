"""A small evaluation with pictures, made by hand, and readers of the page that is written of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from shitu.evaluation.evaluate import Evaluation
from shitu.evaluation.figures import at_threshold, confusions, hit, per_class, share
from shitu.evaluation.open_set import mean_interval, measure_open_set
from shitu.evaluation.queries import Query
from shitu.evaluation.report import write_report
from shitu.evaluation.settings import Answer, Settings
from shitu.gallery import Item
from shitu.gallery.gallery import Gallery
from shitu.results import Box, Match, Region

SCRIPT = "<script>alert(1)</script>"
QUOTES = "\"'><img src=x onerror=alert(2)> $title ${json}"
COLA = "可口可乐 500 ml"
PLAIN = "tea"
LABELS = (SCRIPT, QUOTES, COLA, PLAIN)
UNKNOWN = "</pre><script>unknown & \x07 ]]>"
SETTINGS = Settings(0.2, 5, "fallback", 0.05, 0.5, "IP", 100)


def make_gallery(folder: Path, labels: Sequence[str] = LABELS) -> Path:
    """A gallery of one entry per label, id 0 first, the pictures 0.png ... lying in `folder`."""
    for number in range(len(labels)):
        Image.new("RGB", (300, 200), (40 * number, 90, 200)).save(folder / f"{number}.png")
    items = [Item(label, f"{number}.png") for number, label in enumerate(labels)]
    vectors = np.eye(len(labels), 8, dtype=np.float32)
    Gallery.create(
        folder / "index", vectors, items, index_method="Flat", dist_type="IP", fingerprint="f", model_name="m"
    ).close()
    return folder / "index"


def make_answer(
    label: str,
    ranking: Sequence[tuple[str, float]],
    *,
    path: str = "photo.jpg",
    box: Box = (10, 20, 60, 90),
    known: bool = True,
    line: int = 1,
    sign: float = 1.0,
    error: str | None = None,
) -> Answer:
    """The answer of one region; `ranking` holds (label, the gallery's score), the entry is the label's place."""
    matches = tuple(Match(name, score, LABELS.index(name), f"{LABELS.index(name)}.png") for name, score in ranking)
    regions = (Region(box, 0.9, matches),) if matches else ()
    score = sign * ranking[0][1] if ranking else -np.inf
    right = bool(ranking) and ranking[0][0] == label
    return Answer(Query(path, path, label, None, line), known, regions, matches, score, score - 0.1, right, error)


def make_evaluation(answers: Sequence[Answer], index: Path, settings: Settings = SETTINGS) -> Evaluation:
    """What `evaluate` makes of these answers."""
    asked = [one for one in answers if one.error is None]
    known, unknown = [one for one in asked if one.known], [one for one in asked if not one.known]
    scores = np.array([one.score for one in known])
    others = np.array([one.score for one in unknown] or [one.hidden_score for one in known])
    right = np.array([one.right for one in known])
    return Evaluation(
        config_source="configs/<b>.yaml",
        detector="on",
        settings=settings,
        gallery={"path": str(index), "entries": len(LABELS), "labels": len(LABELS), "model": "m<i>"},
        queries=len(answers),
        known=len(known),
        unknown=len(unknown),
        failed=len(answers) - len(asked),
        not_found=sum(not one.regions for one in known),
        in_gallery=0,
        leave_one_out=False,
        recall={k: share(known, lambda one, k=k: hit(one, k)) for k in (1, 5)},
        recall_interval=mean_interval(np.array([hit(one, 1) for one in known])),
        mean_average_precision=None,
        per_class=per_class(known, None, settings, dict.fromkeys([*LABELS, *(one.query.label for one in known)], 1)),
        confusions=confusions(known),
        at_threshold=at_threshold(known, others.tolist(), settings),
        open_set=measure_open_set(scores, right, others, hidden=not unknown, false_accepts=(0.01, 0.1)),
        known_scores=scores[right & np.isfinite(scores)],
        wrong_scores=scores[~right & np.isfinite(scores)],
        unknown_scores=others[np.isfinite(others)],
        answers=tuple(answers),
    )


@dataclass
class Page(HTMLParser):
    """The tags of a page, its attributes and its text; AssertionError where tags are not nested."""

    html: str
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.feed(self.html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)

    def of(self, name: str, style: str | None = None) -> list[dict[str, str | None]]:
        """The attributes of the elements of a name, and of a class if one is given."""
        return [each for tag, each in self.tags if tag == name and (style is None or each.get("class") == style)]

    def drawings(self) -> Iterator[ElementTree.Element]:
        """Every SVG, read as XML."""
        return map(ElementTree.fromstring, re.findall(r"<svg.*?</svg>", self.html, re.DOTALL))


def make_files(tmp_path: Path) -> Path:
    """A gallery, and photo.jpg of 120 x 100 that is stored lying on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 120), (20, 160, 60)).save(tmp_path / "photo.jpg", exif=exif, quality=95)
    return make_gallery(tmp_path)


def make_answers() -> list[Answer]:
    """Two wrong, one of them near enough; one unknown named, one not; one right but far; one not found; one right."""
    return [
        make_answer(SCRIPT, [(QUOTES, 0.8), (SCRIPT, 0.7)], line=1),
        make_answer(COLA, [(PLAIN, 0.3)], line=2),
        make_answer(UNKNOWN, [(COLA, 0.75)], known=False, line=3),
        make_answer(UNKNOWN, [(COLA, 0.2)], known=False, line=4),
        make_answer(COLA, [(COLA, 0.4)], line=5),
        make_answer(PLAIN, [], line=6),
        make_answer(PLAIN, [(PLAIN, 0.9), (COLA, 0.1)], line=7),
        make_answer(PLAIN, [], line=8, error="photo.jpg: damaged"),
    ]


def written(index: Path, answers: list[Answer], **options: object) -> Page:
    evaluation = make_evaluation(answers, index)
    write_report(evaluation, Path("out.html"), image_root=str(index.parent), **options)  # type: ignore[arg-type]
    return Page(Path("out.html").read_text(encoding="utf-8"))
