"""What one sample costs, and so what throughput to expect of a GPU: counted layer by layer, nothing is run on one.

    python -m research.gpu_job.estimate [--bandwidth 3.0e12] [--efficiency 0.5]

At these sizes the networks are limited by memory: every layer reads and writes its activations, in bfloat16, and does
little with them. So a sample's bytes over the bandwidth that is reached is the time it takes; multiplications, at
hundreds of TFLOP/s, hide behind it. Backward moves twice what forward does (gradients in and out, and the stored
activations once more). `efficiency` is the share of the copying bandwidth that eager PyTorch reaches on such layers: a
guess, to be replaced by what the first run shows.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn

from research.detector.efficientnet_lite import EfficientNetLite0
from research.detector.network import PicoDet
from research.gpu_job.job.recogniser import STAGES, Recogniser
from research.gpu_job.job.teacher import Teacher
from research.pplcnetv2.network import PPLCNetV2

BYTES = 2  # of bfloat16
ACTIVATION_PASSES = 2  # of each activation function or sum that follows a layer: read and written


def cost(network: nn.Module, side: int) -> tuple[float, float]:
    """(bytes moved forward, multiply-adds) of one picture."""
    moved, multiplied = 0.0, 0.0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal moved, multiplied
        moved += BYTES * (inputs[0].numel() + output.numel())
        if isinstance(layer, nn.Conv2d):
            moved += BYTES * ACTIVATION_PASSES * output.numel()
            multiplied += output.numel() * layer.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, side, side))
    for hook in hooks:
        hook.remove()
    return moved, multiplied


def row(stage: str, times: list[float], reached: float) -> str:
    """One line of a table: bytes of each part, and what they come to."""
    total = sum(times)
    shares = " | ".join(f"{1e6 * t / reached:.0f} us ({t / total:.0%})" for t in times)
    return f"| {stage} | {shares} | {reached / total:,.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bandwidth", type=float, default=3.0e12, help="bytes/s of a copy; H100 3.0e12, H200 4.3e12")
    parser.add_argument("--efficiency", type=float, default=0.5)
    args = parser.parse_args()
    reached = args.bandwidth * args.efficiency
    student, teacher, detector = PPLCNetV2(), Teacher(), PicoDet(EfficientNetLite0())
    print("| stage | augment | teacher | student | samples/s |\n|---|---|---|---|---|")
    for stage in STAGES:
        # some 40 passes over float32 pictures: the operations of views.py are not fused
        new = [40 * 4 * 3 * stage.teacher_side**2, cost(teacher, stage.teacher_side)[0]]
        times = [*(time / Recogniser.used for time in new), 3 * cost(student, stage.side)[0]]
        print(row(f"student {stage.side} px, teacher {stage.teacher_side} px", times, reached))
    print("\n| stage | augment | assign | network | samples/s |\n|---|---|---|---|---|")
    # three drawings of 320 px pictures and seven pasted crops on a fifth; assignment: 12 tensors, anchors x boxes
    times = [60 * 4 * 3 * 320**2, 12 * 4 * 2125 * 64 * 2, 3 * cost(detector, 320)[0]]
    print(row("detector 320 px", times, reached))
    print()
    for name, network, side in (("student", student, 160), ("teacher", teacher, 192), ("detector", detector, 320)):
        moved, multiplied = cost(network, side)
        print(f"{name} at {side} px: {multiplied / 1e6:.0f} M multiply-adds, {moved / 1e6:.0f} MB forward")


if __name__ == "__main__":
    main()
