"""The bundled recogniser as weights to go on from, and the list for it.

    python -m research.slim.unfold --out output/slim            # recogniser.pdparams, train.txt

An exported network has its batch norms folded into its convolutions. Here each convolution keeps the folded kernel, and
its norm gets the mean and spread of what the convolution makes of 64 photos, with a scale and a shift that undo just
that: the same function in evaluation, and in training norms that norm. The list: every third photo of the juice,
Caltech (without the held-out classes) and clothing training parts: what `benchmarks/measure_int8.py --lists` writes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from benchmarks.measure_int8 import DATA, write_lists
from shitu.images.read import read_image
from shitu.models.folder import open_folder
from shitu.recognise.preprocess import from_model_yaml
from shitu.training.base.checkpoints import save_weights
from shitu.training.rec.networks import RecModel, build_network
from shitu.training.rec.schema import load_train_config

ROOT = Path(__file__).resolve().parents[2]
BUNDLED = ROOT / "models" / "efficientnet_lite0_512"
CONFIG = ROOT / "configs" / "train" / "EfficientNetLite0_slim_cpu.yaml"
PHOTOS = 64
TOLERANCE = 1e-4  # of the largest value of the features


def unfolded(images: paddle.Tensor) -> RecModel:
    """`images` (n, 3, 224, 224), from which the norms get their statistics."""
    network = build_network(load_train_config(CONFIG).Arch.parts()["Student"].without_heads(), 1)
    assert isinstance(network, RecModel)
    whole = paddle.jit.load(str(BUNDLED / "inference"))
    state = [value.numpy() for value in whole.state_dict().values()]  # bias, weight of each layer
    convs = [each for each in network.backbone.sublayers() if isinstance(each, nn.Conv2D)]
    norms = [each for each in network.backbone.sublayers() if isinstance(each, nn.BatchNorm2D)]
    for norm, bias, conv, weight in zip(norms, state[0:-2:2], convs, state[1:-2:2], strict=True):
        conv.weight.set_value(weight)
        norm.register_forward_pre_hook(lambda layer, inputs, bias=bias: undo(layer, inputs[0].numpy(), bias))
    neck: Any = network.neck
    neck.fc.bias.set_value(state[-2])
    neck.fc.weight.set_value(state[-1])
    network.eval()
    with paddle.no_grad():
        network.embed(images)
        for norm in norms:
            norm._forward_pre_hooks.clear()
        found, wanted = network.embed(images)["features"].numpy(), whole(images).numpy()
    difference = np.abs(found - wanted).max() / np.abs(wanted).max()
    if difference > TOLERANCE:
        raise SystemExit(f"the features differ by {difference:.1e}; is {BUNDLED} of another kind?")
    return network


def undo(norm: Any, x: np.ndarray, bias: np.ndarray) -> None:
    """Statistics of `x` (n, c, h, w), and what makes the norm add just `bias` (c,)."""
    mean, variance = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
    norm._mean.set_value(mean)
    norm._variance.set_value(variance)
    norm.weight.set_value(np.sqrt(variance + norm._epsilon))
    norm.bias.set_value(bias + mean)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    write_lists(out)
    lines = (out / "recogniser.txt").read_text(encoding="utf-8").splitlines()
    (out / "train.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    preprocess = open_folder(BUNDLED).card.preprocess
    assert preprocess is not None
    ready = from_model_yaml(**vars(preprocess), detection=False)
    paths = [line.partition("\t")[0] for line in lines[:: len(lines) // PHOTOS]][:PHOTOS]
    images = np.stack([ready(read_image(DATA / path)) for path in paths])
    state = unfolded(paddle.to_tensor(images)).state_dict()
    save_weights(out / "recogniser", {name: value.numpy() for name, value in state.items()})


if __name__ == "__main__":
    main()
