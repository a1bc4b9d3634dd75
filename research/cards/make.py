"""Make tests/data/cards/: the small set on which tests measure the bundled models against their model.yaml.

    npm pack @lobehub/fluent-emoji-3d@1.1.0 emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0
    python -m research.cards.make --packages FOLDER      # the folder the three .tgz files are unpacked in
    python -m research.cards.make --packages FOLDER --sheets LOOK      # also contact sheets, to look at

recogniser/: a gallery of 42 pictures, one a class: 24 drawn products (8 families of 3 flavours) and 18 things as Google
draws them; 126 crops of the same, the products turned and the things as Microsoft (2) and Twitter (1) draw them; 24
crops of what is in no gallery: a fourth flavour of 6 families, 4 other products, 10 other things.
detector/: 24 scenes with 1 to 12 of such things, their boxes in COCO's format. All backgrounds are drawn.

Only emoji whose sha1(codepoints) begins below 8, which training never uses; for the recogniser only 4 to 7, since
training chooses on 0 to 3 (recogniser/art.py, PARTS); none that the demo shows. Nothing was chosen by what a model
makes of it, except how strong blur, light and turns are: so that the first bundled recogniser misses two in five.

The same pixels come out each time with the same seed and libraries (here numpy 2.3.5, opencv-python-headless 5.0.0.93,
pillow 13.0.0, noto-cjk-sans-otc 0.0.1; other versions draw letters and edges a little differently).
"""

from __future__ import annotations

import argparse
import colorsys
import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from research.cards.products import Colour, Design, view
from research.cards.scenes import background, lit, packshot, query, shelf, single, table, taken, tilted
from research.common.cutouts import Image, Rng, emoji_name, read_cutout
from research.common.products import make_product
from research.demo.make import Art
from research.demo.make import table as read_table

ROOT = Path(__file__).resolve().parents[2]
SEED = 4
GALLERY_SIDE, GALLERY_GROUND = 160, {"drawn": (255, 255, 255), "google": (250, 250, 250)}
SUFFIXES = {"fluent": "webp", "google": "png", "twitter": "png"}
QUERIES = 3  # of each class; of the emoji classes, this many by these makers:
QUERY_MAKERS = ("fluent", "fluent", "twitter")

# brand, kind, shape, layout, red-green-blue of ground and accent, what changes with the flavour; four flavours, each
# with its picture, of which the last is in no gallery
FAMILIES = """
Norvaki milk carton 0 eef2f7 1f5aa8 accent: original 1f42e, honey 1f41d, coconut 1f334, chestnut 1f330
Kovalo tea box 1 cc3c38 f2de78 picture: maple 1f341, night 1f319, sunny 2600-fe0f, rainbow 1f308
Tirabo cola can 2 181e2c dc283c accent: hot 1f525, ice 1f368, ocean 2693, midnight 1f319
Selvuno juice carton 3 fac83c f08c28 picture: maple 1f341, spinach 1f96c, potato 1f360, coconut 1f334
Gumpeli crisps bag 1 7a2f8c f0e6d2 ground: spicy 1f525, chestnut 1f330, honey 1f41d, sea 2693
Fennuk petfood can 0 d8c8a0 2f6e4a accent: duck 1f986, goose 1fabf, owl 1f989, cat 1f408
Bravudo sauce bottle 2 8c1c14 f0d060 picture: hot 1f525, chestnut 1f330, honey 1f41d, spinach 1f96c
Lunetsi biscuits box 3 2a7f9e f4efe0 ground: horse 1f434, elephant 1f418, leopard 1f406, llama 1f999
"""
STRANGERS = """
Ondeko soap box 2 f4dce4 b04878 picture: flamingo 1f9a9
Perrun coffee bag 0 3a241a d08a3c picture: squirrel 1f43f-fe0f
Zavita water bottle 1 d4ecf4 2a70b4 picture: seal 1f9ad
Mikelo rice carton 2 f6f2e4 3c8c3c picture: farm 1f40f
"""
KNOWN_THINGS = read_table("""
    1f35c ramen; 1f35d spaghetti; 1f371 bento; 1f952 cucumber; 1f956 baguette; 1f95f dumpling; 1f4d3 notebook;
    1f4d8 blue book; 1f68a tram; 1f69a truck; 1f6f5 motor scooter; 26f4-fe0f ferry; 1f6a2 ship; 23f1-fe0f stopwatch;
    1f4f8 camera with flash; 1f9f3 luggage; 1f45a blouse; 1f97c lab coat
""")
OTHER_THINGS = read_table("""
    1f4d4 decorated notebook; 1f688 light rail; 1f6f3-fe0f passenger ship; 1f35a rice; 1f96f bagel;
    23f2-fe0f timer clock; 1f693 police car; 1f45d pouch; 1f97d goggles; 1f458 kimono
""")
SCENE_THINGS = read_table("""
    1f348 melon; 1f95a egg; 1f969 meat; 1f3be tennis ball; 1f94e softball; 1f462 boot; 1f461 sandal; 1f484 lipstick;
    1f9fc soap; 1f339 rose; 1fab4 potted plant; 1f427 penguin; 1f579-fe0f joystick; 1f45e shoe; 1f336-fe0f pepper;
    1f35c ramen; 1f371 bento; 1f952 cucumber; 1f956 baguette; 1f96f bagel; 1f4d3 notebook; 1f69a truck; 1f6f5 scooter;
    1f4f8 camera; 1f9f3 luggage; 1f45a blouse; 1f986 duck; 1f418 elephant; 1f50b battery; 1f3b3 bowling; 1f94c curling;
    1f97d goggles; 260e-fe0f phone; 26d1-fe0f helmet; 1f570-fe0f mantel clock; 1f4a3 bomb; 1f6e2-fe0f oil drum
""")
# what the 24 scenes are, and how many things are in them (a shelf may show fewer: what is hidden has no box)
SCENES = [("single", 1)] * 7 + [("table", n) for n in (3, 4, 5, 6, 7, 8, 9, 10)] + [
    ("shelf", n) for n in (4, 5, 6, 7, 8, 9, 10, 11, 12)
]  # fmt: skip


class Packages:
    """The unpacked drawings, as cut-outs by maker and code points."""

    def __init__(self, folder: Path) -> None:
        self.folders = Art(folder).folders

    def cutout(self, maker: str, code: str) -> Image:
        path = self.folders[maker] / f"{code}.{SUFFIXES[maker]}"
        if int(hashlib.sha1(emoji_name(path).encode()).hexdigest()[0], 16) >= 8:
            raise ValueError(f"{code} belongs to the training part")
        found = read_cutout(path)
        if found is None:
            raise ValueError(f"{path} cannot be read or has no transparency to cut along")
        return found


@dataclass(frozen=True)
class Crop:
    """One query: what it shows and the angle (degrees, spread) by which it is turned in the picture."""

    label: str
    cutout: Image
    angle: float


# --- the products -----------------------------------------------------------------------------------------


def families(text: str, packages: Packages) -> list[list[Design]]:
    """The designs of each line."""
    return [_family(line, packages) for line in text.strip().splitlines()]


def _family(line: str, packages: Packages) -> list[Design]:
    head, flavours = line.split(": ")
    brand, kind, shape, layout, ground, accent, change = head.split()
    designs = []
    for number, flavour in enumerate(flavours.split(", ")):
        name, code = flavour.split()
        design = Design(
            brand, kind, name, shape, int(layout), rgb(ground), rgb(accent), packages.cutout("google", code)
        )
        if change != "picture":
            design = replace(design, **{change: other_hue(getattr(design, change), number)})
        designs.append(design)
    return designs


def rgb(text: str) -> Colour:
    red, green, blue = bytes.fromhex(text)
    return red, green, blue


def other_hue(colour: Colour, number: int) -> Colour:
    """The colour of flavour `number`: the same but for the hue."""
    hue, light, saturation = colorsys.rgb_to_hls(*(c / 255 for c in colour))
    red, green, blue = colorsys.hls_to_rgb((hue + 0.21 * number) % 1, light, saturation)
    return int(red * 255), int(green * 255), int(blue * 255)


# --- the recogniser's part --------------------------------------------------------------------------------


def make_recogniser_part(packages: Packages, out: Path) -> None:
    (out / "gallery").mkdir(parents=True)
    (out / "queries").mkdir()
    known = families(FAMILIES, packages)
    gallery = []
    for design in (design for family in known for design in family[:3]):
        picture = packshot(view(design, 14, 6), GALLERY_SIDE, GALLERY_GROUND["drawn"])
        gallery.append(saved(out, "gallery/", design.label, picture, 88))
    for label, code in KNOWN_THINGS.items():
        picture = packshot(packages.cutout("google", code), GALLERY_SIDE, GALLERY_GROUND["google"])
        gallery.append(saved(out, "gallery/", label, picture, 88))
    (out / "gallery.txt").write_text("".join(sorted(gallery)), encoding="utf-8")

    strangers = families(STRANGERS, packages)
    fillers = [make_product(np.random.default_rng([SEED, 100, i]), patterns(i)) for i in range(20)]
    lines = []
    for number, crop in enumerate(crops(known, strangers, packages)):
        rng = np.random.default_rng([SEED, 1, number])
        picture = query(rng, crop.cutout, lambda rng: fillers[rng.integers(len(fillers))], crop.angle)
        lines.append(saved(out, f"queries/{number:03d}_", crop.label, picture, 80))
    (out / "query.txt").write_text("".join(lines), encoding="utf-8")


def crops(known: list[list[Design]], strangers: list[list[Design]], packages: Packages) -> list[Crop]:
    """What the queries show: known products, known things, unknown products, unknown things."""
    rng = np.random.default_rng([SEED, 0])
    shown = [design for family in known for design in family[:3] for _ in range(QUERIES)]
    unknown = [family[3] for family in known[:6]] + [design for family in strangers for design in family * 2]
    found = [Crop(design.label, seen(rng, design), 6) for design in shown]
    things = [(label, code, maker) for label, code in KNOWN_THINGS.items() for maker in QUERY_MAKERS]
    found += [Crop(label, tilted(rng, packages.cutout(maker, code), 0.1), 10) for label, code, maker in things]
    found += [Crop(design.label, seen(rng, design), 6) for design in unknown]
    found += [
        Crop(label, tilted(rng, packages.cutout("fluent", code), 0.1), 10) for label, code in OTHER_THINGS.items()
    ]
    return found


def seen(rng: Rng, design: Design) -> Image:
    """From the left or right, and mostly from above."""
    return view(design, rng.uniform(-48, 48), rng.uniform(-4, 32))


def saved(out: Path, name: str, label: str, picture: Image, quality: int) -> str:
    """Write a JPEG and answer its line of the list; `name` without the label that it ends with."""
    name = f"{name}{label.replace(' ', '_')}.jpg"
    cv2.imwrite(str(out / name), picture, [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1])
    return f"{name}\t{label}\n"


def patterns(number: int) -> list[Image]:
    """What make_product dresses its packages with where training takes photos."""
    return [background(np.random.default_rng([SEED, 200, number, i]), 160, 160) for i in range(4)]


# --- the detector's part ----------------------------------------------------------------------------------


def make_detector_part(packages: Packages, out: Path) -> None:
    (out / "images").mkdir(parents=True)
    designs = [d for family in families(FAMILIES + STRANGERS.lstrip(), packages) for d in family]
    things = [packages.cutout(maker, code) for code in SCENE_THINGS.values() for maker in ("fluent", "google")]

    def take(rng: Rng) -> Image:
        kind = rng.random()
        if kind < 0.4:
            return seen(rng, designs[rng.integers(len(designs))])
        if kind < 0.6:
            return make_product(rng, patterns(int(rng.integers(1000))))
        return things[rng.integers(len(things))]

    images, annotations = [], []
    for number, (kind, count) in enumerate(SCENES):
        rng = np.random.default_rng([SEED, 2, number])
        height, width = (int(side) for side in rng.integers(320, 481, 2))
        make = {"single": lambda *a: single(*a[:4]), "table": table, "shelf": shelf}[kind]
        scene = make(rng, take, height, width, count)
        name = f"{number:02d}_{kind}.jpg"
        picture = taken(rng, lit(rng, scene.image, 0.5), (0, 0.8))
        cv2.imwrite(str(out / "images" / name), picture, [cv2.IMWRITE_JPEG_QUALITY, 80, cv2.IMWRITE_JPEG_OPTIMIZE, 1])
        images.append({"id": number + 1, "file_name": name, "width": width, "height": height})
        for x1, y1, x2, y2 in scene.boxes().astype(int).tolist():
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "image_id": number + 1, "category_id": 1, **box})
    rows = [
        f'"{key}": [\n' + ",\n".join(f" {json.dumps(row)}" for row in part) + "\n]"
        for key, part in (
            ("images", images), ("annotations", annotations), ("categories", [{"id": 1, "name": "foreground"}])
        )
    ]  # fmt: skip
    (out / "annotations.json").write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


# --- looking at it ----------------------------------------------------------------------------------------


def sheet(paths: list[Path], columns: int, boxes: dict[str, list[list[int]]] | None = None) -> Image:
    """The pictures side by side, with their boxes."""
    tiles = []
    for path in paths:
        picture = cv2.imread(str(path))
        for x, y, w, h in (boxes or {}).get(path.name, []):
            cv2.rectangle(picture, (x, y), (x + w, y + h), (0, 255, 0), 2)
        scale = 200 / max(picture.shape[:2])
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        tile = np.full((200, 200, 3), 90, np.uint8)
        tile[: small.shape[0], : small.shape[1]] = small
        tiles.append(tile)
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)])


def write_sheets(out: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    coco = json.loads((out / "detector" / "annotations.json").read_text(encoding="utf-8"))
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    boxes: dict[str, list[list[int]]] = {}
    for row in coco["annotations"]:
        boxes.setdefault(names[row["image_id"]], []).append(row["bbox"])
    cv2.imwrite(str(folder / "scenes.png"), sheet(sorted((out / "detector/images").iterdir()), 6, boxes))
    cv2.imwrite(str(folder / "gallery.png"), sheet(sorted((out / "recogniser/gallery").iterdir()), 8))
    cv2.imwrite(str(folder / "queries.png"), sheet(sorted((out / "recogniser/queries").iterdir()), 12))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, required=True, help="folder of the unpacked npm packages")
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "data" / "cards")
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets")
    args = parser.parse_args()
    packages = Packages(args.packages)
    for part, make in (("recogniser", make_recogniser_part), ("detector", make_detector_part)):
        shutil.rmtree(args.out / part, ignore_errors=True)
        make(packages, args.out / part)
    if args.sheets:
        write_sheets(args.out, args.sheets)
    size = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file())
    print(f"{args.out}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
