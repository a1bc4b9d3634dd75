r"""Train the bundled recogniser: EfficientNet-Lite0 from ImageNet, metric learning on drawn products and real photos.

    python -m research.recogniser.train prepare --work W --drawn D ... [--control] [--from WEIGHTS]
    python -m research.recogniser.train train --work W [--run NAME] [--engine torch] [-o KEY=VALUE ...]

D are folders that data.py wrote. `prepare` writes the list and the start weights: ImageNet's
backbone, the PCA of first_version.py as the linear layer, and as classifier the classes' mean features, so
that the first steps do not tear down what ImageNet built. `train` is `shitu train --resume` with
configs/train/EfficientNetLite0_products_cpu.yaml, or with --engine torch the same steps five times as fast. With
--control, three juice products and three kinds of clothing are left out, to be measured as products never seen.
choose.py mixes the trained weights with the start, measures and exports. Needs what
first_version.py needs; `train` also what `shitu train` needs.

The bundled model, version 2 (P: -o Global.image_shape=[3,S,S] -o DataLoader.Train.dataset.transform_ops.0.\
RandCropImage.size=S -o Global.epochs=10, E: --engine torch):
    data.py --assets A --out D0; data.py --assets A --out D1 --parts train --seed 1 --no-emoji
    prepare --work F --drawn D0                                                   # only for its start.pdparams
    prepare --work S --drawn D0 --control
    train --work S E P (S=160) --seed 1 -o Global.max_iters=700
    prepare --work F1 --drawn D0 --from S/run/RecModel/step_700.pdparams
    train --work F1 E P (S=160) --seed 2 -o Global.max_iters=1500                 # stopped by hand; step_800 was used
    prepare --work F2 --drawn D0 D1 --from F1/run/RecModel/step_800.pdparams
    train --work F2 E P (S=192) --seed 3 -o Global.max_iters=520 -o Optimizer.lr.learning_rate=0.00008 \
        -o Optimizer.lr.warmup_epoch=0.05
    choose.py make --work F --drawn D0 F2/run/RecModel/latest.pdparams --share 1 \
        --layer "pca 0.3 + drawn" --story TEXT --out MODEL
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import paddle

from research.common import photo_features as photos
from research.recogniser import first_version as first_model
from research.recogniser import lists, pca

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "train" / "EfficientNetLite0_products_cpu.yaml"
PER_CLASS = 4  # photos whose mean begins a class's weights; more are read of small lists only
START = pca.Choice(0.3, True)  # what first_version.py chose


class Features:
    """1280-d features of photos by a backbone, kept in a file so that every photo is read once."""

    def __init__(self, backbone: Any, path: Path | None) -> None:
        self.path = path
        self.known: dict[str, photos.Floats] = {}
        if path is not None and path.is_file():
            with np.load(path) as kept:
                self.known = dict(zip(kept["paths"].tolist(), kept["rows"], strict=True))
        self._folder = tempfile.TemporaryDirectory()
        first_model.save(backbone, Path(self._folder.name))
        self._run = photos.ExportedNetwork(Path(self._folder.name), 1)

    def __call__(self, members: list[photos.Photo]) -> photos.Floats:
        """(n, 1280) float32."""
        new = [photo for photo in members if str(photo.path) not in self.known]
        if new:
            self.known |= dict(zip((str(photo.path) for photo in new), self._run.photos(new), strict=True))
            if self.path is not None:
                np.savez(self.path, paths=np.array(list(self.known)), rows=np.stack(list(self.known.values())))
        return np.stack([self.known[str(photo.path)] for photo in members])


def fitted_photos(data: Path, left: lists.Left) -> list[photos.Photo]:
    """The real photos of the PCA: those of first_version.py, less what the run leaves out."""
    caltech = photos.listed(data / "caltech101")
    kept_from = left.caltech | set(photos.held_out_classes([photo.label for photo in caltech]))
    return [
        *(photo for photo in caltech if photo.label not in kept_from),
        *(photo for photo in photos.listed(data / "clothing") if photo.label not in left.clothing),
        *photos.coco_photos(data / "ecssd", "train.json"),
        *(photo for photo in photos.listed(data / "juice", "train.txt") if photo.label not in left.juice),
    ]


def class_weights(
    features: Features, layer: pca.Projection, members: list[photos.Photo], known: dict[str, photos.Floats]
) -> photos.Floats:
    """(512, classes): mean unit embedding of a class, of length 0.3, which a small learning rate can still turn.

    `known`: columns that an earlier run has learned, by class name.
    """
    some = {name: own for name, own in samples(members).items() if name not in known}
    features([photo for own in some.values() for photo in own])
    columns = known | {
        name: 0.3 * photos.unit(photos.unit(layer(features(own))).mean(axis=0, keepdims=True))[0]
        for name, own in some.items()
    }
    return np.stack([columns[name] for name in lists.class_names(members)]).T


def prepare(args: argparse.Namespace) -> None:
    """Write train.txt, start.pdparams and settings.json into the work folder."""
    from shitu.training.base.checkpoints import arrays, save_weights
    from shitu.training.base.read_weights import read_state

    args.work.mkdir(parents=True, exist_ok=True)
    left = lists.left_out(args.data, args.control)
    members = lists.training_photos(args.data, args.drawn, left)
    names = lists.class_names(members)
    id_list, ratio = lists.ratios(names)
    lines = [f"{photo.path.resolve()}\t{photo.label}\n" for photo in members]
    (args.work / "train.txt").write_text("".join(lines), encoding="utf-8")
    settings = {"id_list": id_list, "ratio": ratio, "classes": len(names), "photos": len(members)}
    settings |= {"left out": {key: sorted(value) for key, value in vars(left).items()}}
    (args.work / "settings.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
    print(settings, flush=True)

    network = first_model.converted(first_model.original_network())
    if args.weights:
        before = read_state(args.weights)
        network.backbone.set_state_dict({name[9:]: value for name, value in before.items() if name[:9] == "backbone."})
    features = Features(network.backbone, args.features or args.work / "features.npz")
    state = {f"backbone.{name}": value for name, value in arrays(network.backbone).items()}
    known = {}
    if args.weights:
        layer = pca.Projection(before["neck.fc.weight"], before["neck.fc.bias"], 0)
        # the run's own list lies two folders above its RecModel
        earlier = photos.listed(args.weights.parents[2], "train.txt")
        known = dict(zip(lists.class_names(earlier), before["head.weight"].T, strict=True))
    else:
        layer = pca.fit(features(fitted_photos(args.data, left)), START)
    state |= {"neck.fc.weight": layer.weight, "neck.fc.bias": layer.bias}
    state |= {"head.weight": class_weights(features, layer, members, known).astype(np.float32)}
    save_weights(args.work / "start", state)
    print(f"wrote {args.work / 'start.pdparams'}")


def samples(members: list[photos.Photo]) -> dict[str, list[photos.Photo]]:
    """Some photos of every class, by its name."""
    by_class: dict[str, list[photos.Photo]] = {}
    for photo in members:
        by_class.setdefault(photo.label, []).append(photo)
    return {name: own[:: max(1, len(own) // PER_CLASS)][: 2 * PER_CLASS] for name, own in by_class.items()}


def train(args: argparse.Namespace) -> None:
    """`shitu train` on one core; --resume goes on where an earlier call was stopped."""
    settings = json.loads((args.work / "settings.json").read_text(encoding="utf-8"))
    values = {
        "Global.pretrained_model": args.work / "start",
        "Global.output_dir": args.work / args.run,
        "Global.seed": args.seed,
        "DataLoader.Train.dataset.image_root": "/",
        "DataLoader.Train.dataset.cls_label_path": args.work / "train.txt",
        "DataLoader.Train.sampler.id_list": settings["id_list"],
        "DataLoader.Train.sampler.ratio": settings["ratio"],
    }
    overrides = [part for key, value in values.items() for part in ("-o", f"{key}={value}")]
    overrides += [part for each in args.overrides for part in ("-o", each)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "KMP_BLOCKTIME": "0", "PYTHONPATH": str(ROOT)}
    module = ["shitu", "train"] if args.engine == "paddle" else ["research.recogniser.torch_steps"]
    command = [sys.executable, "-m", *module, "-c", str(CONFIG), *overrides, "--resume"]
    subprocess.run(command, env=environment, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("prepare")
    one.set_defaults(act=prepare)
    one.add_argument("--drawn", type=Path, nargs="+", required=True, help="folders of data.py")
    one.add_argument("--from", dest="weights", type=Path, help=".pdparams of a run to go on from")
    one.add_argument("--control", action="store_true", help="leave out 3 juice products and 3 kinds of clothing")
    one.add_argument("--features", type=Path, help="file of features to reuse and add to")
    two = commands.add_parser("train")
    two.set_defaults(act=train)
    two.add_argument("--run", default="run")
    two.add_argument("--engine", choices=["paddle", "torch"], default="paddle", help="torch: torch_steps.py")
    two.add_argument("--seed", type=int, default=1)
    two.add_argument("-o", dest="overrides", action="append", default=[])
    for command in (one, two):
        command.add_argument("--work", type=Path, required=True)
        command.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    args = parser.parse_args()
    args.work = args.work.resolve()
    cv2.setNumThreads(1)
    paddle.set_device("cpu")
    args.act(args)


if __name__ == "__main__":
    main()
