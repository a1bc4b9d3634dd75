"""Export PaddleClas's PPLCNetV2_base_ShiTu with given weights: the "PP-LCNetV2 fp32" of tests and benchmarks.

python benchmarks/export_pplcnetv2.py WEIGHTS.pdparams OUT_FOLDER [--legacy]
Writes inference.json, or inference.pdmodel with --legacy (the format of Paddle 2), and inference.pdiparams; input `x`
[None, 3, 224, 224] float32, output [None, 512] float32, not normalised.

Needs paddleclas, as `make install` installs it.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.engines.base import EngineOptions
from shitu.engines.paddle import open_session
from shitu.training.base import toolkits

Floats = NDArray[np.float32]
TOLERANCE = 1e-4  # of the largest output
# The training form leaves out what only exists after re-parameterisation, and the classifier.
MAY_BE_MISSING = (".dw_conv.weight", ".dw_conv.bias", "fc.weight", "fc.bias")


def built(weights: Path) -> Any:
    """The network in training form with its weights, in evaluation mode, ending in the 512 features."""
    import paddle

    pp_lcnetv2_variant = toolkits.paddleclas("ppcls.arch.backbone.variant_models.pp_lcnetv2_variant")
    network = pp_lcnetv2_variant.PPLCNetV2_base_ShiTu(class_expand=512)
    missing, unexpected = network.set_state_dict(paddle.load(str(weights)))
    lost = [name for name in missing if not name.endswith(MAY_BE_MISSING)]
    if lost or unexpected:
        raise SystemExit(f"{weights}: does not fit: missing {lost}, unexpected {unexpected}")
    network.fc = paddle.nn.Identity()
    network.eval()
    return network


def re_parameterise(network: Any) -> None:
    """Fuse the parallel depthwise branches of every block into one convolution."""
    for layer in network.sublayers():
        if hasattr(layer, "re_parameterize"):
            layer.re_parameterize()
            if layer.use_rep:
                del layer.dw_conv_list  # else the unused branches are exported too


def excite(self: Any, x: Any) -> Any:
    """PaddleClas's SEModule.forward in operators that Paddle 3.2 can still write to a .pdmodel.

    Its paddle.nn.functional.sigmoid and paddle.multiply call the new IR only: "sigmoid(): argument (position 1) must
    be Value, but got Variable".
    """
    from paddle.base.layer_helper import LayerHelper

    weights = self.conv2(self.act(self.conv1(self.avg_pool(x))))
    helper = LayerHelper("sigmoid")
    shares = helper.create_variable_for_type_inference(weights.dtype)
    helper.append_op(type="sigmoid", inputs={"X": weights}, outputs={"Out": shares})
    return x * shares


def check(stage: str, found: Floats, wanted: Floats) -> None:
    """Print how far two outputs are apart, relative to the largest; stop where that is too far."""
    difference = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    print(f"{stage}: relative difference {difference:.1e}")
    if not difference <= TOLERANCE:
        raise SystemExit(f"{stage} changed the outputs by {difference:.1e}, wanted {TOLERANCE} at most")


def main() -> None:
    parser = argparse.ArgumentParser(description="Export PPLCNetV2_base_ShiTu for tests and benchmarks.")
    parser.add_argument("weights", type=Path, help="state dict of the training form, .pdparams")
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--legacy", action="store_true", help="write .pdmodel in place of .json")
    args = parser.parse_args()
    if args.legacy:
        # The flag is read once, when paddle is imported.
        os.environ["FLAGS_enable_pir_api"] = "0"  # noqa: SIM112
    other = args.out / ("inference.json" if args.legacy else "inference.pdmodel")
    if other.exists():
        raise SystemExit(f"{other} is there already: one folder holds one format, so remove it or name another folder")
    if "paddle" in sys.modules:
        raise SystemExit("paddle was imported before its flags were set")
    import paddle

    network = built(args.weights)
    x = np.random.default_rng(0).normal(size=(3, 3, 224, 224)).astype(np.float32)
    wanted = network(paddle.to_tensor(x)).numpy()
    re_parameterise(network)
    check("re-parameterisation", network(paddle.to_tensor(x)).numpy(), wanted)
    if args.legacy:
        for layer in network.sublayers():
            if type(layer).__name__ == "SEModule":
                type(layer).forward = excite
    args.out.mkdir(parents=True, exist_ok=True)
    spec = paddle.static.InputSpec([None, 3, 224, 224], "float32", "x")
    paddle.jit.save(network, str(args.out / "inference"), input_spec=[spec])
    program = args.out / ("inference.pdmodel" if args.legacy else "inference.json")
    session = open_session(program, args.out / "inference.pdiparams", EngineOptions(threads=2))
    check("export", session.run({"x": x})[0], wanted)
    print("wrote", ", ".join(f"{path} ({path.stat().st_size} bytes)" for path in sorted(args.out.iterdir())))


if __name__ == "__main__":
    main()
