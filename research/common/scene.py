"""A scene: cut-outs pasted on a picture, with the boxes of what stays visible of them."""

from __future__ import annotations

import cv2
import numpy as np

from research.common.cutouts import Image, Rng

LEAST_VISIBLE = 0.35
NO_BOXES = np.zeros((0, 4), np.float32)


class Scene:
    """A picture with the objects in it: pasted ones by their pixels, those of a photo by their boxes."""

    def __init__(self, image: Image, boxes: np.ndarray = NO_BOXES):
        self.image = image
        self.photo_boxes = boxes
        self.owner = np.zeros(image.shape[:2], np.int16)
        self.areas: list[int] = []  # pixels of each pasted object, those outside the picture included

    def paste(self, cutout: Image, x: int, y: int, shadow: float) -> None:
        h, w = cutout.shape[:2]
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, self.image.shape[1]), min(y + h, self.image.shape[0])
        self.areas.append(int((cutout[..., 3] > 127).sum()))
        if x1 <= x0 or y1 <= y0:
            return
        if shadow:
            self._shade(cutout[..., 3], x + int(w * 0.04), y + int(h * 0.05), shadow)
        part = cutout[y0 - y : y1 - y, x0 - x : x1 - x]
        alpha = part[..., 3:].astype(np.float32) / 255
        under = self.image[y0:y1, x0:x1]
        under[:] = under + (part[..., :3] - under.astype(np.float32)) * alpha
        self.owner[y0:y1, x0:x1][part[..., 3] > 127] = len(self.areas)

    def _shade(self, alpha: Image, x: int, y: int, strength: float) -> None:
        h, w = alpha.shape
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, self.image.shape[1]), min(y + h, self.image.shape[0])
        if x1 > x0 and y1 > y0:
            soft = cv2.blur(alpha, (9, 9))[y0 - y : y1 - y, x0 - x : x1 - x, None]
            under = self.image[y0:y1, x0:x1]
            under[:] = under * (1 - soft * (strength / 255))

    def boxes(self) -> np.ndarray:
        """Boxes of what is visible enough: of pasted objects by pixels, of the photo's own if mostly uncovered."""
        found = [box for box in self.photo_boxes if self._uncovered(box) > 0.5]
        for number, area in enumerate(self.areas, 1):
            ys, xs = np.nonzero(self.owner == number)
            if len(ys) > max(40, LEAST_VISIBLE * area):
                found.append(np.float32([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]))
        return np.array(found, np.float32).reshape(-1, 4)

    def _uncovered(self, box: np.ndarray) -> float:
        x0, y0, x1, y1 = box.astype(int)
        return float((self.owner[y0:y1, x0:x1] == 0).mean()) if x1 > x0 and y1 > y0 else 0.0


def levels(contrast: float, brightness: float) -> np.ndarray:
    return np.clip(np.arange(256) * contrast + brightness, 0, 255).astype(np.uint8)


def transformed(rng: Rng, cutout: Image, width: int, height: int, angle: float) -> Image:
    """The cut-out resized, maybe mirrored, turned and with its light changed."""
    cutout = cv2.resize(cutout, (max(width, 4), max(height, 4)), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        cutout = cutout[:, ::-1]
    if angle:
        h, w = cutout.shape[:2]
        matrix = cv2.getRotationMatrix2D((w / 2, h / 2), angle, 1)
        cos, sin = abs(matrix[0, 0]), abs(matrix[0, 1])
        size = (int(h * sin + w * cos), int(h * cos + w * sin))
        matrix[:, 2] += (size[0] - w) / 2, (size[1] - h) / 2
        cutout = cv2.warpAffine(cutout, matrix, size)
    if rng.random() < 0.3:
        cutout = _tilted(rng, cutout)
    cutout = cutout.copy()
    cutout[..., :3] = levels(rng.uniform(0.65, 1.25), rng.uniform(-25, 25))[cutout[..., :3]]
    if rng.random() < 0.2:
        cutout = cv2.blur(cutout, (3, 3))
    return cutout


def _tilted(rng: Rng, cutout: Image) -> Image:
    """Seen a little from above, below or the side."""
    h, w = cutout.shape[:2]
    corners = np.float32([(0, 0), (w, 0), (w, h), (0, h)])
    moved = corners + np.sign(np.float32([w, h]) / 2 - corners) * rng.uniform(0, 0.18, (4, 2)) * [w, h]
    return cv2.warpPerspective(cutout, cv2.getPerspectiveTransform(corners, np.float32(moved)), (w, h))


def hold(rng: Rng, scene: Scene) -> None:
    """A hand, as crude as four fingers and an arm in the colour of skin, around the object pasted last."""
    ys, xs = np.nonzero(scene.owner == len(scene.areas))
    if len(ys) < 100:
        return
    skin = np.float32([150, 175, 225]) * rng.uniform(0.35, 1.1) + rng.normal(0, 10, 3)
    left, top, thick = xs.min() if rng.random() < 0.5 else xs.max(), int(ys.min()), int(np.ptp(ys) * 0.09) + 3
    inward = 1 if left == xs.min() else -1
    hand = np.zeros(scene.owner.shape, np.uint8)
    y = top + int(np.ptp(ys) * rng.uniform(0.2, 0.7))
    arm = (int(left - inward * rng.uniform(2, 9) * thick), y + int(rng.uniform(3, 14) * thick))
    cv2.line(hand, (int(left - inward * thick), y + 2 * thick), arm, 255, int(thick * rng.uniform(2.5, 4)))
    for finger in range(4):
        tip = (int(left + inward * thick * rng.uniform(0.5, 4)), y + finger * thick + int(rng.normal(0, 1)))
        cv2.line(hand, (int(left - inward * thick), y + finger * thick), tip, 255, max(1, thick - 2), cv2.LINE_AA)
    alpha = cv2.blur(hand, (3, 3))[..., None] / 255
    shade = np.clip(skin * (0.6 + 0.4 * cv2.blur(hand, (2 * thick + 1,) * 2)[..., None] / 255), 0, 255)
    scene.image[:] = scene.image * (1 - alpha) + shade * alpha
    scene.owner[hand > 127] = 0
