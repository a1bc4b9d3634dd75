"""Procedural backgrounds of the demo photos, one function a place (used by make.py)."""

from __future__ import annotations

import cv2
import numpy as np

from research.common.drawing import (
    Array,
    Colour,
    H,
    Rng,
    W,
    blend,
    blurred_box,
    cable,
    card,
    crumbs,
    darken,
    flat,
    lighten,
    noise,
    paper,
    plaster,
    polygon,
    rotated_box,
    stain,
    wood,
)


def board(img: Array, rng: Rng, y: int, colour: Colour, thick: int = 20) -> None:
    """A shelf board seen from a little above: its top from y - 26 to y + 12, then the front edge."""
    top, front = y + 12, y + 12 + thick
    band = np.zeros((H, W), np.float32)
    depth = len(img[front : front + 34])
    band[front : front + 34] = np.linspace(1, 0, depth, dtype=np.float32)[:, None]
    img *= 1 - 0.38 * band[..., None]  # the shadow the board throws on the wall below it
    surface = wood(rng, 38, W, colour) * np.linspace(0.74, 1.0, 38, dtype=np.float32)[:, None, None]
    img[top - 38 : top] = surface
    img[top:front] = wood(rng, thick, W, colour)[: len(img[top:front])] * 0.86
    img[top : top + 2] *= 1.16


def kitchen_shelf(rng: Rng) -> Array:
    img = plaster(rng, H, W, (214, 221, 208))
    for y in range(0, H, 74):  # glazed tiles, every second row shifted
        img[y : y + 3] *= 0.93
        for x in range((y // 74 % 2) * 60, W, 120):
            img[y : y + 74, x : x + 3] *= 0.94
    blurred_box(img, (792, 290, 74, 170), (176, 150, 118))
    blurred_box(img, (22, 290, 60, 120), (150, 170, 166))
    blurred_box(img, (430, 585, 90, 110), (186, 176, 160))
    board(img, rng, 290, (186, 138, 92))
    board(img, rng, 585, (186, 138, 92), thick=26)
    card(img, "FRESH\ntoday", (212, 78, -4), 20)
    card(img, "1.29", (330, 311, 0), 15)
    card(img, "2.75", (610, 311, 0), 15)
    lighten(img, 250, 120, 420, 0.16)
    return img


def toy_shelf(rng: Rng) -> Array:
    img = plaster(rng, H, W, (190, 208, 224))
    for x in range(-10, W, 90):  # striped wallpaper
        img[:, max(0, x) : x + 45] *= 1.045
    blurred_box(img, (380, 276, 80, 150), (205, 190, 150))
    blurred_box(img, (40, 576, 130, 90), (196, 170, 170))
    board(img, rng, 276, (224, 206, 176))
    board(img, rng, 576, (224, 206, 176), thick=26)
    card(img, "ABC\n123", (448, 70, 5), 24)
    paper(img, (770, 80, 110, 80, -7), (243, 226, 160))
    lighten(img, 700, 80, 400, 0.14)
    return img


def wardrobe(rng: Rng) -> Array:
    img = wood(rng, H, W, (198, 172, 140)) * 0.9
    cable(img, [(0, 24), (450, 24), (899, 24)], (150, 150, 156), 12)  # the rail
    for x, colour in ((96, (150, 120, 120)), (230, (120, 134, 150)), (700, (164, 150, 118))):
        mask = polygon([(x, 34), (x + 96, 34), (x + 118, 100), (x - 18, 100)])
        blend(img, mask * 0.75, colour, 6)  # hems of what hangs there, out of focus
    board(img, rng, 316, (228, 222, 212))
    board(img, rng, 596, (228, 222, 212), thick=30)
    img[:, :26] *= 0.8
    img[:, -26:] *= 0.74
    card(img, "SALE -20 %", (150, 345, 0), 16)
    lighten(img, 450, 420, 420, 0.1)
    return img


def fridge(rng: Rng) -> Array:
    rows = np.linspace(1.04, 0.9, H, dtype=np.float32)[:, None, None]
    img = flat(H, W, (222, 231, 236)) * rows + noise(rng, H, W, 120, 160)[..., None] * 3
    for x in (60, 840):  # the ribs that carry the shelves
        img[:, x : x + 6] *= 0.93
    for y in (228, 428):
        img[y - 22 : y + 12] = img[y - 22 : y + 12] * 0.55 + np.float32([196, 222, 226]) * 0.42  # glass
        img[y + 12 : y + 24] = np.float32([168, 190, 196])
        img[y + 13 : y + 15] = 240
        img[y + 24 : y + 50] *= np.linspace(0.86, 1, 26, dtype=np.float32)[:, None, None]
    drawer = polygon([(40, 634), (860, 634), (880, 674), (20, 674)])
    img[610:640] *= 0.9
    blend(img, drawer, (204, 216, 220))
    blurred_box(img, (90, 216, 62, 120), (196, 206, 170), 6)
    blurred_box(img, (760, 416, 76, 110), (214, 180, 150), 6)
    card(img, "eat by Friday", (668, 442, 0), 14)
    lighten(img, 450, 0, 300, 0.1)
    return img


def picnic_cloth(rng: Rng) -> Array:
    yy, xx = np.mgrid[0:H, 0:W].astype(np.float32)
    bend = 5 * noise(rng, H, W, 170, 170)
    u, v = (xx * 0.97 + yy * 0.2 + bend) / 42, (yy * 0.97 - xx * 0.2 + bend) / 42
    stripes = 0.5 * ((np.floor(u) % 2) + (np.floor(v) % 2))  # gingham: 0, half or full colour
    img = flat(H, W, (238, 234, 224))
    img += stripes[..., None] * (np.float32([120, 152, 176]) - img)
    img += (4 * np.sin(xx * 2.1) * np.sin(yy * 2.1))[..., None]  # the weave
    img *= (1 + 0.07 * noise(rng, H, W, 110, 260))[..., None]  # folds
    paper(img, (120, 560, 190, 150, 17), (246, 240, 226))
    crumbs(img, rng, (470, 350, 60), (196, 150, 96), 40)
    card(img, "MENU\nburger  5.90\nfries   2.50", (792, 92, 8), 17)
    stain(img, 300, 345, 36, 0.12)
    return img


def desk(rng: Rng) -> Array:
    img = wood(rng, H, W, (176, 144, 112), plank=168)
    mat = polygon(rotated_box((410, 340, 620, 400, -2)))
    darken(img, mat, 0.3, 6, (4, 6))
    blend(img, mat, flat(H, W, (92, 104, 112)) + 3 * noise(rng, H, W, 2, 2)[..., None])
    paper(img, (770, 190, 190, 250, 9), (240, 238, 230))
    for i in range(8):  # ruled lines
        y = 110 + 22 * i
        cv2.line(img, (700 - 3 * i, y - 6), (848 - 3 * i, y + 18), (196, 204, 216), 2, cv2.LINE_AA)
    paper(img, (92, 600, 92, 92, -11), (242, 222, 128))
    cable(img, [(0, 250), (160, 420), (240, 130), (420, 380), (470, 674)], (52, 52, 58), 6)
    card(img, "call Anna\n16:30", (92, 600, -11), 14)
    stain(img, 828, 420, 34)
    return img


def lawn(rng: Rng) -> Array:
    img = flat(H, W, (92, 124, 62)) + 16 * noise(rng, H, W, 90, 120)[..., None]
    for _ in range(15000):  # blades, lighter ones last so that they lie on top
        x, y = int(rng.integers(0, W)), int(rng.integers(0, H + 14))
        tone = rng.uniform(0.72, 1.18)
        blade = (tone * np.array([98, 136, 62]) + rng.uniform(-10, 10, 3)).tolist()
        tip = (x + int(rng.normal(0, 5)), y - int(rng.integers(8, 18)))
        cv2.line(img, (x, y), tip, blade, 1, cv2.LINE_AA)
    img = cv2.GaussianBlur(img, (0, 0), 0.8)
    crumbs(img, rng, (450, 330, 260), (226, 222, 190), 30)  # daisies
    paper(img, (800, 90, 90, 120, 24), (226, 222, 206))
    cable(img, [(0, 640), (260, 560), (420, 720), (620, 640)], (206, 178, 74), 9)  # a garden hose
    lighten(img, 250, 150, 380, 0.16)
    return img


def workbench(rng: Rng) -> Array:
    img = plaster(rng, H, W, (196, 184, 164))
    for y in range(18, 390, 36):  # pegboard holes
        for x in range(18, W, 36):
            cv2.circle(img, (x, y), 3, (112, 100, 86), -1, cv2.LINE_AA)
    img[400:] = wood(rng, H - 400, W, (170, 124, 80), plank=92)
    img[400:430] *= np.linspace(0.7, 1, 30, dtype=np.float32)[:, None, None]
    paper(img, (90, 110, 120, 150, -4), (176, 196, 214))  # a drawing pinned up
    for i in range(4):
        cv2.rectangle(img, (56 + 8 * i, 64 + 20 * i), (120, 150), (226, 234, 240), 1, cv2.LINE_AA)
    cable(img, [(899, 380), (760, 560), (640, 600), (560, 674)], (196, 120, 50), 8)
    crumbs(img, rng, (380, 620, 70), (226, 196, 150), 60)  # sawdust
    card(img, "caution: sharp", (800, 60, 3), 18)
    lighten(img, 450, 150, 420, 0.14)
    return img


def stage(rng: Rng) -> Array:
    xx = np.arange(W, dtype=np.float32)[None, :]
    folds = np.sin(xx / 19 + 2 * np.sin(xx / 83)) * 0.2 + 0.9
    img = flat(H, W, (116, 62, 62)) * folds[..., None]
    img += 5 * noise(rng, H, W, 90, 8)[..., None]
    img[430:] = wood(rng, H - 430, W, (142, 108, 78), plank=82)
    img[430:466] *= np.linspace(0.55, 1, 36, dtype=np.float32)[:, None, None]
    cable(img, [(0, 660), (200, 560), (420, 700), (700, 560), (899, 650)], (40, 40, 44), 7)
    paper(img, (830, 610, 120, 84, -16), (206, 202, 192))
    card(img, "SET LIST\n1 Intro\n2 Blue", (96, 610, 9), 14)
    lighten(img, 330, 300, 300, 0.34)
    lighten(img, 650, 300, 220, 0.22)
    return img


def beach(rng: Rng) -> Array:
    yy, xx = np.mgrid[0:H, 0:W].astype(np.float32)
    ripple = np.sin((yy + 16 * noise(rng, H, W, 60, 140) + 0.12 * xx) / 9)
    img = flat(H, W, (222, 200, 160)) + (3.5 * ripple + 7 * noise(rng, H, W, 1.5, 1.5))[..., None]
    img += 7 * noise(rng, H, W, 120, 170)[..., None]
    shore = 92 + 18 * np.sin(xx / 120) + 8 * np.sin(xx / 37)
    wet = np.clip((shore + 50 - yy) / 46, 0, 1) * 0.35
    img *= 1 - wet[..., None] * np.float32([0.5, 0.45, 0.35])
    sea = flat(H, W, (112, 172, 186)) + (10 * noise(rng, H, W, 8, 60))[..., None]
    blend(img, (yy < shore - 8).astype(np.float32), sea, 3)
    blend(img, (np.abs(yy - shore + 4) < 5).astype(np.float32) * 0.8, (246, 248, 244), 2.5)  # foam
    crumbs(img, rng, (450, 420, 220), (176, 156, 126), 60)
    cable(img, [(899, 520), (760, 640), (640, 560), (560, 674)], (206, 176, 130), 7)  # a rope end
    paper(img, (60, 626, 190, 130, 22), (206, 120, 104))  # the corner of a towel
    return img
