"""A design seen from somewhere: boxes, gable cartons, round bodies and pouches in perspective, as BGRA cut-outs."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from research.common.cutouts import Image, Rng, crop_to_alpha
from research.common.products import round_shading
from research.recogniser.designs import Colour, Design

SIDE = 360  # of the canvas a view is drawn on
LIGHT = np.float32([-0.35, 0.55, 0.75])


@dataclass(frozen=True)
class Product:
    """A design with its faces drawn once."""

    design: Design
    front: Image
    side: Image
    cap: Colour


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """(3, 3): turned about the upright axis, then towards the viewer, then in the picture; radians."""
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (yaw, pitch, roll))
    about_y = np.float32([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.float32([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.float32([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_z @ about_x @ about_y


def view(rng: Rng, product: Product, yaw: float, pitch: float, roll: float) -> Image:
    """The product from that side, cropped to what is opaque; BGRA uint8."""
    shape = product.design.shape
    if shape in ("carton", "box"):
        canvas = _box(rng, product, rotation(yaw, pitch, roll), gable=shape == "carton")
    else:
        flat = _pouch(rng, product) if shape == "pouch" else _round(rng, product, yaw)
        yaw = yaw if shape == "pouch" else yaw * 0.15
        canvas = _flat(flat, product.design.size, rotation(yaw, pitch, roll))
    canvas[..., 3] = cv2.GaussianBlur(canvas[..., 3], (3, 3), 0)
    cropped = crop_to_alpha(canvas)
    return canvas if cropped is None else cropped


def _project(points: np.ndarray, turn: np.ndarray, scale: float) -> np.ndarray:
    """(n, 3) with y up and z to the viewer -> (n, 2) pixels on the canvas."""
    turned = points @ turn.T
    depth = 5.0 / (5.0 - turned[:, 2])
    return np.float32(np.stack([turned[:, 0], -turned[:, 1]], 1) * depth[:, None] * scale + SIDE / 2)


def _face(canvas: Image, texture: Image, corners: np.ndarray, light: float) -> None:
    """Warp a texture onto corners (4, 2), clockwise from the top left."""
    h, w = texture.shape[:2]
    # shrink first where the face is much smaller than its texture, else letters crumble
    factor = max(np.ptp(corners[:, 0]) / w, np.ptp(corners[:, 1]) / h)
    if factor < 0.7:
        texture = cv2.resize(texture, None, fx=max(factor, 0.05), fy=max(factor, 0.05), interpolation=cv2.INTER_AREA)
        h, w = texture.shape[:2]
    matrix = cv2.getPerspectiveTransform(np.float32([(0, 0), (w, 0), (w, h), (0, h)]), np.float32(corners))
    lit = np.clip(texture.astype(np.float32) * light, 0, 255).astype(np.uint8)
    warped = cv2.warpPerspective(lit, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillConvexPoly(mask, np.int32(np.round(corners)), 255)
    canvas[mask > 0] = np.dstack([warped, mask])[mask > 0]


def _box(rng: Rng, product: Product, turn: np.ndarray, gable: bool) -> Image:
    """Front, side, back, top and bottom, and on a carton a gable roof with its fin and often a cap."""
    w, h, d = (v / 2 for v in product.design.size)
    scale = SIDE * 0.4 / np.hypot(np.hypot(w, h * (1.25 if gable else 1)), d)
    ground = np.full((8, 8, 3), product.design.ground, np.uint8)
    quads = [  # texture, corners clockwise from the top left as seen from outside
        (product.front, [(-w, h, d), (w, h, d), (w, -h, d), (-w, -h, d)]),
        (product.side, [(w, h, d), (w, h, -d), (w, -h, -d), (w, -h, d)]),
        (product.side, [(-w, h, -d), (-w, h, d), (-w, -h, d), (-w, -h, -d)]),
        (ground, [(-w, -h, d), (w, -h, d), (w, -h, -d), (-w, -h, -d)]),
    ]
    if gable:
        ridge, fin = h + d * 0.9, h + d * 0.9 + 0.25 * d
        roof = product.front[: max(8, product.front.shape[0] // 5)]
        quads += [
            (ground, [(w, ridge, 0.02), (w, ridge, -0.02), (w, h, -d), (w, h, d)]),
            (ground, [(-w, ridge, -0.02), (-w, ridge, 0.02), (-w, h, d), (-w, h, -d)]),
            (roof, [(-w, ridge, 0), (w, ridge, 0), (w, h, d), (-w, h, d)]),
            (ground, [(-w, fin, 0), (w, fin, 0), (w, ridge, 0), (-w, ridge, 0)]),
        ]
    else:
        quads.append((ground, [(-w, h, -d), (w, h, -d), (w, h, d), (-w, h, d)]))
    canvas = np.zeros((SIDE, SIDE, 4), np.uint8)
    order = sorted(quads, key=lambda quad: float((np.float32(quad[1]) @ turn.T)[:, 2].mean()))
    for texture, corners in order:
        points = np.float32(corners)
        normal = np.cross(points[1] - points[0], points[0] - points[3]) @ turn.T
        normal = normal / (np.linalg.norm(normal) + 1e-9)
        flat = _project(points, turn, scale)
        area = np.cross(np.append(flat[1] - flat[0], 0), np.append(flat[2] - flat[0], 0))[2]
        if area > 2 or texture is ground:  # backs are not drawn
            _face(canvas, texture, flat, 0.62 + 0.45 * max(0.0, float(normal @ LIGHT)))
    if gable and product.cap is not None:
        _cap(canvas, product.cap, (0, h + d * 0.5, d * 0.55), min(w, d) * 0.38, turn=turn, scale=scale)
    return canvas


def _cap(
    canvas: Image, tone: Colour, at: tuple[float, float, float], r: float, *, turn: np.ndarray, scale: float
) -> None:
    """A screw cap on the front roof: two discs along the roof's normal."""
    around = np.linspace(0, 2 * np.pi, 24)
    slope = np.float32([0, 0.74, 0.67])
    for step, light in ((0.0, 0.6), (0.5, 0.75), (0.9, 1.0)):
        ring = np.float32(at) + slope * r * step
        disc = ring + r * (np.outer(np.cos(around), [1, 0, 0]) + np.outer(np.sin(around), [0, 0.67, -0.74]))
        flat = np.int32(_project(np.float32(disc), turn, scale))
        cv2.fillPoly(canvas, [flat], (*(int(c * light) for c in tone), 255), cv2.LINE_AA)


def _round(rng: Rng, product: Product, yaw: float) -> Image:
    """The art wrapped round a body of revolution and seen from `yaw`, with neck, lid and shading; BGRA."""
    design, art = product.design, product.front
    h, w = art.shape[:2]
    seed = np.random.default_rng(design.seed + 5)
    angle = np.arcsin(np.linspace(-1, 1, w)) - yaw  # the label goes round 150 degrees to each side
    columns = (angle / 2.6 + 0.5) * (w - 1) * 1.0
    wide = np.clip(columns, 0, w - 1).astype(np.float32)
    body = cv2.remap(
        art, np.tile(wide, (h, 1)), np.tile(np.arange(h, dtype=np.float32)[:, None], (1, w)), cv2.INTER_LINEAR
    )
    body[:, (columns < 0) | (columns > w - 1)] = design.ground
    lid = int(h * seed.uniform(0.05, 0.12))
    if design.shape == "bottle":
        shoulder = int(h * seed.uniform(0.4, 0.6))
        glass = np.full((shoulder, w, 3), np.float32(product.cap) * 0.5 + np.float32(design.ground) * 0.5, np.uint8)
        body, knots = np.vstack([glass, body]), [0.0, 0.06, 0.16, shoulder / (h + shoulder), 0.97, 1]
        halves = [seed.uniform(0.25, 0.4)] * 2 + [seed.uniform(0.28, 0.5), 1, 1, 0.9]
    elif design.shape == "tub":
        knots, halves = [0.0, 0.08, 0.1, 1], [1.0, 1, 0.95, seed.uniform(0.7, 0.95)]
    else:
        knots, halves = [0.0, 0.05, 0.95, 1], [0.86, 1.0, 1.0, 0.88]
    h = body.shape[0]
    body[:lid] = np.float32(product.cap) if design.shape != "can" else (190, 190, 195)
    half = np.interp(np.linspace(0, 1, h), knots, halves)[:, None] * (w - 1) / 2
    inside = np.abs(np.arange(w) - (w - 1) / 2)[None] <= half
    lit = np.clip(body * round_shading(rng, w)[None, :, None], 0, 255).astype(np.uint8)
    return np.dstack([lit, inside.astype(np.uint8) * 255])


def _pouch(rng: Rng, product: Product) -> Image:
    """A bag: folds in light and shade, a wavy outline; BGRA."""
    h, w = product.front.shape[:2]
    folds = cv2.resize(rng.uniform(0.7, 1.25, (5, 4)).astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
    lit = np.clip(product.front * folds[..., None], 0, 255).astype(np.uint8)
    wave = np.interp(np.linspace(0, 1, h), np.linspace(0, 1, 7), rng.uniform(0, 0.06, 7) * w)[:, None]
    x = np.arange(w)[None]
    return np.dstack([lit, ((x >= wave) & (x < w - wave)).astype(np.uint8) * 255])


def _flat(picture: Image, size: tuple[float, float, float], turn: np.ndarray) -> Image:
    """A flat BGRA picture in perspective."""
    ph, pw = picture.shape[:2]
    w = size[0] / 2
    h = w * ph / pw
    scale = SIDE * 0.42 / np.hypot(w, h)
    corners = _project(np.float32([(-w, h, 0), (w, h, 0), (w, -h, 0), (-w, -h, 0)]), turn, scale)
    matrix = cv2.getPerspectiveTransform(np.float32([(0, 0), (pw, 0), (pw, ph), (0, ph)]), corners)
    factor = 2 * h * scale / ph
    if factor < 0.7:
        picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        small = picture.shape[:2]
        matrix = matrix @ np.diag([pw / small[1], ph / small[0], 1.0])
    return cv2.warpPerspective(picture, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
