"""`shitu eval --report`: the hardest pairs of an evaluation, with their pictures, and the spread of similarities."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from shitu.errors import ImageError, UsageError
from shitu.evaluation import pairs_report
from shitu.evaluation.pairs_report import write_pairs
from shitu.evaluation.report import check_report_path
from shitu.evaluation.report_pictures import Shown, shown, shrink
from shitu.training.rec import eval_lists
from shitu.training.rec.eval_lists import ClassSet, EvalSet
from shitu.training.rec.hard_pairs import alike, compare_all, misled
from shitu.training.rec.retrieval import Embedded
from shitu.training.rec.schema import TrainConfig

SHOWN = 24  # of each kind of pairs


def report_of(lists: EvalSet | ClassSet, path: Path, config: TrainConfig) -> PairsReport:
    """Raises UsageError where no report can be written to `path`, or of these lists."""
    check_report_path(path)
    if isinstance(lists, ClassSet):
        raise UsageError("--report shows pairs of queries and gallery, and this config has DataLoader.Eval.dataset")
    title = f"{config.source} with {config.Global.pretrained_model or 'its own start weights'}"
    return PairsReport(lists, path, title, block=config.Global.sim_block_size)


class PairsReport:
    """Is handed the vectors of an evaluation (`look`), and writes the page once its metrics are known."""

    def __init__(self, lists: EvalSet, path: Path, title: str, *, block: int) -> None:
        self.lists, self.path, self.title, self.block = lists, path, title, block

    def look(self, queries: Embedded, gallery: Embedded) -> None:
        self.queries, self.gallery = queries, gallery

    def write(self, metrics: Mapping[str, str]) -> None:
        """Raises ShituError where the page cannot be written."""
        queries, gallery = self.queries, self.gallery
        assert queries.index is not None
        assert gallery.index is not None
        found, spread = compare_all(queries, gallery, block=self.block)
        one_list = self.lists.gallery is self.lists.queries
        pairs = alike(found, SHOWN, queries.index, gallery.index, one_list=one_list)

        def query(row: int) -> pairs_report.Side:
            return _side(self.lists.queries, queries.index, row)

        def nearest(rows: np.ndarray, similarity: np.ndarray, row: int) -> pairs_report.Side:
            return _side(self.lists.gallery, gallery.index, int(rows[row]), float(similarity[row]))

        write_pairs(
            self.path,
            title=self.title,
            metrics=metrics,
            edges=spread.edges,
            counts=[("right", "pairs of one thing", spread.like), ("wrong", "pairs of two things", spread.unlike)],
            misled=[
                (
                    query(row),
                    nearest(found.same, found.same_similarity, row),
                    nearest(found.other, found.other_similarity, row),
                )
                for row in misled(found, SHOWN).tolist()
            ],
            alike=[(query(row), nearest(found.other, found.other_similarity, row)) for row in pairs.tolist()],
        )


def _side(
    side: eval_lists.Side, index: np.ndarray | None, row: int, similarity: float | None = None
) -> pairs_report.Side:
    assert index is not None
    entry, images = int(index[row]), side.images
    label, path = str(images.original_labels[images.labels[entry]]), images.path(entry)
    try:
        picture = shown(shrink(images.read(entry)), f"{label}, {path}")
    except ImageError:
        picture = Shown(path=path)
    return pairs_report.Side(picture, label, similarity)
