"""PaddleClas's PPLCNetV2_base_ShiTu in PyTorch, and its weights from and to .pdparams.

    python -m research.pplcnetv2.network --check WEIGHTS.pdparams

The check loads weights into both networks, compares features in evaluation and in training mode (batch statistics),
writes the PyTorch weights back as .pdparams and compares every tensor, and compares the gradients of Depthwise with
PyTorch's own. It needs paddleclas beside torch; the network itself does not. Its structure is that of
ppcls/arch/backbone/legendary_models/pp_lcnet_v2.py with the changes of variant_models/pp_lcnetv2_variant.py: no ReLU
and a bias at the last convolution, stride 1 in stage 4.
"""

from __future__ import annotations

import argparse
import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

DIMENSION, POOLED = 512, 1024
TOLERANCE = 1e-4  # of the largest output
# output channels, kernel, blocks, stride of the first, split pointwise, parallel branches, squeeze-excite
STAGES = (
    (128, 3, 2, 2, False, False, False),
    (256, 3, 2, 2, False, False, False),
    (512, 5, 6, 2, True, True, True),
    (1024, 5, 2, 1, False, True, False),
)
KEEP_AT_INFERENCE = 0.8  # paddle's Dropout(0.2, mode="downscale_in_infer") multiplies by it in evaluation mode only
TO_PADDLE = {"running_mean": "_mean", "running_var": "_variance"}


class Depthwise(torch.autograd.Function):
    """Depthwise convolution whose gradients go by the ways that are fast on a CPU.

    PyTorch 2.13 has slow ones (64 photos at 128 px, one AVX-512 core): bfloat16 gradients of the input at stride 2 take
    100 ms where float32 takes 16, and gradients of 5 x 5 weights 68 ms where four of 3 x 3 weights take 2.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        if torch.is_autocast_enabled("cpu"):
            x, weight = x.to(torch.bfloat16), weight.to(torch.bfloat16)
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return functional.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, x.shape[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        grad = grad.to(x.dtype).contiguous(memory_format=torch.channels_last)
        wide = (grad.float(), x.float(), weight.float()) if ctx.stride == 2 else (grad, x, weight)
        to_input = depthwise_gradients(*wide, ctx.stride, pad=weight.shape[-1] // 2, wanted=[True, False, False])[0]
        return to_input.to(x.dtype), weight_gradient(grad, x, weight, ctx.stride).float(), None


def depthwise_gradients(grad: Tensor, x: Tensor, weight: Tensor, stride: int, *, pad: int, wanted: list[bool]) -> Any:
    """PyTorch's own gradients of a depthwise convolution: of input, weight, bias, as far as wanted."""
    steps, pads = [stride, stride], [pad, pad]
    return torch.ops.aten.convolution_backward(
        grad, x, weight, None, steps, pads, [1, 1], False, [0, 0], x.shape[1], wanted
    )


def weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """(c, 1, k, k). A 5 x 5 kernel is covered by four of 3 x 3, each with the input shifted under it."""
    only_weight = [False, True, False]
    if weight.shape[-1] != 5:
        return depthwise_gradients(grad, x, weight, stride, pad=weight.shape[-1] // 2, wanted=only_weight)[1]
    total, small = torch.empty_like(weight), weight[:, :, :3, :3].contiguous()
    high, wide = (side * stride + 3 - stride for side in grad.shape[2:])
    padded = functional.pad(x, (2, 3, 2, 3))
    for row in (0, 2):
        for column in (0, 2):
            part = padded[:, :, row : row + high, column : column + wide]
            part = part.contiguous(memory_format=torch.channels_last)
            total[:, :, row : row + 3, column : column + 3] = depthwise_gradients(
                grad, part, small, stride, pad=0, wanted=only_weight
            )[1]
    return total


class ConvBN(nn.Module):
    """Convolution without bias, batch norm, and ReLU unless told otherwise."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1, *, groups: int = 1, act: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(c_out)  # torch's momentum 0.1 is paddle's 0.9; eps is 1e-5 in both
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        depthwise = self.conv.groups > 1 and x.device.type == "cpu"
        x = self.bn(Depthwise.apply(x, self.conv.weight, self.conv.stride[0]) if depthwise else self.conv(x))
        return functional.relu(x, inplace=True) if self.act else x


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels // 4, 1)
        self.conv2 = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        shares = self.conv1(x.mean((2, 3), keepdim=True))
        return x * torch.sigmoid(self.conv2(functional.relu(shares)))


class Block(nn.Module):
    """RepDepthwiseSeparable in training form: parallel depthwise branches, each with its batch norm, are summed."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        stride: int,
        *,
        split: bool = False,
        rep: bool = False,
        excite: bool = False,
    ):
        super().__init__()
        self.rep, self.excite, self.split = rep, excite, split
        self.shortcut = rep and not excite and stride == 1 and c_in == c_out
        if rep:
            sizes = [size for size in range(kernel, 0, -2) if size > 1 or stride == 1]
            self.dw_conv_list = nn.ModuleList(
                ConvBN(c_in, c_in, size, stride, groups=c_in, act=False) for size in sizes
            )
        else:
            self.dw_conv = ConvBN(c_in, c_in, kernel, stride, groups=c_in)
        if excite:
            self.se = SqueezeExcite(c_in)
        if split:
            self.pw_conv_1 = ConvBN(c_in, c_out // 2, 1)
            self.pw_conv_2 = ConvBN(c_out // 2, c_out, 1)
        else:
            self.pw_conv = ConvBN(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(sum(branch(x) for branch in self.dw_conv_list)) if self.rep else self.dw_conv(x)
        if self.excite:
            y = self.se(y)
        y = self.pw_conv_2(self.pw_conv_1(y)) if self.split else self.pw_conv(y)
        return x + y if self.shortcut else y


class PPLCNetV2(nn.Module):
    """(n, 3, h, w) float32, RGB, normalised with ImageNet's mean and deviation -> (n, 512), not of length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvBN(3, 32, 3, 2), Block(32, 64, 3, 1))
        stages, c_in = [], 64
        for c_out, kernel, blocks, first_stride, split, rep, excite in STAGES:
            stage = []
            for i in range(blocks):
                stride = first_stride if i == 0 else 1
                stage.append(Block(c_in, c_out, kernel, stride, split=split, rep=rep, excite=excite))
                c_in = c_out
            stages.append(nn.Sequential(*stage))
        self.stages = nn.ModuleList(stages)
        self.last_conv = nn.Conv2d(c_in, DIMENSION, 1)

    def pooled(self, x: Tensor) -> Tensor:
        """(n, 1024): what the last convolution, a linear layer, is given."""
        return self.maps(x)[-1].mean((2, 3))

    def maps(self, x: Tensor) -> list[Tensor]:
        """What each stage gives, (n, c, h, w): strides 4, 8, 16 and 16."""
        x, found = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        x = self.last_conv(self.pooled(x)[..., None, None]).flatten(1)
        return x if self.training else x * KEEP_AT_INFERENCE


def _paddle_name(name: str) -> str:
    head, _, last = name.rpartition(".")
    return f"{head}.{TO_PADDLE.get(last, last)}"


def read_state(path: Path) -> dict[str, np.ndarray]:
    """shitu's reader, imported late: the network also runs where shitu is not (research/gpu_job)."""
    from shitu.training.base import read_weights

    return read_weights.read_state(path)


def load_pdparams(network: PPLCNetV2, path: Path) -> None:
    """Load a state dict of the training form; what only exists after re-parameterisation, and fc, is passed over."""
    weights = read_state(path)
    state = {}
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        wanted = _paddle_name(name)
        if wanted not in weights or weights[wanted].shape != tuple(tensor.shape):
            found = weights[wanted].shape if wanted in weights else "none"
            raise SystemExit(f"{path}: tensor {wanted} of shape {tuple(tensor.shape)} wanted, {found} found")
        state[name] = torch.from_numpy(np.array(weights[wanted], np.float32))
    network.load_state_dict(state, strict=False)


def save_pdparams(network: PPLCNetV2, path: Path) -> None:
    """Write the weights as paddle.save writes a state dict of arrays: a pickle, protocol 4."""
    state = {
        _paddle_name(name): tensor.detach().float().contiguous().numpy().copy()
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    part = path.with_suffix(".part")
    part.write_bytes(pickle.dumps(state, protocol=4))
    part.replace(path)


def built(weights: Path) -> Any:
    """PaddleClas's own network with the weights of a .pdparams, in evaluation mode, ending in the 512 features."""
    import paddle

    from shitu.training.base import toolkits

    variants = toolkits.paddleclas("ppcls.arch.backbone.variant_models.pp_lcnetv2_variant")
    network = variants.PPLCNetV2_base_ShiTu(class_expand=DIMENSION)
    network.set_state_dict(paddle.load(str(weights)))
    network.fc = paddle.nn.Identity()
    network.eval()
    return network


def check_gradients() -> None:
    """Compare Depthwise with PyTorch's own gradients, float32; SystemExit where they differ."""
    torch.manual_seed(0)
    for kernel, stride, height, width in ((5, 1, 7, 9), (5, 2, 16, 16), (5, 2, 15, 13), (3, 1, 8, 9), (3, 2, 16, 14)):
        x = torch.randn(3, 16, height, width).requires_grad_()
        weight = torch.randn(16, 1, kernel, kernel).requires_grad_()
        wanted = functional.conv2d(x, weight, None, stride, kernel // 2, 1, 16)
        grad = torch.randn_like(wanted)
        pairs = zip(
            torch.autograd.grad(Depthwise.apply(x, weight, stride), (x, weight), grad),
            torch.autograd.grad(wanted, (x, weight), grad),
            strict=True,
        )
        worst = max(float((mine - own).abs().max() / own.abs().max()) for mine, own in pairs)
        print(f"gradients of {kernel} x {kernel}, stride {stride}: relative difference {worst:.1e}")
        if not worst <= TOLERANCE:
            raise SystemExit(f"the gradients differ by {worst:.1e}, wanted {TOLERANCE} at most")


def check(weights: Path) -> None:
    """Compare with PaddleClas's network, both ways; SystemExit where they differ."""
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    import paddle

    check_gradients()
    network = PPLCNetV2()
    load_pdparams(network, weights)
    with tempfile.TemporaryDirectory() as folder:
        back = Path(folder) / "back.pdparams"
        save_pdparams(network, back)
        theirs = built(back)
        before, after = read_state(weights), read_state(back)
        if not all(np.array_equal(before[name], values) for name, values in after.items()):
            raise SystemExit("weights changed on the way to PyTorch and back")
        print(f"{len(after)} tensors come back unchanged")
    x = np.random.default_rng(0).normal(size=(4, 3, 160, 160)).astype(np.float32)
    for training in (False, True):
        network.train(training)
        theirs.train() if training else theirs.eval()
        if training:
            theirs.dropout = paddle.nn.Identity()
        with torch.no_grad():
            found = network(torch.from_numpy(x)).numpy()
        wanted = theirs(paddle.to_tensor(x)).numpy()
        difference = float(np.abs(found - wanted).max() / np.abs(wanted).max())
        print(f"{'training' if training else 'evaluation'} mode: relative difference {difference:.1e}")
        if not difference <= TOLERANCE:
            raise SystemExit(f"the networks differ by {difference:.1e}, wanted {TOLERANCE} at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", type=Path, required=True, metavar="WEIGHTS", help=".pdparams of the training form")
    check(parser.parse_args().check)


if __name__ == "__main__":
    main()
