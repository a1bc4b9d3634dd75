"""The way back: what job.pyz wrote -> Paddle model folders with cards, checked against the PyTorch networks.

    python -m research.gpu_job.back --run OUT --out output/models [--data ../shared/data]

Makes efficientnet_lite0_512 of teacher.pt, pplcnetv2_base_512 of recogniser.pt and picodet_lcnet_x1_0_mainbody of
detector.pt, whichever are there. Mixtures with the models before are refined.py's and research/detector/mix.py's. The
recogniser is measured through shitu's own pipeline on the choosing sets and, apart, on photos that no decision has
seen; the detector by research/detector/evaluate.py. Without the photos, the cards hold what the job measured only.
Needs torch, paddleclas, paddledet (make install, make research).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from research.gpu_job.pack_photos import ROOT, Entry, choose, held_out, listed
from research.gpu_job.refined import bring_teacher
from research.pplcnetv2.network import DIMENSION, PPLCNetV2, built, save_pdparams
from shitu.models.model_yaml import Preprocess
from shitu.models.write import PROGRAM, new_folder, write_model_yaml

RECOGNISER, DETECTOR = "pplcnetv2_base_512", "picodet_lcnet_x1_0_mainbody"
COMMAND = "python -m research.gpu_job.back"
TOLERANCE = 1e-4  # of unit features
PREPROCESS = Preprocess(
    size=(224, 224), interpolation="bilinear", scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
Embed = Callable[[list[Entry]], NDArray[np.float32]]


def told(run: Path, half: str, kept: dict[str, Any]) -> str:
    """How the weights came about, for the card."""
    log = (run / "log.txt").read_text(encoding="utf-8").splitlines()
    machine = log[0].split("s  ", 1)[1]
    about = kept["about"]
    return (
        f"Made by research/gpu_job (README.md there: data, losses, schedule): {about['samples']} samples in "
        f"{about['step']} steps and {about['seconds']:.0f} s on {machine.split(',')[0]}.\n"
        f"The last line of its log: {[line for line in log if half in line][-1].split('s  ', 1)[1]}\n"
        f"Command: python job.pyz --pack pack.npz --out OUT, then {COMMAND} --run OUT\n"
    )


def torch_recogniser(tensors: dict[str, torch.Tensor]) -> PPLCNetV2:
    """The averaged network of recogniser.pt, without the class weights, its two linear layers made one."""
    kept = {name: tensor.float() for name, tensor in tensors.items()}
    state = {name.split(".", 1)[1]: tensor for name, tensor in kept.items() if name.startswith("backbone.")}
    if "wide.weight" in kept:  # runs before had only the one
        weight, bias = kept["linear_weight"], kept["linear_bias"]
        state["last_conv.weight"] = (weight @ kept["wide.weight"])[..., None, None]
        state["last_conv.bias"] = weight @ kept["wide.bias"] + bias
    network = PPLCNetV2().eval()
    network.load_state_dict(state)
    return network


def export_recogniser(network: PPLCNetV2, folder: Path) -> float:
    """Write PaddleClas's network with these weights; the largest difference of its unit features from PyTorch's."""
    import paddle

    from shitu.engines.base import EngineOptions
    from shitu.engines.paddle import open_session
    from shitu.training.base.export import fuse_batch_norms, re_parameterise

    with tempfile.TemporaryDirectory() as scratch:
        save_pdparams(network, Path(scratch) / "weights.pdparams")
        theirs = built(Path(scratch) / "weights.pdparams")
    re_parameterise(theirs)
    fuse_batch_norms(theirs)
    spec = paddle.static.InputSpec([None, 3, 224, 224], "float32", "x")
    paddle.jit.save(theirs, str(folder / "inference"), input_spec=[spec])
    x = example_inputs()
    session = open_session(folder / PROGRAM, folder / "inference.pdiparams", EngineOptions(threads=2))
    with torch.no_grad():
        rows = network(torch.from_numpy(x)).numpy(), session.run({"x": x})[0]
    units = [row / np.linalg.norm(row, axis=1, keepdims=True) for row in rows]
    difference = float(np.abs(units[0] - units[1]).max())
    if not difference <= TOLERANCE:
        raise SystemExit(f"the exported recogniser differs by {difference:.1e}, wanted {TOLERANCE} at most")
    return difference


def example_inputs() -> NDArray[np.float32]:
    """(n, 3, 224, 224) of the demo's photos."""
    from shitu.images.read import read_image
    from shitu.recognise.preprocess import from_model_yaml

    make = from_model_yaml(**vars(PREPROCESS), detection=False)
    return np.stack([make(read_image(path)) for path in sorted((ROOT / "demo" / "photos").iterdir())[:6]])


def served(folder: Path) -> Embed:
    """Entries -> (n, d) unit features as `shitu predict` computes them, each picture read once."""
    from shitu import load_config
    from shitu.recognise.from_config import RecPredictor

    predictor = RecPredictor(load_config(None, [f"Global.rec_inference_model_dir={folder}"]))
    known: dict[tuple[Path, Any], NDArray[np.float32]] = {}

    def embed(entries: list[Entry]) -> NDArray[np.float32]:
        new = [e for e in entries if (e.path, e.xyxy) not in known]
        for start in range(0, len(new), 32):
            some = new[start : start + 32]
            rows = predictor.predict([np.ascontiguousarray(e.read()[..., ::-1]) for e in some])
            known.update(zip(((e.path, e.xyxy) for e in some), rows, strict=True))
        return np.stack([known[e.path, e.xyxy] for e in entries])

    return embed


def recall(embed: Embed, queries: list[Entry], gallery: list[Entry] | None = None) -> float:
    """Recall@1 against the gallery, or leaving one out among labels that occur twice."""
    if gallery is None:
        counts: dict[str | None, int] = {}
        for entry in queries:
            counts[entry.label] = counts.get(entry.label, 0) + 1
        queries = [entry for entry in queries if counts[entry.label] > 1]
    cosines = embed(queries) @ embed(gallery or queries).T
    if gallery is None:
        np.fill_diagonal(cosines, -2)
    labels = np.array([e.label for e in gallery or queries])
    return float((labels[cosines.argmax(1)] == np.array([e.label for e in queries])).mean())


def recogniser_figures(folder: Path, data: Path) -> list[dict[str, Any]]:
    """Choosing sets first, then what no decision has seen."""
    if not data.is_dir():
        return []
    embed, (_, choosing) = served(folder), choose(data)
    juice = [e for name in ("train.txt", "iconic.txt") for e in listed(data / "juice", "juice", name)]
    tested = listed(data / "juice", "juice", "test.txt")
    unseen = [e for e in listed(data / "caltech101", "caltech") if str(e.label).split("/", 1)[1] in held_out()]
    apart = {source: [e for e in choosing if e.source == source] for source in ("products", "caltech", "juice")}
    found = {
        "chosen by: a fifth of the articles and brands of products/, leave one out": recall(embed, apart["products"]),
        "chosen by: 12 Caltech-101 classes, leave one out": recall(embed, apart["caltech"]),
        "chosen by: juice val.txt against train.txt + iconic.txt": recall(embed, apart["juice"], juice),
        "juice test.txt against train.txt + iconic.txt": recall(embed, tested, juice),
        "the 35 held-out Caltech-101 classes, leave one out": recall(embed, unseen),
    }
    return [{"what": f"Recall@1 {what}", "value": round(value, 4), "command": COMMAND} for what, value in found.items()]


def bring_recogniser(run: Path, out: Path, data: Path) -> list[dict[str, Any]]:
    """recogniser.pt -> a model folder; its figures."""
    kept = torch.load(run / "recogniser.pt", weights_only=True, map_location="cpu")
    network = torch_recogniser(kept["tensors"])
    with new_folder(out / RECOGNISER, "--out") as folder:

        def describe(measured: list[dict[str, Any]]) -> None:
            write_model_yaml(
                folder,
                name=RECOGNISER,
                task="recognition",
                architecture="PP-LCNetV2_base (PaddleClas's PPLCNetV2_base_ShiTu), 512-d",
                dimension=DIMENSION,
                preprocess=vars(PREPROCESS),
                provenance=told(run, "recogniser", kept),
                licence="Apache-2.0",
                measured=measured,
            )

        difference = export_recogniser(network, folder)
        measured = [{"what": "largest difference from PyTorch", "value": round(difference, 7), "command": COMMAND}]
        describe(measured)  # the pipeline, which measures, opens no folder without a card
        measured += recogniser_figures(folder, data)
        describe(measured)
    return measured


def bring_detector(run: Path, out: Path, data: Path) -> list[dict[str, Any]]:
    """detector.pt -> a model folder; its figures."""
    from research.detector.export import export

    kept = torch.load(run / "detector.pt", weights_only=True, map_location="cpu")
    checkpoint = {"ema": {name: tensor.float() for name, tensor in kept["tensors"].items()}}
    out.mkdir(parents=True, exist_ok=True)
    return export(checkpoint, out / DETECTOR, size=320, data=data, provenance=told(run, "detector", kept))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="the folder that job.pyz wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model folders")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    args = parser.parse_args()
    halves = {"teacher": bring_teacher, "recogniser": bring_recogniser, "detector": bring_detector}
    there = [half for half in halves if (args.run / f"{half}.pt").is_file()]
    if not there:
        raise SystemExit(f"{args.run}: holds no teacher.pt, recogniser.pt or detector.pt; name the --out of job.pyz")
    for half in there:
        print(f"{half}:", json.dumps(halves[half](args.run, args.out, args.data), indent=1), flush=True)


if __name__ == "__main__":
    main()
