"""Training pictures for the detector, made on the device: photos, mosaics of four, and shelves of pasted crops."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from research.gpu_job.job.packed import TRAIN, Pack
from research.gpu_job.job.views import Views

SHARES = (0.45, 0.35, 0.2)  # of photos, mosaics, shelves
VISIBLE = 0.4  # a box of which less is left is no object any more
SMALLEST = 5.0  # pixels
SHELF = 7  # crops pasted at most
MAIN_AGAIN = 2  # how often more photos with one main thing are shown whole than the others
BOXES = 64


@dataclass(frozen=True)
class Batch:
    """images (n, 3, s, s) float 0 to 255; truth (n, g, 4) xyxy pixels; real, crowd (n, g) bool; background (n,).

    `background`: the weight of what no box covers; 1 where every object has a box.
    """

    images: Tensor
    truth: Tensor
    real: Tensor
    crowd: Tensor
    background: Tensor


class DetectorViews(Views):
    """Batches of `side` x `side` pixels."""

    def __init__(self, pack: Pack, device: torch.device, seed: int, side: int):
        super().__init__(device, seed)
        self.images, self.side = pack.images, side
        self.boxes, self.real, self.crowd = (t.to(device) for t in (pack.boxes, pack.real, pack.crowd))
        self.background = pack.background.to(device)
        rows = pack.rows(TRAIN)
        self.boxed = rows[pack.background[rows] > 0].to(device)
        main = pack.rows(TRAIN, "ecssd").to(device)
        self.shown = torch.cat([self.boxed, *[main] * MAIN_AGAIN])
        crops = rows[pack.background[rows] == 0]
        crops = crops[pack.label[crops] >= 0]
        self.crops = (crops if len(crops) else rows).to(device)

    def batch(self, n: int) -> Batch:
        singles, mosaics = round(SHARES[0] * n), round(SHARES[1] * n)
        parts = [self.photos(singles), self.mosaics(mosaics), self.shelves(n - singles - mosaics)]
        most = max(part.truth.shape[1] for part in parts)
        fields = []
        for name in ("images", "truth", "real", "crowd", "background"):
            tensors = [getattr(part, name) for part in parts]
            if name in ("truth", "real", "crowd"):
                tensors = [padded(t, most) for t in tensors]
            fields.append(torch.cat(tensors))
        return fewest(Batch(self.colours(fields[0]), *fields[1:]))

    def placed(self, rows: Tensor, place: tuple[Tensor, Tensor, Tensor, Tensor]) -> Batch:
        """Photos drawn into (left, top, w, h) of the pictures; what falls outside is cut off.

        All (n,) in shares of the picture; grey where no photo is.
        """
        n, side = len(rows), self.side
        left, top, w, h = place
        flip = torch.where(self.uniform(n) < 0.5, -1.0, 1.0)
        zero = torch.zeros_like(w)
        across = torch.stack([flip / w, zero, flip * (1 - 2 * left - w) / w], 1)
        down = torch.stack([zero, 1 / h, (1 - 2 * top - h) / h], 1)
        grid = functional.affine_grid(torch.stack([across, down], 1), [n, 3, side, side], align_corners=False)
        photos = functional.grid_sample(self.images[rows].float() - 114, grid, "bilinear", "zeros", align_corners=False)
        boxes = self.boxes[rows]
        mirrored = torch.stack([1 - boxes[..., 2], boxes[..., 1], 1 - boxes[..., 0], boxes[..., 3]], -1)
        boxes = torch.where(flip[:, None, None] < 0, mirrored, boxes)
        scale, shift = torch.stack([w, h, w, h], 1)[:, None], torch.stack([left, top, left, top], 1)[:, None]
        truth, real = clipped((boxes * scale + shift) * side, side)
        return Batch(photos + 114, truth, self.real[rows] & real, self.crowd[rows] & real, self.background[rows])

    def photos(self, n: int) -> Batch:
        """One photo, up to 1.9 times as large as the picture, or down to 0.6 of it."""
        size = torch.exp(self.uniform(n, low=-0.5, high=0.65))
        ratio = torch.exp(self.uniform(n, low=-0.2, high=0.2))
        w, h = size * ratio, size / ratio
        left, top = ((1 - extent) * self.uniform(n) for extent in (w, h))
        return self.placed(self.pick(self.shown, n), (left, top, w, h))

    def mosaics(self, n: int) -> Batch:
        """Four photos around a random middle, each near its own resolution."""
        x, y = self.uniform(n, low=0.3, high=0.7), self.uniform(n, low=0.3, high=0.7)
        zero = torch.zeros_like(x)
        corners = [(zero, zero, x, y), (x, zero, 1 - x, y), (zero, y, x, 1 - y), (x, y, 1 - x, 1 - y)]
        quarters = [self.placed(self.pick(self.boxed, n), corner) for corner in corners]
        image = quarters[0].images
        along = (torch.arange(self.side, device=self.device) + 0.5) / self.side
        right, below = (along[None] > x[:, None])[:, None, None], (along[None] > y[:, None])[:, None, :, None]
        for quarter, mask in zip(quarters[1:], (right & ~below, ~right & below, right & below), strict=True):
            image = torch.where(mask, quarter.images, image)
        truth, real, crowd = (torch.cat([getattr(q, k) for q in quarters], 1) for k in ("truth", "real", "crowd"))
        return Batch(image, truth, real, crowd, torch.stack([q.background for q in quarters]).amin(0))

    def shelves(self, n: int) -> Batch:
        """Crops of products side by side in a row or two, on a photo's blurred texture; every one has its box."""
        ground = self.windows(self.images[self.pick(self.boxed, n)], self.side, 0.02)
        ground = functional.interpolate(functional.avg_pool2d(ground, 8), (self.side, self.side), mode="bilinear")
        truth = torch.zeros(n, SHELF, 4, device=self.device)
        cell = 1 / (SHELF // 2 + 1)
        for i in range(SHELF):
            row, column = divmod(i, SHELF // 2 + 1)
            w, h = self.uniform(n, low=0.6, high=1.05) * cell, self.uniform(n, low=0.22, high=0.5)
            left = column * cell + self.uniform(n, low=0, high=0.2) * cell
            top = row * 0.5 + (0.5 - h).clamp(min=0) * self.uniform(n)
            there = self.uniform(n) < 0.85
            w = torch.where(there, w, 1e-4)
            crop = self.placed(self.pick(self.crops, n), (left, top, w, h))
            box = torch.stack([left, top, left + w, top + h], 1) * self.side
            ground = torch.where(inside(box, self.side), crop.images, ground)
            truth[:, i] = box
        truth, real = clipped(truth, self.side)
        crowd = torch.zeros_like(real)
        return Batch(ground, truth, hidden_less(truth, real), crowd, torch.ones(n, device=self.device))


def inside(box: Tensor, side: int) -> Tensor:
    """(n, 1, side, side) bool of (n, 4) xyxy."""
    along = torch.arange(side, device=box.device) + 0.5
    x1, y1, x2, y2 = (box[:, i, None] for i in range(4))
    return (((along > y1) & (along < y2))[:, :, None] & ((along > x1) & (along < x2))[:, None])[:, None]


def clipped(boxes: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Boxes cut at the picture's edges, and which of them are still objects."""
    kept = boxes.clamp(0, side)
    area, left = ((b[..., 2:] - b[..., :2]).clamp(min=0).prod(-1) for b in (boxes, kept))
    large = (kept[..., 2:] - kept[..., :2]).amin(-1) >= SMALLEST
    return kept, (left >= VISIBLE * area) & large


def hidden_less(truth: Tensor, real: Tensor) -> Tensor:
    """Not those of which a later one covers more than half."""
    corner = torch.maximum(truth[:, :, None, :2], truth[:, None, :, :2])
    overlap = (torch.minimum(truth[:, :, None, 2:], truth[:, None, :, 2:]) - corner).clamp(min=0).prod(-1)
    later = torch.ones(truth.shape[1], truth.shape[1], dtype=torch.bool, device=truth.device).triu(1)
    covered = (overlap * (later & real[:, None])).amax(2) / (truth[..., 2:] - truth[..., :2]).prod(-1).clamp(min=1)
    return real & (covered < 0.5)


def padded(boxes: Tensor, most: int) -> Tensor:
    """(n, g, ...) with zeros up to (n, most, ...)."""
    rest = boxes.new_zeros(boxes.shape[0], most - boxes.shape[1], *boxes.shape[2:])
    return torch.cat([boxes, rest], 1)


def fewest(batch: Batch) -> Batch:
    """Objects first, and no more columns than BOXES: a loss costs memory per column."""
    order = (batch.real.int() * 2 + batch.crowd.int()).argsort(dim=1, descending=True, stable=True)[:, :BOXES]
    truth = batch.truth.gather(1, order[..., None].expand(-1, -1, 4))
    return Batch(batch.images, truth, batch.real.gather(1, order), batch.crowd.gather(1, order), batch.background)
