"""PaddleX's PP-ShiTuV2 pipeline behind the same pipe as workers.py; run by the Python of a venv that has paddlex[cv].

PYTHON benchmarks/paddlex_worker.py paddlex JOB.json
The folders of the models are copied with the inference.yml that PaddleX wants beside them. As in workers.py, the
detector runs, and boxes are put in place of its own; the whole photo is the sixth. Its index is PaddleClas's file.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK"] = "True"

import yaml

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
DETECTOR = {
    "Global": {"model_name": "PP-ShiTuV2_det"},
    "mode": "paddle",
    "draw_threshold": 0.5,
    "arch": "PicoDet",
    "label_list": ["foreground"],
    "Preprocess": [
        {"type": "Resize", "interp": 2, "keep_ratio": False, "target_size": [640, 640]},
        {"type": "NormalizeImage", "is_scale": True, "mean": MEAN, "std": STD},
        {"type": "Permute"},
    ],
}
RECOGNISER = {
    "Global": {"model_name": "PP-ShiTuV2_rec"},
    "PreProcess": {
        "transform_ops": [
            {"ResizeImage": {"size": [224, 224], "return_numpy": False, "interpolation": "bilinear", "backend": "cv2"}},
            {"NormalizeImage": {"scale": 1 / 255, "mean": MEAN, "std": STD, "order": "hwc"}},
            {"ToCHWImage": None},
        ]
    },
    "PostProcess": {"NormalizeFeatures": None},
}


class Flat:
    """A recogniser whose features come as (512,), as PaddleX's index wants them, and not as (1, 512)."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, images: Any) -> list[dict[str, Any]]:
        return [{"feature": each["feature"].ravel()} for each in self.model(images)]

    predict = __call__


class PaddleX:
    def __init__(self, job: dict[str, Any], scratch: Path) -> None:
        from paddlex import create_pipeline
        from paddlex.inference import PaddlePredictorOption, load_pipeline_config

        settings, self.job = job["overrides"], job
        config = load_pipeline_config("PP-ShiTuV2")
        for part, key, card in (("Detection", "det", DETECTOR), ("Recognition", "rec", RECOGNISER)):
            folder = scratch / key
            shutil.copytree(settings[f"Global.{key}_inference_model_dir"], folder)
            (folder / "inference.yml").write_text(yaml.safe_dump(card), encoding="utf-8")
            config["SubModules"][part]["model_dir"] = str(folder)
        config |= {"index": self.index(scratch), "rec_threshold": settings["IndexProcess.score_thres"]}
        option = PaddlePredictorOption(run_mode="mkldnn", cpu_threads=settings["Global.cpu_num_threads"])
        made = create_pipeline(config=config, device="cpu", pp_option=option)
        self.pipeline = getattr(made, "_pipeline", made)
        self.rows: list[list[float]] = []
        detect = self.pipeline.det_model
        # PaddleX feeds its detector two inputs; the program of PaddleClas wants the size, too.
        detect.pre_ops[-1] = type(detect.pre_ops[-1])(ordered_required_keys=("img_size", "img", "scale_factors"))
        self.pipeline.rec_model = Flat(self.pipeline.rec_model)
        self.pipeline.det_model = lambda images, **options: [
            {**found, "boxes": self.boxes(image)}
            for found, image in zip(detect(images, **options), images, strict=True)
        ]

    def index(self, scratch: Path) -> str:
        """PaddleClas's index with the map that PaddleX reads."""
        source, folder = Path(self.job["gallery"]), scratch / "index"
        folder.mkdir()
        shutil.copy(source / "vector.index", folder)
        with (source / "id_map.pkl").open("rb") as file:
            names = {int(number): str(name).split()[1] for number, name in pickle.load(file).items()}
        told = {"index_type": "HNSW32", "metric_type": "IP", "id_map": names}
        (folder / "id_map.yaml").write_text(yaml.safe_dump(told, allow_unicode=True), encoding="utf-8")
        return str(folder)

    def boxes(self, image: Any) -> list[dict[str, Any]]:
        rows = [*self.rows, [0, 1.0, 0, 0, image.shape[1], image.shape[0]]]
        return [{"cls_id": 0, "label": "foreground", "score": row[1], "coordinate": row[2:]} for row in rows]

    def run(self, path: str) -> list[Any]:
        (found,) = self.pipeline.predict(path)
        found.save_to_img(f"{self.job['out']}/paddlex-pictures/")
        named = [r for r in found["boxes"] if r["labels"] and r["labels"][0]]  # it drops none that overlap
        return [[[int(v) for v in r["coordinate"]], r["labels"][0], float(r["rec_scores"][0])] for r in named]

    def gallery(self, out: str) -> None:
        lines = Path(self.job["entries"]).read_text(encoding="utf-8").replace("\t", " ")
        data = Path(out).parent / "entries.txt"
        data.write_text(lines, encoding="utf-8")
        made = self.pipeline.build_index("/", str(data), metric_type="IP", index_type="HNSW32")
        made.save(out)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    job = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as scratch:
        side = PaddleX(job, Path(scratch))
        print(json.dumps("ready"), file=answers)
        for line in sys.stdin:
            path = line.strip()
            if path == "quit":
                break
            side.rows = job["rows"].get(path, job["grid"])
            start, busy, regions = time.perf_counter(), time.process_time(), []
            if path == "gallery":
                with tempfile.TemporaryDirectory() as out:
                    side.gallery(f"{out}/index")
            elif path == "folder":
                for each in job["folder"]:
                    side.run(each)
            else:
                regions = side.run(path)
            seconds = time.perf_counter() - start
            record = {"seconds": seconds, "processor": time.process_time() - busy}
            if path not in ("folder", "gallery"):
                record |= {"seconds": {"total": seconds}, "regions": regions}
            print(json.dumps(record), file=answers)


if __name__ == "__main__":
    main()
