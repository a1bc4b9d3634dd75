"""What drawn products are dressed with: brand logos, emoji by several makers, fonts, words and colours.

Emoji whose name hashes to 0..7 in the first hex digit belong to the demo and to tests (common/cutouts.py) and are never
in a training part; logos are parted in the same way. `ASSETS` lists the packages, all from npm.
"""

from __future__ import annotations

import colorsys
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import ImageFont

from research.common.cutouts import SKIN_TONES, Image, Rng, crop_to_alpha

ASSETS = """Folders under --assets, each an unpacked npm package:
iconify-json-logos (CC0), iconify-json-devicon, iconify-json-skill-icons (MIT): brand logos as SVG
fluent-emoji-3d (@lobehub, MIT), emoji-datasource-google (Apache-2.0), -twitter (CC BY 4.0); for training only
emoji-datasource-apple, -facebook: the same emoji by five makers
fonts (@fontsource, SIL OFL): *.woff"""
MAKERS = (
    "fluent-emoji-3d",
    "emoji-datasource-google",
    "emoji-datasource-twitter",
    "emoji-datasource-apple",
    "emoji-datasource-facebook",
)
PARTS = {"train": range(8, 16), "val": range(4), "test": range(4, 8)}
_FLAVOURS = """\
apple orange mango cherry lemon vanilla cocoa banana peach berry natural classic strawberry grapefruit coconut
honey almond rhubarb pear plum ginger melon raspberry blueberry caramel hazelnut mint chili garlic paprika onion
tomato spinach carrot original light zero extra lactose-free organic low-fat whole 0.1% 1.5% 3% 3.5% soy oat
rice creamy mild strong dark white golden red green sour sweet crunchy smooth pressed morning tropical spicy
salted roasted
"""
FLAVOURS = _FLAVOURS.split()
_KINDS = """\
juice milk yoghurt cream tea coffee soap butter cheese flour sugar rice pasta oats cereal crisps biscuits
chocolate ketchup mustard sauce soup beans water cola lemonade shampoo detergent tissues cat-food dog-food kefir
cottage-cheese sour-cream soy-milk oat-drink smoothie muesli honey jam salsa crackers nuts raisins
"""
KINDS = _KINDS.split()
_SYLLABLES = """\
ba bo bra ca co da del do fa fe fin gar go gu ha hi ja jo ka kel la li lo lun ma mi mo na ne no nor o pa pi po
ra ri ro sa si sol ta ti to tro u va ve vi wa yo za zo
"""
SYLLABLES = _SYLLABLES.split()
_FINE_PRINT = """\
net weight best before keep cool after opening use within days ingredients water sugar salt energy kJ kcal fat
protein produced in packed shake well recyclable family quality since 1924 500 ml 1 litre 250 g 100 % pure
"""
FINE_PRINT = _FINE_PRINT.split()


@dataclass
class Art:
    """The pictures and fonts of one part (train, val or test)."""

    logos: dict[str, Image]  # BGRA, 128 px or so
    emoji: dict[str, list[Image]]  # BGRA by name, one for each maker that draws it
    fonts: list[Path]
    _sized: dict[tuple[int, int], ImageFont.FreeTypeFont] = field(default_factory=dict)

    def font(self, number: int, size: int) -> ImageFont.FreeTypeFont:
        """Font `number` (any integer) at a size in pixels."""
        key = (number % len(self.fonts), max(size, 6))
        if key not in self._sized:
            self._sized[key] = ImageFont.truetype(str(self.fonts[key[0]]), key[1])
        return self._sized[key]


def part_of(name: str) -> str:
    """train, val or test, by the first hex digit of the name's SHA-1."""
    digit = int(hashlib.sha1(name.encode()).hexdigest()[0], 16)
    return next(part for part, digits in PARTS.items() if digit in digits)


def load_art(assets: Path, part: str, logo_count: int = 600, emoji_count: int = 450) -> Art:
    """Every asset of a part, in an order that depends on nothing but the names."""
    fonts = sorted((assets / "fonts").rglob("*.woff"))
    if not fonts:
        raise SystemExit(f"{assets / 'fonts'} holds no *.woff. {ASSETS}")
    return Art(_logos(assets, part, logo_count), _emoji(assets, part, emoji_count), fonts)


def by_hash(names: Iterable[str]) -> list[str]:
    """Names in an order that has nothing to do with the alphabet."""
    return sorted(names, key=lambda name: hashlib.sha1(f"order {name}".encode()).hexdigest())


def _logos(assets: Path, part: str, count: int) -> dict[str, Image]:
    from resvg_py import svg_to_bytes

    found: dict[str, Image] = {}
    for package in ("logos", "devicon", "skill-icons"):
        icons = json.loads((assets / f"iconify-json-{package}" / "icons.json").read_text(encoding="utf-8"))
        # one brand's icons, whoever drew them, are in one part: the first word of the name decides
        names = [name for name in icons["icons"] if part_of(name.split("-")[0]) == part]
        for name in by_hash(names)[: count // 3]:
            icon = icons["icons"][name]
            width, height = (icon.get(key, icons.get(key, 16)) for key in ("width", "height"))
            svg = (
                f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
                f'viewBox="{icon.get("left", 0)} {icon.get("top", 0)} {width} {height}" '
                f'width="{width}" height="{height}">{icon["body"]}</svg>'
            )
            scale = 144 / max(width, height)
            size = {"width": max(1, round(width * scale)), "height": max(1, round(height * scale))}
            try:
                png = bytes(svg_to_bytes(svg_string=svg, **size))
            except ValueError:  # a broken icon is no loss
                continue
            picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
            cropped = None if picture is None or picture.ndim != 3 else crop_to_alpha(picture)
            if cropped is not None:
                found[f"{package}:{name}"] = cropped
    return found


def _emoji(assets: Path, part: str, count: int) -> dict[str, list[Image]]:
    files: dict[str, list[Path]] = {}
    for maker in MAKERS:
        for path in sorted([*(assets / maker).rglob("*.webp"), *(assets / maker).rglob("64/*.png")]):
            name = "-".join(word for word in path.stem.lower().split("-") if word != "fe0f")
            words = set(name.split("-"))
            people_or_flag = "200d" in words or SKIN_TONES & words or any(word.startswith("1f1") for word in words)
            if not people_or_flag and not name.startswith("00") and part_of(name) == part:
                files.setdefault(name, []).append(path)
    several = by_hash(name for name, paths in files.items() if len(paths) > 2)[:count]
    pictures = {name: [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in files[name]] for name in several}
    return {
        name: [crop for p in drawn if p is not None and p.shape[2:] == (4,) and (crop := small(p)) is not None]
        for name, drawn in pictures.items()
    }


def small(picture: Image, side: int = 128) -> Image | None:
    """Cropped to what is opaque, `side` pixels at most."""
    scale = side / max(picture.shape[:2])
    if scale < 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return crop_to_alpha(picture)


def brand_word(rng: Rng) -> str:
    """A name that no shop sells, two or three syllables."""
    word = "".join(rng.choice(SYLLABLES, int(rng.integers(2, 4))))
    return str(rng.choice([word.upper(), word.title(), word]))


def colour(rng: Rng, vivid: float = 0.6) -> tuple[int, int, int]:
    """BGR: mostly a strong colour, else near white, black or pale."""
    hue, kind = rng.random(), rng.random()
    if kind < vivid:
        rgb = colorsys.hsv_to_rgb(hue, rng.uniform(0.6, 1), rng.uniform(0.45, 1))
    elif kind < vivid + (1 - vivid) / 2:
        rgb = colorsys.hsv_to_rgb(hue, rng.uniform(0, 0.15), rng.uniform(0.85, 1))
    else:
        rgb = colorsys.hsv_to_rgb(hue, rng.uniform(0, 0.6), rng.uniform(0.05, 0.3))
    return int(rgb[2] * 255), int(rgb[1] * 255), int(rgb[0] * 255)


def contrasting(rng: Rng, ground: tuple[int, int, int]) -> tuple[int, int, int]:
    """A colour that can be read on `ground`."""
    for _ in range(20):
        tried = colour(rng, 0.45)
        if abs(int(np.dot(tried, (0.11, 0.59, 0.3))) - int(np.dot(ground, (0.11, 0.59, 0.3)))) > 90:
            return tried
    return (255, 255, 255) if sum(ground) < 380 else (10, 10, 10)
