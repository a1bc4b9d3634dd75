"""What each example of a help text promises: its output, and the files that are there afterwards."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shitu.config import load_config
from shitu.gallery.gallery import Gallery
from shitu.models.folder import open_folder

DETECTOR = "picodet_PPLCNet_x2_5_mainbody_lite_v1.0_infer"
CONFIG = "configs/det/picodet_lcnet_x1_0_320_mainbody.yml"
WEIGHTS = "configs/train/demo_cpu.yaml -o Global.pretrained_model=output/best_model"
PARTS = r"(scores|boxes) of the program with(out)? NMS and of [^\n]* apart\n"
LOADED = r"loaded 146 of 146 tensors from output/best_model.pdparams; only in the file: head.weight\n"
TAKEN_OUT = r"240 of 240 query images are in the gallery list, too; each is left out [^\n]*\n"
ALL_OK = "".join(
    f"{name}: ok\\n"
    for name in (
        "efficientnet_lite0_512",
        "picodet_efficientnet_lite0_mainbody",
        "picodet_lcnet_x1_0_mainbody",
        "pplcnetv2_base_512",
    )
)


@dataclass(frozen=True)
class Promise:
    """`out` and `err` are regular expressions for the whole of stdout and stderr. `files`: how many there are to a
    pattern; `lines`: how many a text has; `holds`: asserts whatever else must be true of the folder."""

    out: str = ""
    err: str = ""
    files: dict[str, int] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    holds: Callable[[Path], None] = lambda root: None

    def check(self, out: str, err: str, root: Path) -> None:
        assert re.fullmatch(self.out, out, re.DOTALL), out
        assert re.fullmatch(self.err, err, re.DOTALL), err
        for pattern, count in self.files.items():
            assert len(list(root.glob(pattern))) == count, pattern
        for name, count in self.lines.items():
            assert len((root / name).read_text(encoding="utf-8").splitlines()) == count, name
        self.holds(root)


def rows(*rows: str) -> str:
    """Lines of a table that follow each other, with any space between their columns; others may stand between."""
    return ".*" + ".*".join(r"\s+".join(map(re.escape, row.split())) for row in rows) + ".*"


def vectors(root: Path) -> None:
    found = np.load(root / "vectors.npy")
    assert found.shape == (80, 512)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def calibrated(root: Path) -> None:
    assert load_config(root / "my_config.yaml").IndexProcess.score_thres != load_config(None).IndexProcess.score_thres


def labels(folder: str, **counts: int) -> Callable[[Path], None]:
    """A gallery has so many entries of these labels."""

    def holds(root: Path) -> None:
        with Gallery.open(root / folder) as gallery:
            assert {name: len(gallery.find(labels=[name.replace("_", " ")])) for name in counts} == counts

    return holds


def foreground(file: str, images: int, boxes: int) -> Callable[[Path], None]:
    def holds(root: Path) -> None:
        found = json.loads((root / file).read_text(encoding="utf-8"))
        assert (len(found["images"]), len(found["annotations"])) == (images, boxes)
        assert [each["name"] for each in found["categories"]] == ["foreground"]

    return holds


def model(folder: str, task: str) -> Callable[[Path], None]:
    def holds(root: Path) -> None:
        assert open_folder(root / folder).card.task == task

    return holds


BEACH = (  # by their scores; crab and bucket are equally near
    r"(?=.*crab\s.*ring buoy)(?=.*bucket\s.*ring buoy)"
    + rows(*(f"demo/photos/beach.jpg {name}" for name in ("ring buoy", "turtle", "sailboat")))
)
FIGURES = (
    "queries 69: 58 known, 11 unknown, 0 failed",
    "gallery 480 entries, 80 labels",
    "Recall@1 0.9828",
    "AUROC 0.9",
)
VERSIONS = ("shitu", "Python", "cores", "CPU features", "paddlepaddle", "onnxruntime", "faiss-cpu", "numpy")
DOWNLOADED = rf"{re.escape(DETECTOR)}: downloaded to [^\n]*{re.escape(DETECTOR)}\n"
PROMISES = {
    "shitu predict -g my_gallery demo/photos/beach.jpg": Promise(
        r'\{"image": "demo/photos/beach.jpg", "width": 900, "height": 675, "regions": \[.*\}\n',
        r"1 image: \d objects? named, \d without a name; 1 annotated picture in ./output\n",
        {"output/beach.jpg": 1},
    ),
    "shitu build-gallery demo/gallery/google -g my_gallery": Promise(
        err=r"(As my_gallery was made: [^\n]*\n)?80 images indexed; my_gallery holds 80\.\n",
        holds=labels("my_gallery", banana=1),
    ),
    "shitu init -g my_gallery": Promise(
        err=r"Wrote shitu\.yaml; next: shitu predict PHOTOS\n", files={"shitu.yaml": 1}
    ),
    "shitu completion --shell bash": Promise(r"_shitu_completion\(\) \{\n.*complete .*_shitu_completion shitu\n.*\n"),
    "shitu build-gallery -c general": Promise(
        err=r"240 images indexed, 480 vectors; (\./)?output/demo_index holds 480\.\n",
        holds=labels("output/demo_index", broccoli=6),
    ),
    "shitu predict --format table demo/photos/beach.jpg": Promise(
        rows("image label score det x1 y1 x2 y2") + BEACH,
        r"1 image: 6 objects named, \d without a name; 1 annotated picture in ./output\n",
        {"output/beach.jpg": 1},
    ),
    "shitu predict-det --no-pictures demo/photos/beach.jpg": Promise(
        r'\{"image": "demo/photos/beach.jpg", .*"regions": \[(\{"bbox": [^}]*"det_score": [^}]*\}(, )?){7}\]\}\n',
        r"1 image: 7 objects found\n",
        files={"output/*.jpg": 0},
    ),
    "shitu predict-rec --npy vectors.npy demo/gallery/fluent": Promise(
        r"(demo/gallery/fluent/[^\n]*\n){80}", r"80 images embedded\n", holds=vectors
    ),
    "shitu evaluate --query demo/photos.txt --image-root demo --format table": Promise(rows(*FIGURES)),
    "shitu calibrate --query demo/photos.txt --false-accept 0.1 --write my_config.yaml --format table": Promise(
        rows("IndexProcess.score_thres 0.4", "config as it is 0.9828", "calibrated", "58 known queries, 11 unknown"),
        r"[^\n]*my_config.yaml: \d keys? changed\nNext: shitu predict -c my_config.yaml PHOTOS\n",
        holds=calibrated,
    ),
    "shitu benchmark --engine onnxruntime --rounds 1 --anyway --format table demo/photos/beach.jpg": Promise(
        rows("onnxruntime fp32", "ms: median, p90, share decode", "recogniser onnxruntime, fp32", "processor"),
        r"warming up \d variants?\nround 1 of 1\n(left out: [^\n]*\n)*",
    ),
    "shitu gallery info my_gallery": Promise(r'\{"path": "my_gallery", .*"entries": 24, "labels": 3, .*\}\n'),
    "shitu gallery append -g my_gallery --label 'beach' demo/photos/beach.jpg": Promise(
        err=r"(As my_gallery was made: [^\n]*\n)?1 image indexed; my_gallery holds 25\.\n",
        holds=labels("my_gallery", beach=1),
    ),
    "shitu gallery list my_gallery --format table": Promise(
        rows("thing pictures", "green tea 18"), r"24 pictures of 3 things in my_gallery\n"
    ),
    "shitu gallery compact my_gallery": Promise(
        r'\{"entries": 24, "bytes_before": \d+, "bytes": \d+\}\n', files={"my_gallery/gen-000003": 1}
    ),
    "shitu gallery export my_gallery --to for_paddleclas": Promise(
        r'\{"entries": 24, "to": "for_paddleclas", "format": "paddleclas"\}\n',
        r"Warning: PaddleClas cuts labels at the first blank; it will show 'ball of yarn' as 'ball'[^\n]*\n",
        files={"for_paddleclas/vector.index": 1, "for_paddleclas/id_map.pkl": 1},
    ),
    "shitu gallery export my_gallery --to for_paddlex --format paddlex": Promise(
        r'\{"entries": 24, "to": "for_paddlex", "format": "paddlex"\}\n',
        files={"for_paddlex/vector.index": 1, "for_paddlex/id_map.yaml": 1},
    ),
    "shitu gallery dedup my_gallery": Promise(
        r'(\{"id": [^\n]*\}\n)*\{"duplicates": \d+, "contradictions": \d+, "removed": 0, "entries": 24\}\n',
        r"(Nothing was removed; --remove removes [^\n]*\n)?",
    ),
    "shitu gallery dedup my_gallery --cosine 0.98 --remove": Promise(
        r'(\{"id": [^\n]*\}\n)*\{"duplicates": (\d+), "contradictions": \d+, "removed": \2, "entries": \d+\}\n'
    ),
    "shitu gallery map my_gallery --html map.html --image-root demo": Promise(
        r'\{"entries": 24, "shown": 24, "doubtful": \d+, "to": "map.html"\}\n', files={"map.html": 1}
    ),
    "shitu gallery copy my_gallery a_copy": Promise(
        r'\{"entries": 24, "resumed": 0, "checksum": "[0-9a-f]{16}", "from": "my_gallery", "to": "a_copy"\}\n',
        holds=labels("a_copy", green_tea=18),
    ),
    "shitu gallery tune my_gallery --recall 0.99": Promise(
        r'\{"exact": true, "recall": 1.0\}\n', "24 entries are compared exactly, which misses nothing.\n"
    ),
    "shitu gallery undo my_gallery": Promise(r'\{"entries_before": 24, "entries": 6\}\n'),
    "shitu gallery info my_gallery --format table": Promise(rows("path my_gallery", "entries 24", "labels 3")),
    "shitu gallery list my_gallery | grep '\"green tea\"'": Promise(r'(\{[^\n]*"label": "green tea"[^\n]*\}\n){18}'),
    "shitu gallery remove my_gallery --label 'green tea' --id 17": Promise(
        r'\{"removed": 18, "entries": 6, "unmatched": \[\]\}\n', holds=labels("my_gallery", green_tea=0)
    ),
    "shitu gallery remove my_gallery --list unwanted.txt": Promise(
        r'\{"removed": 1, "entries": 23, "unmatched": \[\]\}\n'
    ),
    "shitu gallery verify my_gallery": Promise(err=r"The gallery is sound\.\n"),
    "shitu models list": Promise(
        rows("name task size where licence dimension", "efficientnet_lite0_512 recognition 23.8 MB bundled", DETECTOR)
    ),
    f"shitu models download {DETECTOR}": Promise(DOWNLOADED),
    "shitu models list --format json": Promise(r'(\{"name": "[^\n]*\}\n){17}'),
    "shitu models convert efficientnet_lite0_512 --out output/models/efficientnet": Promise(
        r"output/models/efficientnet: has a program for onnxruntime and openvino now\n",
        r"converting \S+inference.json\nlargest difference of unit features: \d\.\de-0[67]\n0.0 MB, 0.0 MB [^\n]*\n",
        files={"output/models/efficientnet/inference.onnx": 1},
    ),
    "shitu models add clip.onnx --task recognition --mean 0.481,0.458,0.408 --std 0.269,0.261,0.276": Promise(
        r"\S+/home/models/clip: recognition; use it by -o Global.rec_inference_model_dir=clip\n",
        r"6 photos became vectors of 32; the most alike have a cosine of 0\.\d{3}\n",
    ),
    "shitu models add yolov8n.onnx --classes bottle,cup": Promise(
        r"\S+/home/models/yolov8n: detection; use it by -o Global.det_inference_model_dir=yolov8n\n",
        r"\d+ objects with a score of 0.3 or more in 6 photos\n",
    ),
    "shitu models verify": Promise(ALL_OK),
    "shitu quantize efficientnet_lite0_512 --out output/int8 --images demo/gallery --method minmax": Promise(
        rows("model output/int8", "photos 64 to calibrate, 176 to measure, 0 unreadable", "noisiest layers"),
        r"64 photos to calibrate with, 0 that cannot be read\n(\d+ of 50 layers in fp32: agreement [^\n]*\n)+",
        files={"output/int8/inference_int8.onnx": 1},
    ),
    "shitu dataset convert sop datasets/sop -o sop.txt": Promise(
        err=r"Warning: 3 images where 59,551 were published [^\n]*\nWrote sop.txt\.\n",
        lines={"sop.txt": 3, "sop.classes.txt": 2},
    ),
    "shitu dataset convert --list": Promise(rows("name images classes splits", "sop 59,551 11,318 train, test")),
    "shitu dataset convert inshop datasets/inshop -o query.txt --split query --prefix inshop": Promise(
        err=r"Warning: 1 images where 14,218 were published [^\n]*\nWrote query.txt\.\n",
        lines={"query.txt": 1, "query.classes.txt": 2},  # numbered like the gallery's
    ),
    "shitu dataset merge sop.txt inshop.txt -o train_reg_all_data.txt": Promise(
        rows("first last images classes list", "0 1 3 2 sop.txt", "2 2 2 1 inshop.txt"),
        r"Wrote train_reg_all_data.txt: 5 images, 3 classes; this table: train_reg_all_data.offsets.tsv\.\n",
        lines={"train_reg_all_data.txt": 5, "train_reg_all_data.offsets.tsv": 3},
    ),
    "shitu dataset unpack datasets/flower-tfrecords -o 104flowers": Promise(
        err=r"Wrote 3 images below 104flowers\.\n", files={"104flowers/*/*/*.jpeg": 3}
    ),
    "shitu dataset from-folder demo/gallery -o train.txt": Promise(
        err=r"train.txt: 240 images of 3 classes, path label\n[^\n]*image_root[^\n]*\n",
        lines={"train.txt": 240, "train.classes.txt": 3},
    ),
    "shitu dataset from-labelme photos -o train.txt --crops crops": Promise(
        err=r"train.txt: 12 images of 2 classes, path label\nPaths are below crops: [^\n]*\n",
        files={"crops/*/*.jpg": 12},
        lines={"train.txt": 12},
    ),
    "shitu dataset from-coco instances.json --image-root images --whole -o a.txt": Promise(
        err=r"a.txt: 1 image of 1 classes, path label\nPaths are below images: [^\n]*\n", lines={"a.txt": 1}
    ),
    "shitu dataset check train.txt --image-root photos --query query.txt --query gallery.txt": Promise(
        rows("train.txt: 8 lines, 8 usable images", "2 classes", "Nothing wrong was found")
    ),
    "shitu dataset check demo/gallery.txt --image-root demo --gallery --no-embeddings": Promise(
        rows("demo/gallery.txt: 240 lines, 240 usable images", "80 classes", "Nothing wrong was found")
    ),
    "shitu dataset mainbody coco2017 datasets/coco -o coco.json": Promise(
        err=r"COCO2017: 1 image; [^\n]*\ncoco.json: 1 image, 1 boxes of foreground; dataset_dir: datasets/coco\n",
        holds=foreground("coco.json", 1, 1),
    ),
    "shitu dataset mainbody-merge coco=coco.json rpc=rpc.json -o mainbody.json": Promise(
        err=r"mainbody.json: 2 images, 2 boxes of foreground; dataset_dir: the folder that holds coco, rpc\n",
        holds=foreground("mainbody.json", 2, 2),
    ),
    "shitu finetune my_photos --epochs 1 --output my_model": Promise(
        r'\{"better": (true|false), "unseen": [^\n]*"report": "my_model/report.html"\}\n',
        rows("data 4 images, 2 classes", "epoch 1/1, step 1/1: CELoss", "Next: shitu predict -c my_model/shitu.yaml"),
        {"my_model/gallery/gallery.json": 1, "my_model/report.html": 1, "my_model/shitu.yaml": 1},
    ),
    "shitu train -c configs/train/demo_cpu.yaml -o Global.epochs=1": Promise(
        r'\{"epoch": 1, "recall1": [^\n]*"queries": 240.0, [^\n]*\}\n',
        rows("data 240 images, 80 classes", "epoch 1/1, step 5/5", "epoch 1: recall1", "the model of best_model"),
        {"output/train_demo/RecModel/curves.png": 1, "output/train_demo/RecModel/latest.pdstates": 1},
        holds=model("output/train_demo/RecModel/inference", "recognition"),
    ),
    f"shitu eval -c {WEIGHTS}": Promise(
        r'\{"recall1": 0\.\d+, "recall5": 0\.\d+, "mAP": 0\.\d+, "queries": 240, "left_out": 0, "bad_images": 0\}\n',
        TAKEN_OUT + LOADED,
    ),
    f"shitu export -c {WEIGHTS}": Promise(
        r'\{"model": "inference", "dimension": 64, "difference": [\d.e-]+, "onnx": true\}\n',
        LOADED,
        {"inference/inference.onnx": 1},
        holds=model("inference", "recognition"),
    ),
    f"shitu train-det -c {CONFIG} --dry-run": Promise(
        rows("data 16 images, 24 boxes", "network PicoDet", "steps 60 epochs of 1 steps", "after warm-up"),
        files={"output/*/*.pdparams": 0},
    ),
    f"shitu eval-det -c {CONFIG} -o weights=best.pdparams": Promise(
        rows("AP 0.", "AR100 0.", "images 2", "bad_images 0")
    ),
    f"shitu export-det -c {CONFIG} -o weights=best.pdparams": Promise(
        r"output/picodet_lcnet_x1_0_320_mainbody/inference\n",
        rf"({PARTS}){{4}}Next: shitu predict -o Global.det_inference_model_dir=output/[^\n]*inference [^\n]*\n",
        {"output/picodet_lcnet_x1_0_320_mainbody/inference/inference.onnx": 1},
        holds=model("output/picodet_lcnet_x1_0_320_mainbody/inference", "detection"),
    ),
    "shitu config show -c configs/inference_logo.yaml -o Global.threshold=0.3": Promise(
        rows(
            "Global.batch_size=1 # configs/inference_logo.yaml:11",
            "Global.threshold=0.3 # -o Global.threshold=0.3",
            "IndexProcess.nprobe=null # default",
        )
    ),
    f"shitu config show -c {CONFIG}": Promise(rows(f"architecture=PicoDet # {CONFIG}:", "_BASE_=[] # default")),
    "shitu config schema --kind train": Promise(r'\{\n.*"title": "shitu: configs for training of the feature.*\}\n'),
    "shitu config schema --kind inference": Promise(r'\{\n.*"title": "shitu: configs for gallery, .*\}\n'),
    "shitu serve -g my_gallery": Promise(err=r"Listening on http://127.0.0.1:\d+\n"),
    "shitu serve --gallery drinks=my_drinks --host 0.0.0.0 --token a-long-secret": Promise(
        err=r"Listening on http://0.0.0.0:\d+\n", files={"my_drinks/gallery.json": 1}
    ),
    "shitu check": Promise(rows(*VERSIONS)[:-2] + r".*\n(ok [^\n]*\n){4}"),
    "shitu demo --output output/demo": Promise(
        BEACH,
        r"240 images indexed, 480 vectors; (\./)?output/demo_index holds 480\.\n"
        r"10 images: \d+ objects named, \d+ without a name; 10 annotated pictures in output/demo\n",
        {"output/demo/*.jpg": 10},
    ),
}
