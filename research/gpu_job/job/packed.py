"""The data pack: photos, labels, boxes and start weights in one .npz without pickles."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TRAIN, CHOOSE = 0, 1


def decode(data: bytes, side: int) -> NDArray[np.uint8]:
    """(side, side, 3) uint8, RGB, by whichever decoder is there."""
    try:
        import cv2

        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        return np.ascontiguousarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)[..., ::-1])
    except ImportError:
        from PIL import Image

        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB").resize((side, side), Image.Resampling.BILINEAR))


class Pack:
    """Everything of the pack on the device, the photos decoded once: (n, 3, s, s) uint8, RGB."""

    def __init__(self, path: Path, device: torch.device):
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        self.about: dict[str, Any] = json.loads(arrays.pop("about").tobytes())
        blob, ends = arrays.pop("blob"), arrays.pop("ends").tolist()
        parts = [blob[a:b].tobytes() for a, b in zip([0, *ends], ends, strict=False)]
        with ThreadPoolExecutor() as pool:
            images = list(pool.map(lambda part: decode(part, self.about["side"]), parts))
        self.device = device
        self.images = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous().to(device)
        self.part, self.source, self.label = (
            torch.from_numpy(arrays.pop(n)).long() for n in ("part", "source", "label")
        )
        self.background = torch.from_numpy(arrays.pop("background")).float()
        box_ends, boxes, crowd = (arrays.pop(n) for n in ("box_ends", "boxes", "crowd"))
        rows = [np.arange(a, b) for a, b in zip([0, *box_ends.tolist()], box_ends.tolist(), strict=False)]
        most = max(1, *(len(row) for row in rows))
        self.boxes = torch.zeros(len(rows), most, 4)
        self.real = torch.zeros(len(rows), most, dtype=torch.bool)
        self.crowd = torch.zeros(len(rows), most, dtype=torch.bool)
        for i, row in enumerate(rows):
            self.boxes[i, : len(row)] = torch.from_numpy(boxes[row].astype(np.float32))
            self.real[i, : len(row)] = torch.from_numpy(~crowd[row])
            self.crowd[i, : len(row)] = torch.from_numpy(crowd[row])
        self.weights = {n: torch.from_numpy(a.astype(np.float32)) for n, a in arrays.items()}

    def rows(self, part: int, *sources: str) -> Tensor:
        """Indices of the photos of a part, of these sources or of all."""
        chosen = self.part == part
        if sources:
            wanted = torch.tensor([self.about["sources"].index(s) for s in sources if s in self.about["sources"]])
            chosen &= torch.isin(self.source, wanted)
        return chosen.nonzero()[:, 0]

    def start(self, prefix: str) -> dict[str, Tensor]:
        """Weights by name below a prefix."""
        return {n.split("/", 1)[1]: t for n, t in self.weights.items() if n.startswith(prefix + "/")}
