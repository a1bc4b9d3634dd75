"""Train the recognisers and the mainbody detector in a given number of minutes, on a GPU if there is one.

    python job.pyz --pack pack.npz --out OUT --minutes 9

Needs PyTorch, NumPy, and OpenCV or Pillow. Ends by itself; run again with the same OUT it goes on. OUT then holds
teacher.pt (EfficientNet-Lite0), recogniser.pt (PP-LCNetV2) and detector.pt (averaged weights), *.resumeN.pt, curve.json
and log.txt.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from research.gpu_job.job.detector import Detector
from research.gpu_job.job.packed import CHOOSE, TRAIN, Pack
from research.gpu_job.job.recogniser import Recogniser
from research.gpu_job.job.refine import Refine
from research.gpu_job.job.state import Log

HALVES = {half.name: half for half in (Refine, Recogniser, Detector)}
SHARES = {"teacher": 0.17, "recogniser": 0.53, "detector": 0.3}  # of the time
CLOSING = 8.0  # seconds kept for the last measuring and writing of a half
SMOKE_MINUTES = 0.6


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=9.0, help="from the start of the process to its end")
    parser.add_argument("--halves", nargs="+", choices=HALVES, default=list(HALVES))
    parser.add_argument(
        "--batch", type=int, default=512, help="of the student; the teacher takes 3/4 of it, the detector 1/4"
    )
    parser.add_argument("--lr", type=float, default=2e-3, help="of the recogniser")
    parser.add_argument("--detector-lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--smoke", action="store_true", help="all of it in under a minute on a CPU, small and useless")
    return parser.parse_args()


def main() -> None:
    began, args = time.monotonic(), arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    log, device = Log(args.out), torch.device(args.device)
    minutes = SMOKE_MINUTES if args.smoke else args.minutes
    torch.set_float32_matmul_precision("high")
    pack = Pack(args.pack, device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    counts = f"{len(pack.rows(TRAIN))} photos to learn from, {len(pack.rows(CHOOSE))} to choose by"
    log.line(f"{name}, torch {torch.__version__}: {counts}, {pack.images.shape[-1]} px, {minutes} minutes")
    settings = {
        "teacher": (16 if args.smoke else args.batch * 3 // 4, args.lr),
        "recogniser": (16 if args.smoke else args.batch, args.lr),
        "detector": (8 if args.smoke else max(8, args.batch // 4), args.detector_lr),
    }
    ends, shares = 0.0, sum(SHARES[half] for half in args.halves)
    ready = time.monotonic() - began
    for half in args.halves:
        batch, rate = settings[half]
        ends += SHARES[half] / shares
        runner = HALVES[half](pack, args.out, log, batch=batch, lr=rate, seed=args.seed, smoke=args.smoke)
        left = ready + (minutes * 60 - ready) * ends - (time.monotonic() - began)
        runner.run(max(1.0, left - (2.0 if args.smoke else CLOSING)))
        del runner
    log.line("finished")


if __name__ == "__main__":
    main()
