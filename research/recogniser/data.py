"""Compose training pictures of products that no shop sells, with lists for `shitu train` and for choosing.

    pip install resvg-py==0.5.0 pillow opencv-python-headless numpy
    python -m research.recogniser.data --assets A --out W [--data ../shared/data] [--seed 0]

Writes W/{train,val,test,juice}/*.jpg and the lists train.txt, {val,test}_{designs,emoji}_{gallery,query}.txt with
`path<TAB>label` lines. No logo, emoji or design of val and test is in train. juice.txt has the juice cartons'
packshots, cut out and put before shelves. Products that a control run leaves out are in no other picture's background.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from research.common.cutouts import Image, Rng, crop_to_alpha, object_mask, shrink
from research.recogniser.art import ASSETS, Art, by_hash, colour, load_art
from research.recogniser.designs import Design, Printer, family, put, turn
from research.recogniser.lists import left_out
from research.recogniser.scene import Places, in_the_wild, packshot, shelf
from research.recogniser.views import Product, view

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Amount:
    """How much of everything a part has."""

    families: int
    views: int
    emoji: int
    emoji_views: int
    shelves: int


AMOUNTS = {
    "train": Amount(300, 11, 300, 8, 150),
    "val": Amount(45, 7, 110, 4, 40),
    "test": Amount(45, 7, 110, 4, 40),
    "juice": Amount(40, 20, 0, 0, 30),
}


@dataclass(frozen=True)
class Picture:
    """A composed picture, its label and whether a shop would hang it up as the product's own (gallery)."""

    image: Image
    label: str
    gallery: bool


def rows(folder: Path, name: str) -> list[tuple[Path, str]]:
    """(path, label) of a list file."""
    lines = (folder / name).read_text(encoding="utf-8").splitlines()
    return [(folder / path, label) for path, label in (line.split("\t") for line in lines if line)]


def read_places(data: Path, unseen: set[str], part: str) -> tuple[list[Image], list[Image]]:
    """(shop photos, other photos): juice train; ECSSD train and training classes of Caltech, three in ten of them."""
    held_out = set((ROOT / "research/common/caltech_heldout.txt").read_text(encoding="utf-8").split())
    caltech = [path for path, label in rows(data / "caltech101", "list.txt") if label not in held_out][::3]
    others = sorted((data / "ecssd").rglob("*.jpg"))
    validation = (data / "ecssd" / "val.json").read_text(encoding="utf-8")
    photos = [path for path in others if f'"{path.name}"' not in validation] + caltech
    training = part in ("train", "juice")
    photos = [path for i, path in enumerate(photos) if (i % 10 < 7) == training]
    shops = [path for path, label in rows(data / "juice", "train.txt") if label not in unseen]
    shops = shops if training else []
    return tuple([shrink(cv2.imread(str(path)), 400) for path in paths] for paths in (shops, photos))


def products(rng: Rng, art: Art, count: int, photos: list[Image]) -> dict[str, Product]:
    """Products by label, as many families as asked for."""
    found = {}
    for number in range(count):
        for flavour, design in enumerate(family(rng, art)):
            has_side, size = design.shape in ("carton", "box"), design.size
            side = Printer(design, art, photos).side(size[2] / size[0]) if has_side else np.zeros((4, 4, 3), np.uint8)
            cap = colour(np.random.default_rng(design.seed + 9))
            front = Printer(design, art, photos).front()
            found[f"design {number:03d}.{flavour} {design.shape}"] = Product(design, front, side, cap)
    return found


def views_of(rng: Rng, product: Product, label: str, count: int, places: Places) -> Iterator[Picture]:
    """Two packshots, one of them straight from the front, and photos."""
    for number in range(count):
        if number < 2:
            yaw = float(rng.uniform(0.15, 0.7) * rng.choice([-1, 1])) if number else float(rng.normal(0, 0.05))
            yield Picture(packshot(rng, view(rng, product, yaw, float(rng.uniform(0.02, 0.3)), 0.0)), label, True)
            continue
        yaw, pitch = float(np.clip(rng.normal(0, 0.45), -1.1, 1.1)), float(rng.normal(0.15, 0.25))
        roll = float(rng.choice([0, 0, 0, 0, 0, 0, 0, 1.57, -1.57, 3.14])) if rng.random() < 0.5 else 0.0
        yield Picture(in_the_wild(rng, view(rng, product, yaw, pitch, roll), places), label, False)


def emoji_views(
    rng: Rng, drawn: list[Image], label: str, count: int, *, places: Places, shapes: list[Product]
) -> Iterator[Picture]:
    """One maker's drawing on white; other makers' printed large on a product or lying somewhere."""
    first = int(rng.integers(len(drawn)))
    others = [picture for i, picture in enumerate(drawn) if i != first]
    yield Picture(packshot(rng, drawn[first]), label, True)
    for number in range(count - 1):
        picture = others[number % len(others)]
        if rng.random() < 0.5:
            yield Picture(in_the_wild(rng, picture, places), label, False)
            continue
        bare = shapes[int(rng.integers(len(shapes)))]
        front = np.full((200, 200, 3), colour(rng), np.uint8)
        put(front, turn(picture, float(rng.uniform(-15, 15))), 0.5, 0.5, int(rng.uniform(120, 170)))
        flat = Product(bare.design, front, bare.side, bare.cap)
        yield Picture(in_the_wild(rng, view(rng, flat, float(rng.normal(0, 0.3)), 0.1, 0.0), places), label, False)


def bare_products(rng: Rng) -> list[Product]:
    """Unprinted square-fronted packages to print an emoji on."""
    size, ground = (1.0, 1.0, 0.5), np.full((40, 40, 3), 200, np.uint8)
    found = []
    for shape in ("box", "pouch", "can"):
        design = Design(int(rng.integers(2**31)), shape, size, colour(rng), (0, 0, 0), "", "", "", None, "", 0)
        found.append(Product(design, ground, ground, colour(rng)))
    return found


def juice_views(rng: Rng, data: Path, count: int, places: Places) -> Iterator[Picture]:
    """The real cartons' packshots cut out and put into scenes; the label is the real list's."""
    for path, label in rows(data / "juice", "iconic.txt"):
        photo = shrink(cv2.imread(str(path)), 360)
        cut = crop_to_alpha(np.dstack([photo, object_mask(photo)]))
        if cut is None:
            raise SystemExit(f"{path}: no object on white to cut out")
        for _ in range(count):
            h, w = cut.shape[:2]
            corners = np.float32([(0, 0), (w, 0), (w, h), (0, h)])
            moved = corners + rng.normal(0, 0.05, (4, 2)).astype(np.float32) * [w, h]
            matrix = cv2.getPerspectiveTransform(corners, np.float32(moved - moved.min(0)))
            size = tuple(int(v) + 1 for v in np.ptp(moved, axis=0))
            yield Picture(in_the_wild(rng, cv2.warpPerspective(cut, matrix, size), places), label, False)


def pictures(rng: Rng, part: str, assets: Path, data: Path, *, emoji: bool = True) -> Iterator[Picture]:
    """Everything of one part."""
    amount, art = AMOUNTS[part], load_art(assets, "train" if part == "juice" else part)
    shops, photos = read_places(data, left_out(data, control=True).juice, part)
    made = products(rng, art, amount.families, photos)
    stocked = list(made.values())
    stock = ([stocked[i] for i in rng.integers(0, len(stocked), 12)] for _ in range(amount.shelves))
    shelves = [shelf(rng, some, photos) for some in stock]
    places = Places(shelves, shops, photos)
    if part == "juice":
        yield from juice_views(rng, data, amount.views, places)
        return
    for label, product in made.items():
        yield from views_of(rng, product, label, amount.views, places)
    bare = bare_products(rng)
    for name in by_hash(art.emoji)[: amount.emoji if emoji else 0]:
        yield from emoji_views(rng, art.emoji[name], f"emoji {name}", amount.emoji_views, places=places, shapes=bare)


def write(part: str, out: Path, made: Iterator[Picture], rng: Rng) -> None:
    """JPEGs of mixed quality and the lists."""
    (out / part).mkdir(parents=True, exist_ok=True)
    lists: dict[str, list[str]] = {}
    for number, picture in enumerate(made):
        name = f"{part}/{number:05d}.jpg"
        quality = 92 if picture.gallery else int(rng.integers(45, 95))
        cv2.imwrite(str(out / name), picture.image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        kind = "emoji" if picture.label.startswith("emoji") else "designs"
        role = "gallery" if picture.gallery else "query"
        which = part if part in ("train", "juice") else f"{part}_{kind}_{role}"
        lists.setdefault(which, []).append(f"{name}\t{picture.label}\n")
    for which, lines in lists.items():
        (out / f"{which}.txt").write_text("".join(lines), encoding="utf-8")
        print(f"{which}: {len(lines)} pictures, {len({line.split('	')[1] for line in lines})} classes", flush=True)


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=ASSETS, formatter_class=raw)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", nargs="+", default=list(AMOUNTS))
    parser.add_argument("--no-emoji", action="store_true", help="designs only, the same as with emoji")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    for part in arguments.parts:
        start, rng = time.time(), np.random.default_rng([arguments.seed, list(AMOUNTS).index(part)])
        made = pictures(rng, part, arguments.assets, arguments.data, emoji=not arguments.no_emoji)
        write(part, arguments.out, made, rng)
        print(f"{part}: {time.time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
