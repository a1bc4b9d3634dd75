"""Write ImageNet EfficientNet-Lite0 as .pdparams, the start of configs/train/EfficientNetLite0_finetune_cpu.yaml.

Needs what first_version.py needs. Run from the repository root:
python -m research.recogniser.efficientnet_lite_weights efficientnet_lite0.pdparams
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import paddle

from research.recogniser.first_version import TOLERANCE, converted, difference_from_original, original_network
from shitu.training.base.checkpoints import arrays, save_weights


def main() -> None:
    parser = argparse.ArgumentParser(description="Write ImageNet EfficientNet-Lite0 as .pdparams.")
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    original = original_network()
    network = converted(original)
    x = np.random.default_rng(0).normal(size=(2, 3, 224, 224)).astype(np.float32)
    difference = difference_from_original(original, network, x)
    print(f"largest difference of the features from the original's: {difference:.1e}")
    if not difference <= TOLERANCE:
        raise SystemExit(f"wanted {TOLERANCE} at most")
    save_weights(out.with_suffix(""), arrays(network.backbone))
    print(f"wrote {out.with_suffix('.pdparams')} with Paddle {paddle.__version__}")


if __name__ == "__main__":
    main()
