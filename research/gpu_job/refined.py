"""The refined recogniser, teacher.pt: which mixture with the one before and which linear layer; then a model folder.

    python -m research.gpu_job.refined table --run OUT [--before models/efficientnet_lite0_512] [--drawn D]
    python -m research.gpu_job.refined make --run OUT --share 0.75 --layer learned --out M [--story FILE] [--drawn D]
    python -m research.gpu_job.refined chosen --model M ... [--drawn D]
    python -m research.gpu_job.refined measure --model M ... [--drawn D]

A mixture is `before + share * (refined - before)` of every kernel, bias and the linear layer (as in
research/recogniser/choose.py); both have their batch norms in their convolutions, which stood still. A linear layer is
the mixed one, or a PCA (centred, eigenvalue ** -0.3) of the mixture's features of photos that were learnt from. Nothing
of what the card reports as untouched is read by `table` and, for whole models, `chosen`; `measure` reads nothing else.
D is what `research.recogniser.data --parts val test` wrote.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from research.common import photo_features as photos
from research.common.photo_features import Floats, Photo
from research.gpu_job.pack_photos import ROOT, choose, some
from research.gpu_job.pack_weights import exported
from research.gpu_job.refined_sets import as_photos, choosing, unknown, untouched
from research.recogniser import open_set, pca
from shitu.models.model_yaml import Preprocess
from shitu.models.write import new_folder, write_model_yaml

NAME = "efficientnet_lite0_512"
BUNDLED = ROOT / "models" / NAME
TOLERANCE = 1e-4  # of unit features
PREPROCESS = Preprocess(
    size=(224, 224), interpolation="bilinear", scale=1.0, mean=(photos.MEAN,) * 3, std=(photos.STD,) * 3
)
SHARES = (0.0, 0.5, 0.75, 1.0)
PCA = pca.Choice(0.3, True)
Features = Callable[[list[Photo]], Floats]
FITTED = {"boxes": 600, "cutouts": 600}  # of these sources at most so many; of the others all


def mixed(run: Path, before: Path, share: float) -> dict[str, Floats]:
    """`convN.weight`, `convN.bias`, `linear.weight`, `linear.bias`."""
    import torch

    from research.gpu_job.job.teacher import folded

    start = exported(before)
    kept = torch.load(run / "teacher.pt", weights_only=True, map_location="cpu")
    trained = {name: tensor.numpy() for name, tensor in folded(kept["tensors"]).items()}
    if set(start) != set(trained):
        raise SystemExit(f"{run / 'teacher.pt'} is of another network than {before}")
    return {name: (start[name] + share * (trained[name] - start[name])).astype(np.float32) for name in start}


def network_of(weights: dict[str, Floats]) -> Any:
    """shitu's EfficientNetLiteEmbedding, batch norms folded, with these weights."""
    from paddle import nn

    from research.recogniser.first_version import EfficientNetLiteEmbedding
    from shitu.training.base.export import fuse_batch_norms

    network = EfficientNetLiteEmbedding("lite0", 512)
    network.eval()
    fuse_batch_norms(network)
    convolutions = [layer for layer in network.sublayers() if isinstance(layer, nn.Conv2D)]
    for i, conv in enumerate(convolutions):
        conv.weight.set_value(weights[f"conv{i}.weight"])
        conv.bias.set_value(weights[f"conv{i}.bias"])
    network.projection.weight.set_value(weights["linear.weight"])
    network.projection.bias.set_value(weights["linear.bias"])
    return network


def feature_source(weights: dict[str, Floats]) -> Features:
    """Photos -> (n, 1280) pooled features, each computed once."""
    from research.recogniser.first_version import save

    with tempfile.TemporaryDirectory() as folder:
        save(network_of(weights).backbone, Path(folder))
        return photos.each_once(Path(folder))


def fitted(data: Path, products: bool) -> list[Photo]:
    """The photos of the PCA: of what was learnt from."""
    learnt = choose(data)[0]
    sources = {entry.source for entry in learnt} - (set() if products else {"products", "boxes", "cutouts"})
    parts = ([e for e in learnt if e.source == source] for source in sorted(sources))
    return as_photos([e for part in parts for e in some(part, FITTED.get(part[0].source, len(part)))])


def linear_layer(
    name: str, weights: dict[str, Floats], features: Features, data: Path, drawn: Path | None
) -> pca.Projection:
    """One of LAYERS."""
    if name == "learned":
        return pca.Projection(weights["linear.weight"], weights["linear.bias"], 0)
    some = fitted(data, "products" in name)
    if "drawn" in name:
        if drawn is None:
            raise SystemExit(f"--drawn is missing: {name!r} is fitted on its train.txt, too")
        some += photos.listed(drawn, "train.txt")
    return pca.fit(features(some), PCA)


LAYERS = ("learned", "pca", "pca + products", "pca + products + drawn")


def table(args: argparse.Namespace) -> None:
    """A line for every mixture and layer."""
    asked, stranger = choosing(args.data, args.drawn), unknown(args.data, args.drawn)
    print("choosing sets:", {name: len(question.queries) for name, question in asked.items()}, flush=True)
    for share in args.shares:
        weights = mixed(args.run, args.before, share)
        features = feature_source(weights)
        for name in args.layers:
            to = linear_layer(name, weights, features, args.data, args.drawn)
            found = {key: each.recall(lambda m, f=features, t=to: t(f(m))) for key, each in asked.items()}
            for key, each in stranger.items():
                figures = open_set.figures(each, lambda m, f=features, t=to: t(f(m)))
                found[f"{key}, 10 % false"] = figures.recall
            line = "  ".join(f"{key} {value:.4f}" for key, value in found.items())
            print(f"share {share:.2f} {name:14} {line}", flush=True)


def figures_to_choose_by(folder: Path, data: Path, drawn: Path | None) -> dict[str, float]:
    """Of a whole model: Recall@1 of the choosing sets, and recall at 10 % false names."""
    embed = photos.each_once(folder)
    found = {f"Recall@1 {name}": each.recall(embed) for name, each in choosing(data, drawn).items()}
    for name, each in unknown(data, drawn).items():
        found[f"recall at 10 % false names, {name}"] = open_set.figures(each, embed).recall
    return found


def measured(folder: Path, data: Path, drawn: Path | None) -> dict[str, float]:
    """Recall@1 of the untouched sets, and the open-set figures of research/recogniser/open_set.py."""
    from research.recogniser.choose import measure

    asked = untouched(data, drawn)
    for name, question in asked.items():
        print(f"{len(question.queries)} queries: {name}", flush=True)
    return measure(folder, asked, data)


def compare(args: argparse.Namespace) -> None:
    """The choosing sets, or the untouched ones, of several models side by side."""
    columns = [args.figures(folder, args.data, args.drawn) for folder in args.model]
    for what in columns[0]:
        print("  ".join(f"{column[what]:.4f}" for column in columns), what, flush=True)


def bring_teacher(
    run: Path,
    out: Path,
    data: Path,
    *,
    before: Path = BUNDLED,
    share: float = 1.0,
    layer: str = "learned",
    story: str = "",
    drawn: Path | None = None,
) -> list[dict[str, Any]]:
    """teacher.pt -> a model folder, compared with PyTorch; what the card holds is that difference only."""
    from research.recogniser.first_version import save

    weights = mixed(run, before, share)
    if layer != "learned":
        found = linear_layer(layer, weights, feature_source(weights), data, drawn)
        weights |= {"linear.weight": found.weight, "linear.bias": found.bias}
    with new_folder(out / NAME, "--out") as folder:
        save(network_of(weights), folder)
        difference = difference_from_torch(weights, folder)
        row = {"what": "largest difference of unit features from PyTorch", "value": round(difference, 7)}
        row["command"] = "python -m research.gpu_job.refined make"
        write_model_yaml(
            folder,
            name=NAME,
            version=3,
            task="recognition",
            architecture="EfficientNet-Lite0 (385 M MACs counted, 407 M as published), pooled to 1280-d, linear to 512",
            dimension=512,
            vectors=f"{NAME} version 3",
            preprocess=vars(PREPROCESS),
            provenance=story or f"{run / 'teacher.pt'}, share {share}, layer {layer}",
            licence="Apache-2.0",
            measured=[row],
        )
    return [row]


def difference_from_torch(weights: dict[str, Floats], folder: Path) -> float:
    """Of unit features of demo photos; SystemExit beyond TOLERANCE."""
    import torch

    from research.gpu_job.job.teacher import load_teacher

    some = [Photo(path, "") for path in sorted((ROOT / "demo" / "photos").iterdir())[:6]]
    x = np.stack([photos.read_input(photo) for photo in some])
    network = load_teacher({name: torch.from_numpy(array) for name, array in weights.items()})
    with torch.no_grad():
        wanted = network(torch.from_numpy(x) * photos.STD + photos.MEAN).numpy()
    difference = float(np.abs(photos.unit(photos.ExportedNetwork(folder, 1)(x)) - photos.unit(wanted)).max())
    if not difference <= TOLERANCE:
        raise SystemExit(f"the exported recogniser differs by {difference:.1e}, wanted {TOLERANCE} at most")
    return difference


def make(args: argparse.Namespace) -> None:
    story = args.story.read_text(encoding="utf-8") if args.story else ""
    rows = bring_teacher(
        args.run,
        args.out,
        args.data,
        before=args.before,
        share=args.share,
        layer=args.layer,
        story=story,
        drawn=args.drawn,
    )
    print(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one, two, three, four = (commands.add_parser(name) for name in ("table", "make", "measure", "chosen"))
    for command, act in ((one, table), (two, make), (three, compare), (four, compare)):
        command.set_defaults(act=act)
        command.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
        command.add_argument("--drawn", type=Path)
    for command in (one, two):
        command.add_argument("--run", type=Path, required=True, help="the folder that job.pyz wrote")
        command.add_argument("--before", type=Path, default=BUNDLED)
    one.add_argument("--shares", type=float, nargs="+", default=SHARES)
    one.add_argument("--layers", nargs="+", choices=LAYERS, default=LAYERS)
    two.add_argument("--share", type=float, required=True)
    two.add_argument("--layer", choices=LAYERS, required=True)
    two.add_argument("--story", type=Path, help="text for the card: how the weights came about")
    two.add_argument("--out", type=Path, required=True, help="folder of the model folder")
    for command, figures in ((three, measured), (four, figures_to_choose_by)):
        command.set_defaults(figures=figures)
        command.add_argument("--model", type=Path, nargs="+", required=True)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    args.act(args)


if __name__ == "__main__":
    main()
