"""Real objects cut out of photos: GrabCut started from a box, kept only where its outline agrees with the box."""

from __future__ import annotations

import cv2
import numpy as np

from research.common.cutouts import CUTOUT_SIZE, Image, crop_to_alpha

MARGIN = 0.25  # of the box's sides, left around it: what the background looks like
ROUNDS = 3


def window(photo: Image, box: np.ndarray) -> tuple[Image, np.ndarray]:
    """The surroundings of a box (x1, y1, x2, y2), scaled so that its longer side has CUTOUT_SIZE pixels at most."""
    x1, y1, x2, y2 = box
    dx, dy = MARGIN * (x2 - x1) + 4, MARGIN * (y2 - y1) + 4
    left, top = int(max(0, x1 - dx)), int(max(0, y1 - dy))
    part = photo[top : int(y2 + dy) + 1, left : int(x2 + dx) + 1]
    scale = min(1.0, CUTOUT_SIZE / max(x2 - x1, y2 - y1))
    part = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return part, (box - np.float32([left, top, left, top])) * scale


def real_cutout(photo: Image, box: np.ndarray) -> Image | None:
    """The object in the box as RGBA, or None where the photo cuts it off or GrabCut found something else."""
    h, w = photo.shape[:2]
    if box[0] < 2 or box[1] < 2 or box[2] > w - 2 or box[3] > h - 2 or min(box[2:] - box[:2]) < 24:
        return None
    part, inner = window(photo, box)
    x1, y1, x2, y2 = np.round(inner).astype(int)
    mask = np.full(part.shape[:2], cv2.GC_BGD, np.uint8)
    mask[y1:y2, x1:x2] = cv2.GC_PR_FGD
    if (mask == cv2.GC_BGD).mean() < 0.1:
        return None
    cv2.setRNGSeed(2026)
    cv2.grabCut(part, mask, None, np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS, cv2.GC_INIT_WITH_MASK)
    alpha = largest_part(np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8))
    if alpha is None or not plausible(alpha, inner):
        return None
    soft = cv2.GaussianBlur(cv2.erode(alpha, np.ones((3, 3), np.uint8)) * 255, (3, 3), 0)
    return crop_to_alpha(np.dstack([part, soft]))


def largest_part(mask: Image) -> Image | None:
    """The largest connected part without its small holes, its fringe smoothed."""
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return None
    mask = (labels == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()).astype(np.uint8)
    _, holes, stats, _ = cv2.connectedComponentsWithStats(1 - mask)
    small = stats[:, cv2.CC_STAT_AREA] < 0.02 * mask.sum()
    small[0] = False
    return mask | small[holes].astype(np.uint8)


def plausible(mask: Image, box: np.ndarray) -> bool:
    """Whether the outline fills the box it was started from, and is neither a rectangle nor a rag."""
    ys, xs = np.nonzero(mask)
    found = np.float32([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    overlap = (np.minimum(found[2:], box[2:]) - np.maximum(found[:2], box[:2])).clip(0).prod()
    area = (box[2:] - box[:2]).prod()
    if overlap / (area + (found[2:] - found[:2]).prod() - overlap) < 0.8:
        return False
    outline = max(cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0], key=cv2.contourArea)
    solidity = mask.sum() / max(1.0, cv2.contourArea(cv2.convexHull(outline)))
    return 0.25 < mask.sum() / area < 0.92 and bool(solidity > 0.6)
