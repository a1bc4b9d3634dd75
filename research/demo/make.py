"""Make demo/: a small gallery and ten composed photos, out of openly licensed drawings.

    npm pack @lobehub/fluent-emoji-3d@1.1.0 emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0
    python -m research.demo.make --packages FOLDER      # the folder the three .tgz files are unpacked in

Each class has three gallery pictures by three makers; the photos show the 3-D rendered drawing of one maker,
turned, dimmed and askew, so one gallery picture of each class is the same artwork as the one in the photo.
Eleven of the objects in the photos are in no gallery: the right answer there is "unknown". All is drawn with
fixed seeds: a second run writes the same bytes.

Only drawings whose sha1(codepoints) starts below 8 are used; the detector is trained on the others. What was
chosen: tangible things that look unlike one another; of near twins (two cars, two sorts of round fruit) only
one is in. The demo is thus easier than a gallery of look-alikes, and its figures say nothing about one. No
class was swapped after looking at what a model makes of it: the unknown ice cube does look like the package.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from research.common.drawing import Array, Rng, cable, develop, place, sprite
from research.demo import scenes as places

# maker: npm package with version, folder of its pictures, their suffix
MAKERS = {
    "fluent": ("@lobehub/fluent-emoji-3d@1.1.0", "assets", "webp"),
    "google": ("emoji-datasource-google@16.0.0", "img/google/64", "png"),
    "twitter": ("emoji-datasource-twitter@16.0.0", "img/twitter/64", "png"),
}
GALLERY_SIDE, GALLERY_GROUND = 160, {
    "fluent": (245, 244, 241), "google": (250, 250, 250), "twitter": (238, 241, 244),
}  # fmt: skip


def table(text: str) -> dict[str, str]:
    """`codepoints label; ...` as label -> codepoints."""
    pairs = [entry.split(None, 1) for entry in " ".join(text.split()).split(";") if entry.strip()]
    return {label.strip(): code for code, label in pairs}


GALLERY = table("""
    1f34a tangerine; 1f34c banana; 1f353 strawberry; 1f95d kiwi fruit; 1fad0 blueberries; 1f33d ear of corn;
    1f346 eggplant; 1f951 avocado; 1f955 carrot; 1f966 broccoli; 1f9c5 onion; 1f32d hot dog; 1f32e taco;
    1f354 hamburger; 1f357 poultry leg; 1f35f french fries; 1f373 frying pan with egg; 1f968 pretzel;
    1f96b canned food; 1f9c0 cheese wedge; 1f9c7 waffle; 1f366 soft ice cream; 1f36f honey pot; 1f363 sushi;
    1f377 wine glass; 1f37a beer mug; 1f37e bottle with popping cork;
    1f9ef fire extinguisher; 1f528 hammer; 1f529 nut and bolt; 1f9f0 toolbox; 1f9f2 magnet; 1fa93 axe;
    1fa9a carpentry saw; 1fa9b screwdriver; 1faa3 bucket; 1faa5 toothbrush; 1f9fb roll of paper;
    1f392 backpack; 1f393 graduation cap; 1f451 crown; 1f456 jeans; 1f45c handbag; 1f45f running shoe;
    1f460 high-heeled shoe; 1f9e2 billed cap; 1f9e6 socks; 1f4f7 camera; 1f3a7 headphone; 1f4fb radio;
    1f3a4 microphone; 1f4bb laptop; 1f50d magnifying glass; 1f3b7 saxophone; 1f3b8 guitar; 1f3ba trumpet;
    1f3bb violin; 1f3c0 basketball; 1f3c8 american football; 1f3f8 badminton; 1f94a boxing glove;
    1f6fc roller skate; 1f9f6 ball of yarn; 1f9e9 puzzle piece; 1f383 jack-o-lantern; 1f4da books;
    1f52c microscope; 1f30d globe; 1f511 key; 1f4e6 package; 1f514 bell; 1f6df ring buoy; 1f697 automobile;
    1f691 ambulance; 1f69c tractor; 26f5 sailboat; 1f335 cactus; 1f33b sunflower; 1f422 turtle; 1f980 crab
""")
UNKNOWN = table("""
    1f9c9 mate drink; 1f9aa oyster; 1faa4 mouse trap; 1f9ee abacus; 1f994 hedgehog; 1fa86 nesting dolls;
    1f3b0 slot machine; 1f3ad theatre masks; 1faa9 mirror ball; 1f9ca ice cube; 1f41a spiral shell
""")

# A row: y (of the feet, or of the middle where things lie or hang), size, how they are there, what.
Row = tuple[int, int, str, str]
SCENES: dict[str, tuple[Callable[[Rng], Array], tuple[float, float, float], list[Row]]] = {
    "kitchen_shelf": (places.kitchen_shelf, (1.0, 0.97, 0.92), [
        (284, 168, "stand", "honey pot; canned food; mate drink; bottle with popping cork"),
        (580, 184, "stand", "frying pan with egg; tangerine; banana; cheese wedge"),
    ]),
    "picnic": (places.picnic_cloth, (1.0, 0.98, 0.95), [
        (180, 172, "lie", "hamburger; strawberry; french fries"),
        (480, 170, "lie", "oyster; hot dog; pretzel; soft ice cream"),
    ]),
    "workbench": (places.workbench, (0.98, 0.95, 0.9), [
        (212, 182, "lie", "carpentry saw; hammer; screwdriver"),
        (566, 172, "stand", "toolbox; mouse trap; magnet; bucket"),
    ]),
    "desk": (places.desk, (0.96, 0.97, 1.0), [
        (190, 188, "lie", "camera; laptop; key"),
        (490, 178, "lie", "headphone; abacus; magnifying glass"),
    ]),
    "lawn": (places.lawn, (1.0, 0.99, 0.92), [
        (190, 170, "lie", "basketball; badminton; hedgehog"),
        (490, 176, "lie", "boxing glove; american football; roller skate"),
    ]),
    "toy_shelf": (places.toy_shelf, (0.98, 0.98, 1.0), [
        (270, 166, "stand", "automobile; nesting dolls; ball of yarn; ambulance"),
        (570, 176, "stand", "jack-o-lantern; tractor; slot machine; puzzle piece"),
    ]),
    "wardrobe": (places.wardrobe, (0.97, 0.96, 0.95), [
        (310, 176, "stand", "backpack; billed cap; theatre masks; handbag"),
        (590, 176, "stand", "running shoe; socks; high-heeled shoe; graduation cap"),
    ]),
    "stage": (places.stage, (1.0, 0.93, 0.86), [
        (170, 118, "hang", "mirror ball"),
        (566, 180, "stand", "guitar; radio; saxophone; violin"),
    ]),
    "fridge": (places.fridge, (0.96, 0.99, 1.02), [
        (222, 140, "stand", "ice cube; beer mug"),
        (422, 146, "stand", "avocado; broccoli; kiwi fruit"),
        (622, 150, "stand", "carrot; eggplant; ear of corn"),
    ]),
    "beach": (places.beach, (1.0, 0.99, 0.95), [
        (210, 166, "lie", "sailboat; spiral shell; turtle"),
        (480, 180, "lie", "ring buoy; bucket; crab"),
    ]),
}  # fmt: skip


class Art:
    """The unpacked packages: finds a drawing by maker and codepoints."""

    def __init__(self, packages: Path) -> None:
        self.folders: dict[str, Path] = {}
        for maker, (package, inner, _) in MAKERS.items():
            name = package.rsplit("@", 1)[0].rsplit("/", 1)[-1]
            found = [p for p in sorted(packages.glob(f"*{name}*/**/{inner}")) if p.is_dir()]
            if not found:
                sys.exit(f"{name} is not unpacked in {packages}; there:\n{self.recipe()}")
            self.folders[maker] = found[0]

    @staticmethod
    def recipe() -> str:
        return "\n".join(
            f"  npm pack {package} && mkdir -p {name} && tar xzf *{name}-*.tgz -C {name}"
            for package, name in ((p, p.rsplit("@", 1)[0].rsplit("/", 1)[-1]) for p, _, _ in MAKERS.values())
        )

    def open(self, maker: str, code: str) -> Image.Image:
        if int(hashlib.sha1(code.encode()).hexdigest()[0], 16) >= 8:
            raise ValueError(f"{code} belongs to the detector's training share")
        path = self.folders[maker] / f"{code}.{MAKERS[maker][2]}"
        return Image.open(path).convert("RGBA")


def slug(label: str) -> str:
    return label.replace(" ", "_")


def make_gallery(art: Art, out: Path) -> None:
    """One picture per maker and class, on a plain ground, and their list."""
    lines = []
    for label, code in sorted(GALLERY.items()):
        for maker, ground in GALLERY_GROUND.items():
            drawing = art.open(maker, code)
            drawing = drawing.crop(drawing.getchannel("A").getbbox())
            k = 0.84 * GALLERY_SIDE / max(drawing.size)
            size = (round(drawing.width * k), round(drawing.height * k))
            drawing = drawing.resize(size, Image.Resampling.LANCZOS)
            page = Image.new("RGB", (GALLERY_SIDE, GALLERY_SIDE), ground)
            page.paste(drawing, tuple((GALLERY_SIDE - s) // 2 for s in drawing.size), drawing)
            path = out / "gallery" / maker / f"{slug(label)}.{'png' if maker == 'twitter' else 'jpg'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if maker == "twitter":  # flat colours: a palette is small, and a second format gets tried
                page.quantize(48, dither=Image.Dither.NONE).save(path, optimize=True)
            else:
                page.save(path, quality=88)
            lines.append(f"{path.relative_to(out).as_posix()}\t{label}\n")
    (out / "gallery.txt").write_text("".join(lines), encoding="utf-8")


def spread(widths: list[int], rng: Rng) -> list[int]:
    """Left edges of a row: equal gaps, each thing moved by part of a gap, to look put there by hand."""
    gap = (places.W - 90 - sum(widths)) / (len(widths) + 1)
    x, edges = 45 + gap, []
    for w in widths:
        edges.append(round(x + rng.uniform(-0.2, 0.2) * gap))
        x += w + gap
    return edges


def make_photo(art: Art, name: str, seed: int) -> tuple[Image.Image, list[dict]]:
    """One scene: background, then its rows of objects; and where they are."""
    rng = np.random.default_rng(seed)
    background, tint, rows = SCENES[name]
    img, truth = background(rng), []
    for y, size, manner, labels in rows:
        items = []
        for label in labels.split("; "):
            angle = rng.uniform(-24, 24) if manner == "lie" else rng.uniform(-5, 5)
            gain = np.float32(tint) * np.float32(rng.uniform(0.84, 1.04))
            drawing = art.open("fluent", {**GALLERY, **UNKNOWN}[label])
            items.append((label, sprite(drawing, round(size * rng.uniform(0.76, 1.14)), angle, gain, rng)))
        edges = spread([item.shape[1] for _, item in items], rng)
        for (label, item), x in zip(items, edges, strict=True):
            shift = int(rng.uniform(-34, 34) if manner == "lie" else rng.uniform(-6, 8))
            top = y + shift - (item.shape[0] if manner == "stand" else item.shape[0] // 2)
            if manner == "hang":
                middle = x + item.shape[1] // 2
                cable(img, [(middle, 0), (middle, top + 5)], (30, 28, 32), 3)
            box = place(img, item, x, top, manner != "stand")
            truth.append({"label": label, "bbox": box, "in_gallery": label in GALLERY})
    return develop(img, rng), truth


def make_photos(art: Art, out: Path) -> None:
    (out / "photos").mkdir(parents=True, exist_ok=True)
    truth = {}
    for seed, name in enumerate(SCENES, start=1):
        picture, truth[f"photos/{name}.jpg"] = make_photo(art, name, seed)
        picture.save(out / "photos" / f"{name}.jpg", quality=86, optimize=True)
    body = ",\n".join(
        f" {json.dumps(path)}: [\n  " + ",\n  ".join(json.dumps(o) for o in objects) + "\n ]"
        for path, objects in truth.items()
    )
    (out / "photos.json").write_text("{\n" + body + "\n}\n", encoding="utf-8")
    (out / "photos.txt").write_text(query_list(truth), encoding="utf-8")


def query_list(truth: dict[str, list[dict]]) -> str:
    """The same for `shitu evaluate --query`: path, label and box of every object, also of those in no gallery."""
    return "".join(
        f"{path}\t{each['label']}\t{','.join(map(str, each['bbox']))}\n"
        for path, objects in truth.items()
        for each in objects
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packages", type=Path, required=True, help="folder of the unpacked npm packages")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[2] / "demo")
    args = parser.parse_args()
    art = Art(args.packages)
    for old in ("gallery", "photos"):  # a class taken out of the table must not stay behind
        shutil.rmtree(args.out / old, ignore_errors=True)
    make_gallery(art, args.out)
    make_photos(art, args.out)
    size = sum(p.stat().st_size for p in args.out.rglob("*") if p.is_file())
    print(f"{args.out}: {len(GALLERY)} classes, {len(SCENES)} photos, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
