"""Strongly augmented views, made on the device from photos that were decoded once."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

CUT_MIXED, PASTED, MIXED_UP = 0.15, 0.15, 0.3  # shares of the views
LOW_RESOLUTION, NOISY, GREY, ERASED = 0.15, 0.1, 0.05, 0.15


class Views:
    """Draws from a generator of its own, so that nothing else changes what is seen."""

    def __init__(self, device: torch.device, seed: int):
        self.device = device
        self.generator = torch.Generator(device).manual_seed(seed)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(*shape, device=self.device, generator=self.generator) * (high - low) + low

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, device=self.device, generator=self.generator)

    def chance(self, n: int, share: float) -> Tensor:
        """(n, 1, 1, 1) bool."""
        return self.uniform(n, 1, 1, 1) < share

    def pick(self, rows: Tensor, n: int) -> Tensor:
        """n of these rows, with repetition."""
        return rows[torch.randint(len(rows), (n,), device=self.device, generator=self.generator)]

    def windows(self, images: Tensor, side: int, smallest: float) -> Tensor:
        """(n, 3, s, s) uint8 -> (n, 3, side, side) float 0 to 255: a part of each, turned and mirrored at times."""
        n = len(images)
        area = self.uniform(n, low=smallest)
        ratio = torch.exp(self.uniform(n, low=-0.5, high=0.5))
        w, h = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
        x, y = ((1 - size) * self.uniform(n, low=-1) for size in (w, h))
        angle = math.radians(12) * self.normal(n) * (self.uniform(n) < 0.25)
        flip = torch.where(self.uniform(n) < 0.5, -1.0, 1.0)
        cos, sin = angle.cos(), angle.sin()
        rows = [torch.stack([w * cos * flip, -w * sin, x], 1), torch.stack([h * sin * flip, h * cos, y], 1)]
        grid = functional.affine_grid(torch.stack(rows, 1), [n, 3, side, side], align_corners=False)
        return functional.grid_sample(images.float(), grid, "bilinear", "reflection", align_corners=False)

    def colours(self, x: Tensor) -> Tensor:
        """Brightness, contrast, saturation and tint; at times grey, of low resolution, noisy, a part erased."""
        n, side = len(x), x.shape[-1]
        y = x * self.uniform(n, 1, 1, 1, low=0.6, high=1.4)
        mean = y.mean((1, 2, 3), keepdim=True)
        y = (y - mean) * self.uniform(n, 1, 1, 1, low=0.6, high=1.4) + mean
        grey = y.mean(1, keepdim=True)
        y = (y - grey) * self.uniform(n, 1, 1, 1, low=0.4, high=1.6) + grey
        y = y * self.uniform(n, 3, 1, 1, low=0.88, high=1.12)
        x = torch.where(self.chance(n, 0.8), y, x)
        x = torch.where(self.chance(n, GREY), x.mean(1, keepdim=True), x)
        low = max(8, side // int(2 + 3 * torch.rand(()).item()))  # one factor a batch, from the CPU's generator
        coarse = functional.interpolate(
            functional.interpolate(x, (low, low), mode="area"), (side, side), mode="bilinear"
        )
        x = torch.where(self.chance(n, LOW_RESOLUTION), coarse, x)
        noise = self.normal(n, 1, side, side) * self.uniform(n, 1, 1, 1, low=2, high=14)
        x = torch.where(self.chance(n, NOISY), x + noise, x)
        hole = self.rectangles(n, side, 0.1, 0.4) & self.chance(n, ERASED)
        return torch.where(hole, self.uniform(n, 3, 1, 1, high=255), x).clamp(0, 255)

    def rectangles(self, n: int, side: int, low: float, high: float) -> Tensor:
        """(n, 1, side, side) bool masks of random rectangles, their sides a share of the image's."""
        w, h = self.uniform(n, 1, 1, low=low, high=high), self.uniform(n, 1, 1, low=low, high=high)
        x, y = self.uniform(n, 1, 1) * (1 - w), self.uniform(n, 1, 1) * (1 - h)
        along = (torch.arange(side, device=self.device) + 0.5) / side
        across = along[None, None, :]
        down = along[None, :, None]
        return ((across > x) & (across < x + w) & (down > y) & (down < y + h))[:, None]

    def blended(self, x: Tensor) -> Tensor:
        """Parts of other views put in, whole ones pasted small, and mixup between views."""
        n, side = len(x), x.shape[-1]
        x = torch.where(self.rectangles(n, side, 0.3, 0.8) & self.chance(n, CUT_MIXED), x.roll(1, 0), x)
        mask = self.rectangles(n, side, 0.35, 0.8)
        x = torch.where(mask & self.chance(n, PASTED), fitted(x.roll(2, 0), mask), x)
        share = torch.where(self.chance(n, MIXED_UP), self.uniform(n, 1, 1, 1, low=0.5), 1.0)
        return share * x + (1 - share) * x.roll(3, 0)

    def __call__(self, images: Tensor, side: int, *, smallest: float, blend: bool) -> Tensor:
        """(n, 3, side, side) float, RGB, 0 to 255, rounded as a picture's pixels are."""
        x = self.windows(images, side, smallest)
        if blend:
            x = self.blended(x)
        return self.colours(x).round()


def fitted(x: Tensor, mask: Tensor) -> Tensor:
    """Each image scaled into the rectangle of its mask."""
    along = torch.linspace(-1, 1, x.shape[-1], device=x.device)
    columns, rows = mask.any(2)[:, 0], mask.any(3)[:, 0]
    scales, middles = [], []
    for inside in (columns, rows):
        ends = torch.where(inside, along, torch.inf).amin(1), torch.where(inside, along, -torch.inf).amax(1)
        half = ((ends[1] - ends[0]) / 2).clamp(min=0.05)
        scales.append(1 / half)
        middles.append((ends[0] + ends[1]) / 2)
    zero = torch.zeros_like(scales[0])
    theta = torch.stack(
        [
            torch.stack([scales[0], zero, -middles[0] * scales[0]], 1),
            torch.stack([zero, scales[1], -middles[1] * scales[1]], 1),
        ],
        1,
    )
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, "bilinear", "border", align_corners=False)
