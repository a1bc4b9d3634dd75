"""Mix trained weights with those they started from, choose the mixture by validation classes, measure and export.

    python -m research.recogniser.choose table --work W --drawn D WEIGHTS ... [--shares 0.5 1] [--control]
    python -m research.recogniser.choose make --work W --drawn D WEIGHTS --share S --layer L --out M --story FILE

A mixture is `start + share * (trained - start)` of every weight (WiSE-FT, Wortsman et al. 2022): it keeps on classes
never seen much of what the start knew. `table` prints Recall@1 of the choosing sets for each mixture with three linear
layers: the trained one mixed in the same way, and PCAs of the mixed features. juice test.txt and the 35 Caltech classes
are not read; `make` measures on them, once.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import paddle
import yaml

from research.common import photo_features as photos
from research.common.photo_features import Photo
from research.recogniser import first_version as first_model
from research.recogniser import lists, model_card, open_set, pca, sets
from research.recogniser.first_version import fuse_batch_norms
from research.recogniser.train import Features, fitted_photos

ROOT = Path(__file__).resolve().parents[2]
State = dict[str, np.ndarray]


def mixed(start: State, trained: State, share: float) -> State:
    """Every backbone and neck weight between the two."""
    names = [name for name in start if name.split(".")[0] in ("backbone", "neck")]
    return {name: (start[name] + share * (trained[name] - start[name])).astype(start[name].dtype) for name in names}


def network_of(state: State) -> Any:
    """EfficientNetLiteEmbedding with these weights."""
    network = first_model.EfficientNetLiteEmbedding("lite0", 512)
    own = {name.replace("neck.fc.", "projection."): paddle.to_tensor(value) for name, value in state.items()}
    missing, unexpected = network.set_state_dict(own)
    if missing or unexpected:
        raise SystemExit(f"the weights do not fit: missing {missing}, unexpected {unexpected}")
    network.eval()
    return network


def layers(state: State, features: Features, fitted: list[Photo], drawn: list[Photo]) -> dict[str, pca.Projection]:
    """The linear layers to choose from, by name."""
    found = {"learned": pca.Projection(state["neck.fc.weight"], state["neck.fc.bias"], 0)}
    if not fitted:
        return found
    real = features(fitted)
    for alpha in (0.0, 0.3):
        found[f"pca {alpha}"] = pca.fit(real, pca.Choice(alpha, True))
    rows = np.concatenate([real, features(drawn)])
    found["pca 0.3 + drawn"] = pca.fit(rows, pca.Choice(0.3, True))
    return found


def table(args: argparse.Namespace) -> None:
    """One line of recalls for every mixture and layer; also written to W/table.jsonl."""
    asked = sets.choosing_sets(args.data, args.drawn) | (sets.control_sets(args.data) if args.control else {})
    left = lists.left_out(args.data, args.control)
    fitted = fitted_photos(args.data, left) if args.pca else []
    drawn = drawn_sample(args.drawn)
    start = read(args.work / "start.pdparams")
    for path in args.weights:
        for share in args.shares:
            state = mixed(start, read(path), share)
            network = network_of(state)
            fuse_batch_norms(network)
            features = Features(network.backbone, None)
            for name, layer in layers(state, features, fitted, drawn).items():
                found = {
                    key: each.recall(lambda some, seen=features, to=layer: to(seen(some)))
                    for key, each in asked.items()
                }
                found |= {
                    key: open_set.figures(each, lambda some, seen=features, to=layer: to(seen(some))).recall
                    for key, each in open_set.choosing_settings(args.data, args.drawn).items()
                }
                line = {"weights": str(path), "share": share, "layer": name}
                line |= {key: round(value, 4) for key, value in found.items()}
                print(path.stem, f"{share:.2f} {name:16}", *(f"{value:.3f}" for value in found.values()), flush=True)
                with (args.work / "table.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")


def make(args: argparse.Namespace) -> None:
    """Export the chosen mixture and measure it, once, beside the model that it replaces."""
    state = mixed(read(args.work / "start.pdparams"), read(args.weights), args.share)
    network = network_of(state)
    if args.layer != "learned":
        fuse_batch_norms(copy := network_of(state))
        fitted = fitted_photos(args.data, lists.left_out(args.data, args.control))
        layer = layers(state, Features(copy.backbone, None), fitted, drawn_sample(args.drawn))[args.layer]
        network.projection.weight.set_value(layer.weight)
        network.projection.bias.set_value(layer.bias)
    asked = sets.test_sets(args.data, args.drawn) | (sets.control_test_sets(args.data) if args.control else {})
    some = [each.queries[i] for each in asked.values() for i in (0, len(each.queries) // 2)]
    x = np.stack([photos.read_input(photo) for photo in some])
    wanted = network(paddle.to_tensor(x)).numpy()
    fuse_batch_norms(network)
    partial = args.out.with_name(f".{args.out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    first_model.save(network, partial)
    difference = first_model.check_export(wanted, partial, x)

    recalls = measure(partial, asked, args.data)
    before = measure(args.before, asked, args.data)
    measured = []
    for what, value in recalls.items():
        measured += [(what, value), (f"{what}, by the model before ({args.before.name})", before[what])]
        print(f"{before[what]:8.4f} -> {value:8.4f}  {what}", flush=True)
    measured.append(("largest difference, Paddle Inference with oneDNN from dygraph", difference))
    if args.control_model:
        rows = yaml.safe_load((args.control_model / "model.yaml").read_text(encoding="utf-8"))["measured"]
        not_trained_on = ("not trained on", "unseen", "unknown", "35 held-out")
        said = [what for what, _ in measured if "by the model before" in what]
        seen_nothing_of = [
            row for row in rows if row["what"] not in said and any(word in row["what"] for word in not_trained_on)
        ]
        measured += [(f"control run, after its 700 steps: {row['what']}", row["value"]) for row in seen_nothing_of]
    card = model_card.trained_card(args.story.read_text(encoding="utf-8").strip("\n"))
    model_card.write(partial, card, measured, first_model.licence())
    shutil.rmtree(args.out, ignore_errors=True)
    partial.rename(args.out)
    print(f"wrote {args.out}")


def measure(folder: Path, asked: dict[str, sets.Question], data: Path) -> dict[str, float]:
    """Recall@1 of every set and the open-set figures of an exported model, each photo read once."""
    embed = photos.each_once(folder)
    found = {f"Recall@1 {name}": each.recall(embed) for name, each in asked.items()}
    for name, each in open_set.settings(data).items():
        figures = open_set.figures(each, embed)
        found[f"recall at 10 % false names, {name}"] = figures.recall
        found[f"the score_thres for that, {name}"] = figures.threshold
    return found


def drawn_sample(drawn: Path) -> list[Photo]:
    """Every eighth drawn training picture."""
    return photos.listed(drawn, "train.txt")[::8]


def read(path: Path) -> State:
    """Arrays of a .pdparams."""
    from shitu.training.base.read_weights import read_state

    return read_state(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("table")
    one.set_defaults(act=table)
    one.add_argument("weights", type=Path, nargs="+")
    one.add_argument("--shares", type=float, nargs="+", default=[0.5, 1.0])
    one.add_argument("--pca", action="store_true", help="also with PCAs as the linear layer")
    two = commands.add_parser("make")
    two.set_defaults(act=make)
    two.add_argument("weights", type=Path)
    two.add_argument("--share", type=float, required=True)
    two.add_argument("--layer", required=True, help="learned, or one of the PCAs of `table --pca`")
    two.add_argument("--story", type=Path, required=True, help="text: how the weights came about, for model.yaml")
    two.add_argument("--before", type=Path, default=ROOT / "models" / first_model.NAME)
    two.add_argument("--control-model", type=Path, help="what `make --control` wrote, whose figures the card quotes")
    two.add_argument("--out", type=Path, required=True)
    for command in (one, two):
        command.add_argument(
            "--control", action="store_true", help="the run left 3 cartons and 3 kinds of clothing out"
        )
        command.add_argument("--work", type=Path, required=True)
        command.add_argument("--drawn", type=Path, required=True)
        command.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    paddle.set_device("cpu")
    args.act(args)


if __name__ == "__main__":
    main()
