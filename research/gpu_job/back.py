"""The way back: what job.pyz wrote -> Paddle model folders with cards, checked against the PyTorch networks.

    python -m research.gpu_job.back --run OUT --out output/models [--data ../shared/data]

Makes efficientnet_lite0_512 of teacher.pt, pplcnetv2_base_512 of recogniser.pt and picodet_efficientnet_lite0_mainbody
of detector.pt, whichever are there. Mixtures with the models before are refined.py's and research/detector/mix.py's.
PP-LCNetV2's weights keep 8 significant bits, so that git and pip pack them to half; it is measured on the choosing sets
and, apart, on photos that no decision has seen; the detector by research/detector/evaluate.py. Without the photos, the
cards hold what the job measured only. Needs torch, paddleclas, paddledet (make install, make research).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from research.detector.export import round_weights
from research.gpu_job.pack_photos import ROOT
from research.gpu_job.refined import bring_teacher, figures_to_choose_by, measured
from research.pplcnetv2.network import DIMENSION, PPLCNetV2, built, save_pdparams
from shitu.models.model_yaml import Preprocess
from shitu.models.write import PROGRAM, new_folder, write_model_yaml

RECOGNISER, DETECTOR = "pplcnetv2_base_512", "picodet_efficientnet_lite0_mainbody"
COMMAND = "python -m research.gpu_job.back"
TOLERANCE = 1e-4  # of unit features
PREPROCESS = Preprocess(
    size=(224, 224), interpolation="bilinear", scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
VERSION = 1
STORY = Path(__file__).with_name("provenance_pplcnetv2.txt")


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


def recogniser_figures(folder: Path, data: Path) -> list[dict[str, Any]]:
    """Choosing sets first, then what no decision has seen."""
    if not data.is_dir():
        return []
    chosen = {f"chosen by: {what}": value for what, value in figures_to_choose_by(folder, data, None).items()}
    found = chosen | measured(folder, data, None)
    return [{"what": what, "value": round(value, 4), "command": COMMAND} for what, value in found.items()]


def bring_recogniser(run: Path, out: Path, data: Path) -> list[dict[str, Any]]:
    """recogniser.pt -> a model folder; its figures."""
    kept = torch.load(run / "recogniser.pt", weights_only=True, map_location="cpu")
    network = torch_recogniser(kept["tensors"])
    with new_folder(out / RECOGNISER, "--out") as folder:

        def describe(measured: list[dict[str, Any]]) -> None:
            write_model_yaml(
                folder,
                name=RECOGNISER,
                version=VERSION,
                task="recognition",
                architecture="PP-LCNetV2_base (PaddleClas's PPLCNetV2_base_ShiTu), 512-d",
                dimension=DIMENSION,
                vectors=f"{RECOGNISER} version {VERSION}",
                preprocess=vars(PREPROCESS),
                provenance=STORY.read_text(encoding="utf-8") + told(run, "recogniser", kept),
                licence="Apache-2.0",
                measured=measured,
            )

        difference = export_recogniser(network, folder)
        rows = [{"what": "largest difference from PyTorch", "value": round(difference, 7), "command": COMMAND}]
        round_weights(folder)
        describe(rows)  # what measures reads the card: how pixels are scaled
        rows += recogniser_figures(folder, data)
        describe(rows)
    return rows


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
