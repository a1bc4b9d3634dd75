"""Export the trained mainbody detector for Paddle Inference, check the files and write model.yaml.

    python -m research.detector.export --work-dir W

Two programs over the same weights: `inference.json` with the NMS inside, and `inference_raw.json`, which ends before
it, for engines without Paddle's NMS. The folder is replaced only after every check has passed. Needs
paddlepaddle 3.2.2 (3.3 writes files that 3.2 cannot read and that oneDNN refuses) and paddledet 2.6.0.
"""

from __future__ import annotations

import argparse
import filecmp
import hashlib
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import yaml

os.environ.setdefault("FLAGS_use_onednn", "1")
import paddle
import torch
from paddle.static import InputSpec

from research.detector.evaluate import Detector, measure
from research.detector.loss import anchor_points, decode
from research.detector.mix import PARAMS, float_parts
from research.detector.network import network_of
from research.detector.ppdet_network import NMS, Kind, Mainbody, build_ppdet, kind_of, load_weights

ROOT = Path(__file__).resolve().parents[2]
from shitu.images.boxes import nms  # noqa: E402
from shitu.training.base.export import fuse_batch_norms  # noqa: E402

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
PROVENANCE = Path(__file__).with_name("provenance.txt")


def mixed(start: dict, trained: dict, share: float) -> dict:
    """Weights on the line from those that training started from to those it ended with: forgets less of the start."""
    return {
        name: start[name] + (value - start[name]) * share if value.dtype.is_floating_point else value
        for name, value in trained.items()
    }


def save_program(network: paddle.nn.Layer, with_nms: bool, size: int, prefix: Path) -> None:
    specs = [InputSpec([-1, 3, size, size], "float32", "image"), InputSpec([-1, 2], "float32", "scale_factor")]
    paddle.jit.save(paddle.jit.to_static(Mainbody(network, with_nms), input_spec=specs, full_graph=True), str(prefix))


def numpy_nms(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """What Paddle's NMS does for one image and one class: rows of score and box."""
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] > NMS["score_threshold"]][: NMS["nms_top_k"]]
    kept = order[nms(boxes[order], scores[order], NMS["nms_threshold"], plus_one=False)][: NMS["keep_top_k"]]
    return np.concatenate([scores[kept, None], boxes[kept]], 1)


def trained_scores(checkpoint: dict, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores [B, 1, A] and boxes [B, A, 4] in input pixels from the network as it was trained, in PyTorch."""
    model = network_of(checkpoint["ema"]).eval()
    with torch.no_grad():
        logits, sides = model(torch.from_numpy(inputs))
        boxes = decode(sides, *anchor_points(inputs.shape[-1]))
    return logits.sigmoid()[:, None].numpy(), boxes.numpy()


def check(folder: Path, network: paddle.nn.Layer, checkpoint: dict, photos: list[Path]) -> None:
    """The programs against the network in Paddle and in PyTorch, against each other, a batch against single photos."""
    full, raw = Detector(folder), Detector(folder, raw=True)
    images = [cv2.imread(str(path)) for path in photos]
    inputs = np.stack([full.preprocess(image) for image in images])
    scales = np.array([full.scale_factor(image) for image in images], np.float32)
    boxes, scores = raw.run(inputs, scales)
    expected = [t.numpy() for t in Mainbody(network, False)(paddle.to_tensor(inputs), paddle.to_tensor(scales))]
    rows, counts = full.run(inputs, scales)
    singly = [full.run(inputs[i : i + 1], scales[i : i + 1])[0] for i in range(len(images))]
    by_numpy = np.concatenate([numpy_nms(b, s[0]) for b, s in zip(boxes, scores, strict=True)])
    torch_scores, torch_boxes = trained_scores(checkpoint, inputs)
    torch_boxes /= scales[:, None, [1, 0, 1, 0]]
    differences = {
        "scores, program and PyTorch": np.abs(scores - torch_scores).max(),
        "boxes, program and PyTorch": np.abs(boxes - torch_boxes).max(),
        "boxes, program and dynamic graph": np.abs(boxes - expected[0]).max(),
        "scores, program and dynamic graph": np.abs(scores - expected[1]).max(),
        "NMS program and numpy NMS of the raw one": np.abs(rows[:, 1:] - by_numpy).max(),
        "one batch and single pictures": np.abs(rows - np.concatenate(singly)).max(),
    }
    print("rows per photo:", counts.tolist())
    for what, value in differences.items():
        print(f"largest difference, {what}: {value:.2e}")
        if value > (1e-4 if what.startswith("scores") else 0.05):
            raise SystemExit(f"{what}: the exported program is not the network")


class _Dumper(yaml.SafeDumper):
    """Text of several lines as a block, lists of numbers in one line."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)
_Dumper.add_representer(
    list,
    lambda dumper, values: dumper.represent_sequence(
        "tag:yaml.org,2002:seq", values, flow_style=not any(isinstance(value, dict) for value in values)
    ),
)


def round_weights(folder: Path) -> None:
    """Keep the first 8 significant bits of every weight, as bfloat16 does: git and pip pack the file to half."""
    path = folder / PARAMS
    params = bytearray(path.read_bytes())
    for at, count in float_parts(bytes(params)):
        bits = np.frombuffer(params, np.uint32, count, at).astype(np.uint64)
        params[at : at + 4 * count] = (((bits + 0x8000) >> 16) << 16).astype(np.uint32).tobytes()
    path.write_bytes(params)


def describe(folder: Path, kind: Kind, provenance: str, size: int, measured: list[dict]) -> None:
    """Write model.yaml."""
    params = "inference_raw.pdiparams" if (folder / "inference_raw.pdiparams").exists() else "inference.pdiparams"
    files = {
        p.name: {"size": p.stat().st_size, "sha256": hashlib.sha256(p.read_bytes()).hexdigest()}
        for p in sorted(folder.glob("inference*"))
    }
    model = {
        "name": kind.name,
        "version": kind.version,
        "task": "detection",
        "architecture": kind.architecture,
        "program": "inference.json",
        "params": "inference.pdiparams",
        "raw": {"program": "inference_raw.json", "params": params},
        "labels": ["foreground"],
        "preprocess": {
            "size": [size, size],
            "keep_ratio": False,
            "interpolation": "cubic",
            "scale": 1 / 255,
            "mean": MEAN,
            "std": STD,
        },
        "files": files,
        "licence": "Apache-2.0",
        "provenance": provenance,
        "measured": measured,
    }
    (folder / "model.yaml").write_text(yaml.dump(model, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True))


def measurements(folder: Path, data: Path) -> list[dict]:
    """The card's rows, by research/detector/evaluate.py."""
    photos = {"ecssd": 100, "boxes": 200, "coco1": 128}
    rows = []
    for what, value in measure(folder, data).items():
        count = photos[what.rsplit(" on ")[1][:5]] // (1 + (", " in what))  # halves
        untouched = "untouched: " if "coco128" in what else ""
        command = "python -m research.detector.evaluate"
        rows.append({"what": f"{untouched}{what} ({count} photos)", "value": round(value, 4), "command": command})
    return rows


def replace_folder(new: Path, old: Path) -> None:
    """Swap the finished folder in, so that nobody loads files of two exports."""
    aside = old.with_name(old.name + ".old")
    shutil.rmtree(aside, ignore_errors=True)
    if old.exists():
        old.rename(aside)
    new.rename(old)
    shutil.rmtree(aside, ignore_errors=True)


def export(checkpoint: dict, out: Path, *, size: int, data: Path, provenance: str) -> list[dict]:
    """Both programs of the averaged weights (`ema`), checked, measured where the photos are; the figures."""
    kind = kind_of(checkpoint)
    network = build_ppdet(size, kind.lite)
    load_weights(network, checkpoint)
    network.eval()
    fuse_batch_norms(network)
    folder = out.with_name(out.name + ".new")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save_program(network, True, size, folder / "inference")
    save_program(network, False, size, folder / "inference_raw")
    if filecmp.cmp(folder / "inference.pdiparams", folder / "inference_raw.pdiparams", shallow=False):
        (folder / "inference_raw.pdiparams").unlink()
    describe(folder, kind, provenance, size, [])
    check(folder, network, checkpoint, sorted((ROOT / "demo" / "photos").iterdir())[:4])
    if kind.lite:
        round_weights(folder)
    measured = measurements(folder, data) if data.is_dir() else []
    describe(folder, kind, provenance, size, measured)
    for name in ("LICENSE", "NOTICE"):
        if (out / name).exists():
            shutil.copy(out / name, folder / name)
    replace_folder(folder, out)
    return measured


def story(checkpoint: dict, size: int) -> str:
    """The card's provenance of the bundled detector."""
    return PROVENANCE.read_text().format(
        torch=torch.__version__,
        paddle=paddle.__version__,
        cores=os.cpu_count(),
        steps=checkpoint["step"],
        hours=checkpoint["seconds"] / 3600,
        size=size,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work-dir", type=Path, required=True, help="where train.py keeps its checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="the model folder, replaced if it is there")
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data")
    parser.add_argument("--size", type=int, default=320, help="of the input, pixels")
    parser.add_argument("--start", type=Path, help="the checkpoint that training started from, to mix in")
    parser.add_argument("--share", type=float, default=0.85, help="of the trained weights in the mix")
    args = parser.parse_args()
    checkpoint = torch.load(args.work_dir / "checkpoint.pt", weights_only=True)
    if args.start:
        start = torch.load(args.start, weights_only=True)["ema"]
        checkpoint["ema"] = mixed(start, checkpoint["ema"], args.share)
    provenance = story(checkpoint, args.size)
    measured = export(checkpoint, args.out, size=args.size, data=args.data, provenance=provenance)
    for row in measured:
        print(f"{row['what']}: {row['value']}")


if __name__ == "__main__":
    main()
