"""Two exported detectors of one program -> one with weights between theirs (WiSE-FT), and what the choosing sets say.

    python -m research.detector.mix --before A --after B --shares 0.5 0.7 --out W [--assets ASSETS]

Writes W/SHARE/, B's folder with weights `A + share * (B - A)`; batch norms are in the convolutions. Printed for each
share: recall of ten boxes and AP50 on every other photo of boxes/val.json, without its people, and of ECSSD val; with
--assets also recall of ten on composed shelves and rooms of seed 1 (the card's have seed 4711; objects and backgrounds
are the same). coco128, the small committed set and juice test are not read.
"""

from __future__ import annotations

import argparse
import shutil
import struct
from pathlib import Path

import numpy as np

from research.detector.evaluate import HALVES, Detector, on_set
from research.detector.evaluate_composed import compose, held_out_sources, recalled
from shitu.models.folder import sha256_of
from shitu.models.model_yaml import MODEL_YAML

ROOT = Path(__file__).resolve().parents[2]
PARAMS, FLOAT32, HEAD = "inference.pdiparams", 5, struct.Struct("<IQIi")


def float_parts(params: bytes) -> list[tuple[int, int]]:
    """Where the numbers of each tensor of a .pdiparams begin and how many there are; SystemExit if not all float32."""
    parts, at = [], 0
    while at < len(params):
        version, levels, again, length = HEAD.unpack_from(params, at)
        kind, dims = _described(params[at + HEAD.size : at + HEAD.size + length])
        if (version, levels, again, kind) != (0, 0, 0, FLOAT32):
            raise SystemExit(f"{PARAMS}: holds something else than float32 tensors")
        at += HEAD.size + length
        parts.append((at, int(np.prod(dims))))
        at += 4 * parts[-1][1]
    return parts


def _described(text: bytes) -> tuple[int, list[int]]:
    """Kind of number and sizes: a protobuf of varints, field 1 and, once for each dimension, field 2."""
    values, value, shift = [], 0, 0
    for byte in text:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            values.append(value)
            value, shift = 0, 0
    return values[1], values[3::2]


def mix(before: Path, after: Path, share: float, out: Path) -> None:
    """A copy of `after` with weights between the two."""
    programs = [sha256_of(folder / "inference.json") for folder in (before, after)]
    if programs[0] != programs[1]:
        raise SystemExit(f"{before} and {after} have different programs")
    start, end = ((folder / PARAMS).read_bytes() for folder in (before, after))
    made = bytearray(end)
    for at, count in float_parts(end):
        first, last = (np.frombuffer(params, np.float32, count, at) for params in (start, end))
        made[at : at + 4 * count] = (first + share * (last - first)).astype(np.float32).tobytes()
    shutil.copytree(after, out, dirs_exist_ok=True)
    (out / PARAMS).write_bytes(made)
    card = (out / MODEL_YAML).read_text(encoding="utf-8")
    card = card.replace(sha256_of(after / PARAMS), sha256_of(out / PARAMS))
    (out / MODEL_YAML).write_text(card, encoding="utf-8")


def figures(folder: Path, data: Path, assets: Path | None) -> dict[str, float]:
    """The choosing sets."""
    detector = Detector(folder)
    found = {}
    for name, (file, images, ignored) in {
        "boxes/val": ("boxes/val.json", "boxes/images", ()),
        "without people": ("boxes/val.json", "boxes/images", ("person",)),
        "ecssd val": ("ecssd/val.json", "ecssd/images", ()),
    }.items():
        each = on_set(detector, data / file, data / images, ignored, HALVES[", chosen by"])
        found |= {f"{name}: {figure}": value for figure, value in each._asdict().items()}
    if assets:
        sources = held_out_sources(data, assets, 1)
        for kind in ("shelf", "room"):
            made = compose(sources, kind, 60, 1)
            hits = np.concatenate([recalled(boxes, detector(image)[:10, 2:]) for image, boxes in made])
            found[f"{kind}: recall of 10"] = float(hits.mean())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--after", type=Path, required=True)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5, 0.75, 0.9])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data")
    parser.add_argument("--assets", type=Path, help="the packages named in train.py")
    args = parser.parse_args()
    for share in args.shares:
        mix(args.before, args.after, share, args.out / str(share))
        rows = figures(args.out / str(share), args.data, args.assets)
        print(f"share {share}: " + "  ".join(f"{name} {value:.3f}" for name, value in rows.items()), flush=True)


if __name__ == "__main__":
    main()
