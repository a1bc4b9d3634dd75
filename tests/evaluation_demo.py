"""What the tests of the evaluation share: galleries of a few demo pictures, and questions about demo photos."""

from __future__ import annotations

from pathlib import Path

from shitu.build.builder import GalleryBuilder
from shitu.config import Config, load_config
from shitu.evaluation.queries import Query, read_queries
from tests.conftest import DEMO, index_overrides

LABELS = ("bucket", "crab", "ring buoy", "sailboat", "turtle", "banana", "camera", "laptop", "headphone")
NEAR = {"IP": -1.0, "L2": 9.0}  # accepts everything


def build_galleries(folder: Path) -> dict[str, Config]:
    """27 demo pictures, 9 classes by 3 makers, for each kind of distance."""
    lines = (DEMO / "gallery.txt").read_text(encoding="utf-8").splitlines()
    chosen = [f"{line}\n" for line in lines if line.split("\t")[1] in LABELS]
    (folder / "list.txt").write_text("".join(chosen), encoding="utf-8")
    configs = {}
    for dist_type in ("IP", "L2", "hamming"):
        more = {"dist_type": dist_type, "score_thres": NEAR.get(dist_type, 0.5), "hamming_radius": 999}
        overrides = index_overrides(folder / "list.txt", folder / dist_type, index_method="Flat", **more)
        configs[dist_type] = load_config(None, [*overrides, "Global.use_gpu=False"])
        GalleryBuilder(configs[dist_type]).run()
    return configs


def demo_queries(*photos: str) -> list[Query]:
    """The objects of those photos, or of all, with their boxes."""
    found = read_queries(DEMO / "photos.txt", DEMO, "\t")
    return [query for query in found if not photos or Path(query.image).stem in photos]
