"""Where the numbers of a run go: metrics.jsonl, curves.png and, where wanted, VisualDL."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from shitu.train.curves import draw_curves
from shitu.train.metrics_log import MetricsLog, visualdl_writer


class RunLog:
    """Records of one run; `visualdl` writes them to folder/vdl too."""

    def __init__(self, folder: Path, *, visualdl: bool) -> None:
        self.path, self.picture = folder / "metrics.jsonl", folder / "curves.png"
        self.metrics = MetricsLog(self.path)
        self.visualdl = visualdl_writer(folder / "vdl") if visualdl else None

    def write(self, record: Mapping[str, float]) -> None:
        """A record with `epoch` and `step`."""
        self.metrics.write(record)
        if self.visualdl:
            for name, value in record.items():
                if name not in ("epoch", "step"):
                    self.visualdl.add_scalar(name, value, int(record["step"]))

    def drop_after(self, step: int) -> None:
        """Forget what a run did after the step from which it now goes on."""
        self.metrics.drop_after(step)

    def draw(self) -> None:
        """The curves up to now."""
        draw_curves(self.path, self.picture)
