"""What int8 costs a model: its vectors or boxes beside those of fp32, and both beside what people say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shitu.convert.agree import cosines
from shitu.convert.quantize_boxes import agreement, precision_and_recall
from shitu.convert.quantize_onnx import Feeds
from shitu.engines.base import Session
from shitu.errors import UsageError
from shitu.recognise.decode import Decode

LOOKED_AT = 16  # photos on which a layer's share of the error is measured
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Verdict:
    """`agreement` with fp32, as the card states it; `figures`: name -> (fp32, int8); `drop`: points lost."""

    agreement: float
    figures: dict[str, tuple[float, float]] = field(default_factory=dict)
    drop: float | None = None


class Judge(Protocol):
    """Looks at one int8 program after the other."""

    def error(self, session: Session) -> float:
        """How far the outputs are from those of fp32, as a share of their length, on a few photos."""

    def judge(self, session: Session) -> Verdict: ...


class Outputs:
    """The error of raw outputs, for both kinds of models."""

    def __init__(self, feeds: Sequence[Feeds], fp32: Session) -> None:
        self._few = feeds[:: max(1, len(feeds) // LOOKED_AT)][:LOOKED_AT]
        self._wanted = [run(fp32, each) for each in self._few]

    def error(self, session: Session) -> float:
        shares = []
        for feed, wanted in zip(self._few, self._wanted, strict=True):
            for one, other in zip(run(session, feed), wanted, strict=True):
                shares.append(np.linalg.norm(one - other) / max(float(np.linalg.norm(other)), 1e-12))
        return float(np.mean(shares))


class RecogniserJudge(Outputs):
    """`feeds` and `labels`, photo by photo; `queries`: which of them ask, the others being the gallery.

    All ask and each is left out of its own gallery where `queries` is None. Without labels only vectors are compared.
    """

    def __init__(
        self, feeds: Sequence[Feeds], fp32: Session, labels: Sequence[str], queries: Sequence[bool] | None = None
    ) -> None:
        super().__init__(feeds, fp32)
        self._feeds, self._labels = feeds, np.asarray(labels, object)
        ask = np.ones(len(feeds), bool) if queries is None else np.asarray(queries, bool)
        self._alone = queries is None
        shelf = ask if self._alone else ~ask
        counts = {label: int((self._labels[shelf] == label).sum()) for label in set(labels)}
        least = 1 + self._alone
        self._known = ask & np.array([bool(label) and counts[label] >= least for label in labels], bool)
        self._shelf = shelf
        self._theirs = self._vectors(fp32)

    @property
    def asked(self) -> int:
        """How many photos have an answer among the others."""
        return int(self._known.sum())

    def check_asked(self, where: str) -> None:
        """UsageError where no photo has an answer."""
        if not self.asked:
            raise UsageError(
                f"{where}: no photo shows what another one shows, so Recall@1 cannot be measured and --max-drop says "
                "nothing; give --query and --gallery lists with labels in common, or leave --max-drop out"
            )

    def judge(self, session: Session) -> Verdict:
        ours = self._vectors(session)
        close = float(cosines(self._theirs, ours).min())
        if not self.asked:
            return Verdict(close)
        fp32, int8 = self._recall(self._theirs, self._theirs), self._recall(ours, ours)
        mixed = self._recall(ours, self._theirs)
        figures = {"Recall@1": (fp32, int8), "Recall@1, gallery of fp32 vectors": (fp32, mixed)}
        return Verdict(close, figures, 100 * (fp32 - min(int8, mixed)))

    def _vectors(self, session: Session) -> Floats:
        found = np.concatenate([run(session, feed)[0].reshape(1, -1) for feed in self._feeds])
        return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12), np.float32)

    def _recall(self, asking: Floats, shelf: Floats) -> float:
        scores = asking[self._known] @ shelf[self._shelf].T
        if self._alone:  # asking and shelf are the same photos
            scores[np.arange(len(scores)), np.flatnonzero(self._known)] = -np.inf
        nearest = self._labels[self._shelf][scores.argmax(axis=1)]
        return float((nearest == self._labels[self._known]).mean())


class DetectorJudge(Outputs):
    """`truth`: for each photo its boxes (n, 4) xyxy, or None where nobody drew any."""

    def __init__(
        self, feeds: Sequence[Feeds], fp32: Session, decode: Decode, truth: Sequence[NDArray[np.float64]] | None
    ) -> None:
        super().__init__(feeds, fp32)
        self._feeds, self._decode, self._truth = feeds, decode, truth
        self._theirs = self._rows(fp32)

    def judge(self, session: Session) -> Verdict:
        ours = self._rows(session)
        close = agreement(self._theirs, ours)
        if self._truth is None:
            return Verdict(close)
        before, after = (precision_and_recall(rows, self._truth) for rows in (self._theirs, ours))
        figures = {"AP": (before[0], after[0]), "recall of the ten best boxes": (before[1], after[1])}
        return Verdict(close, figures, 100 * (before[0] - after[0]))

    def _rows(self, session: Session) -> list[Floats]:
        return [self._decode(run(session, feed)) for feed in self._feeds]


def run(session: Session, feeds: Feeds) -> list[Floats]:
    return session.run({name: feeds[name] for name in session.input_names})
