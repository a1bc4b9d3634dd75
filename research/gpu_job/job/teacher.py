"""The bundled recogniser, EfficientNet-Lite0 to 512, in PyTorch: batch norms are in the convolutions already."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from research.detector.efficientnet_lite import STAGES

FEATURES = 1280  # pooled
MAPS = {2: 24, 4: 40, 10: 112, 15: 320}  # block: channels of its output, the last of strides 4, 8, 16 and 32


class SameConv(nn.Conv2d):
    """Convolution padded as TensorFlow does, from the input's size."""

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for size in (x.shape[3], x.shape[2]):
            kernel, stride = self.kernel_size[0], self.stride[0]
            total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
            pads += [total // 2, total - total // 2]
        if pads[0] == pads[1] == pads[2] == pads[3]:
            return functional.conv2d(x, self.kernel(), self.bias, self.stride, pads[0], 1, self.groups)
        return functional.conv2d(functional.pad(x, pads), self.kernel(), self.bias, self.stride, 0, 1, self.groups)

    def kernel(self) -> Tensor:
        return self.weight


class Teacher(nn.Module):
    """(n, 3, h, w), RGB, 0 to 255 -> (n, 512), not of length 1."""

    def __init__(self) -> None:
        super().__init__()
        convs, self.plan = [SameConv(3, 32, 3, 2)], []
        channels = 32
        for repeats, kernel, first_stride, expand, outputs in STAGES:
            for i in range(repeats):
                stride, wide = (first_stride if i == 0 else 1), channels * expand
                if expand != 1:
                    convs.append(SameConv(channels, wide, 1))
                convs += [SameConv(wide, wide, kernel, stride, groups=wide), SameConv(wide, outputs, 1)]
                self.plan.append((expand != 1, stride == 1 and channels == outputs))
                channels = outputs
        convs.append(SameConv(channels, 1280, 1))
        self.convs, self.linear = nn.ModuleList(convs), nn.Linear(FEATURES, 512)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.pooled(x))

    def pooled(self, x: Tensor) -> Tensor:
        """(n, 1280), not below 0."""
        return self.pooled_and_maps(x)[0]

    def pooled_and_maps(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(n, 1280), not below 0, and the maps (n, c, h, w) of MAPS."""
        convs, maps = iter(self.convs), []

        def active(y: Tensor) -> Tensor:
            return functional.relu6(next(convs)(y))

        x = active((x - 127) / 128)
        for i, (expands, shortcut) in enumerate(self.plan):
            y = active(active(x) if expands else x)
            y = next(convs)(y)
            x = x + y if shortcut else y
            if i in MAPS:
                maps.append(x)
        return active(x).mean((2, 3)), maps


def load_teacher(weights: dict[str, Tensor]) -> Teacher:
    """From `convN.weight`, `convN.bias`, `linear.weight` (1280, 512), `linear.bias`."""
    teacher = Teacher()
    with torch.no_grad():
        for i, conv in enumerate(teacher.convs):
            conv.weight.copy_(weights[f"conv{i}.weight"])
            conv.bias.copy_(weights[f"conv{i}.bias"])
        teacher.linear.weight.copy_(weights["linear.weight"].T)
        teacher.linear.bias.copy_(weights["linear.bias"])
    return teacher.eval().requires_grad_(False)


def folded(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """`convN.weight`, `convN.bias`, `linear.weight` (1280, 512), `linear.bias` of a Refined's state."""
    kept = {n.removeprefix("backbone."): t.float() for n, t in tensors.items()}
    found = {"linear.weight": kept["linear.weight"].T.contiguous(), "linear.bias": kept["linear.bias"]}
    for i in range(sum(n.startswith("convs.") and n.endswith(".size") for n in kept)):
        found[f"conv{i}.weight"] = kept[f"convs.{i}.weight"] * kept[f"convs.{i}.size"]
        found[f"conv{i}.bias"] = kept[f"convs.{i}.bias"]
    return found
