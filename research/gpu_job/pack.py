"""Write what goes to the machine with a GPU: job.pyz, one script, and pack.npz, one data file of at most 58 MB.

    python -m research.gpu_job.pack --out output/gpu_job            # from ../shared/data
    python -m research.gpu_job.pack --out output/gpu_job --demo     # a small one of the demo's pictures, for the tests

Both restated networks are compared with the bundled models before anything is written. Needs torch (make research).
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import tempfile
import zipapp
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from research.gpu_job import check_weights, pack_photos
from research.gpu_job.pack_photos import ROOT, Entry
from research.gpu_job.pack_weights import as_half, exported

HERE = Path(__file__).resolve().parent
SIDE, BOXED_SIDE, DEMO_SIDE = 192, 288, 160
LIMIT = 58_000_000  # 64 MiB go to the lent machine, the code among them
QUALITIES = range(75, 25, -3)
RECOGNISER, DETECTOR = (ROOT / "models" / n for n in ("efficientnet_lite0_512", "picodet_efficientnet_lite0_mainbody"))
SCRIPT = (
    "research/common/autocast.py",
    "research/pplcnetv2/network.py",
    "research/detector/efficientnet_lite.py",
    "research/detector/network.py",
    "research/detector/loss.py",
)


def write_script(path: Path) -> None:
    """The job's folder and the networks that it shares with other research, as one file that Python runs."""
    with tempfile.TemporaryDirectory() as folder:
        for source in [*(ROOT / name for name in SCRIPT), *sorted((HERE / "job").glob("*.py"))]:
            target = Path(folder) / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
        zipapp.create_archive(folder, path, main="research.gpu_job.job.__main__:main", compressed=True)


def encoded(entries: list[Entry], quality: int) -> list[bytes]:
    """Every picture, squashed to a square, as WebP: at equal size 1.5 dB better than JPEG."""

    def one(entry: Entry) -> bytes:
        image, side = entry.read(), BOXED_SIDE if entry.background else SIDE
        how = cv2.INTER_AREA if min(image.shape[:2]) >= side else cv2.INTER_LINEAR
        small = cv2.resize(image, (side, side), interpolation=how)
        return cv2.imencode(".webp", small, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, entries))


def described(learn: list[Entry], choosing: list[Entry], side: int) -> dict[str, NDArray[np.generic]]:
    """Everything but the pictures, an array each; `side`: of the pictures once they are decoded."""
    entries = [*learn, *choosing]
    sources = sorted({entry.source for entry in entries})
    seen = sorted({str(e.label) for e in learn if e.label})
    labels = {
        label: i for i, label in enumerate([*seen, *sorted({str(e.label) for e in choosing if e.label} - set(seen))])
    }
    about = {
        "sources": sources,
        "classes": len(seen),
        "labels": list(labels),
        "side": side,
    }
    return {
        "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
        "part": np.array([0] * len(learn) + [1] * len(choosing), np.uint8),
        "source": np.array([sources.index(e.source) for e in entries], np.uint8),
        "label": np.array([labels[e.label] if e.label else -1 for e in entries], np.int32),
        "background": np.array([e.background for e in entries], np.float16),
        "boxes": np.concatenate([e.boxes for e in entries]).astype(np.float16),
        "crowd": np.concatenate([e.crowd for e in entries]),
        "box_ends": np.cumsum([len(e.boxes) for e in entries]).astype(np.int32),
    }


def packed(pictures: list[bytes], arrays: dict[str, NDArray[np.generic]]) -> bytes:
    buffer = io.BytesIO()
    blob = np.frombuffer(b"".join(pictures), np.uint8)
    np.savez(buffer, blob=blob, ends=np.cumsum([len(p) for p in pictures]).astype(np.int64), **arrays)
    return buffer.getvalue()


def fitting(entries: list[Entry], arrays: dict[str, NDArray[np.generic]]) -> tuple[int, bytes]:
    """The best quality with which the pack keeps below the limit, judged by every tenth picture, and that pack."""
    room = LIMIT - len(packed([], arrays))
    for quality in QUALITIES:
        few = entries[:: max(1, len(entries) // 600)]
        if sum(map(len, encoded(few, quality))) / len(few) * len(entries) > room:
            continue
        content = packed(encoded(entries, quality), arrays)
        if len(content) <= LIMIT:
            return quality, content
    raise SystemExit(f"{len(entries)} pictures do not fit into {LIMIT} bytes at quality {quality}: take fewer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--demo", action="store_true")
    args = parser.parse_args()
    if not args.demo and not args.data.is_dir():
        raise SystemExit(f"{args.data}: no such folder; name the folder of the photos with --data, or use --demo")
    args.out.mkdir(parents=True, exist_ok=True)
    write_script(args.out / "job.pyz")
    weights = {"teacher": exported(RECOGNISER), "detector": exported(DETECTOR)}
    for what, difference in check_weights.differences(weights, RECOGNISER, DETECTOR).items():
        print(f"{what}: largest difference {difference:.1e}", flush=True)
    learn, choosing = pack_photos.demo(ROOT / "demo") if args.demo else pack_photos.choose(args.data)
    arrays = described(learn, choosing, DEMO_SIDE if args.demo else BOXED_SIDE)
    for half, values in weights.items():
        arrays |= {f"{half}/{name}": array for name, array in as_half(values).items()}
    quality, content = fitting([*learn, *choosing], arrays)
    part = args.out / "pack.part"
    part.write_bytes(content)
    part.replace(args.out / "pack.npz")
    for name, entries in (("to learn from", learn), ("to choose by", choosing)):
        counts = ", ".join(f"{source} {n}" for source, n in sorted(Counter(e.source for e in entries).items()))
        print(f"{len(entries)} pictures {name}: {counts}")
    print(f"{args.out / 'pack.npz'}: {len(content) / 1e6:.1f} MB, WebP quality {quality}; {args.out / 'job.pyz'}")


if __name__ == "__main__":
    main()
