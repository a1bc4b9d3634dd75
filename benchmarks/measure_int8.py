"""What an int8 program costs and brings, beside the fp32 one, on the photos of ../shared/data: fp32 by ONNX Runtime,
int8 by the engine that it was made for, and Paddle's time in fp32 beside them.

    python benchmarks/measure_int8.py --lists output/int8        # writes the lists by which `shitu quantize` calibrates
    python benchmarks/measure_int8.py models/NAME                # Recall@1 or AP, sizes, time of both

Recogniser: juice test.txt against train.txt + iconic.txt, and the 35 Caltech classes that no training saw, leave one
out. Detector: ecssd val, and boxes val (many of its things have no label: trust its recall more). No photo
of these calibrates. Times: single images on one thread, the programs in turn, medians, and the ratio, which alone
means something on a shared machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from shitu.convert.quantize import feeder
from shitu.convert.quantize_boxes import labelled_boxes
from shitu.convert.quantize_images import Photo, listed_photos, read_photos
from shitu.convert.quantize_judge import DetectorJudge, RecogniserJudge, run
from shitu.engines.base import EngineOptions, Session
from shitu.engines.choose import ENGINES
from shitu.models import ModelFolder
from shitu.models.folder import open_folder
from shitu.models.model_yaml import DETECTION
from shitu.recognise.decode import decode_for

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
HELD_OUT = ROOT / "research" / "common" / "caltech_heldout.txt"
ROUNDS = 60


def write_lists(target: Path) -> None:
    """recogniser.txt, every third photo of the training parts, with labels; detector.txt, the photos of boxes train."""
    target.mkdir(parents=True, exist_ok=True)
    held_out = set(HELD_OUT.read_text(encoding="utf-8").split())
    lines = []
    for part, name in (("juice", "train.txt"), ("caltech101", "list.txt"), ("clothing", "list.txt")):
        for photo in listed_photos(str(DATA / part / name), part)[::3]:
            if photo.label not in held_out:
                lines.append(f"{photo.path}\t{part} {photo.label}\n")
    (target / "recogniser.txt").write_text("".join(lines), encoding="utf-8")
    paths = labelled_boxes(DATA / "boxes" / "train.json", None)
    text = "".join(f"{Path(path).relative_to(DATA)}\n" for path in paths)
    (target / "detector.txt").write_text(text, encoding="utf-8")


def sessions(model: ModelFolder) -> tuple[Session, Session, Session]:
    """fp32, int8, Paddle's fp32."""
    int8 = "openvino" if any(each.engine == "openvino" for each in model.programs) else "onnxruntime"
    opened = []
    for engine, precision in (("onnxruntime", "fp32"), (int8, "int8"), ("paddle", "fp32")):
        options = EngineOptions(threads=1, engine=engine, precision=precision)
        program = ENGINES[engine].supports(model, options)
        if program is None:
            raise SystemExit(f"{model.path} has no {precision} for {engine}; make it: shitu quantize {model.path}")
        opened.append(ENGINES[engine].open(program, options))
        size = sum(each.stat().st_size for each in program.files)
        print(f"{model.name}: {precision} by {engine}: {size:,} bytes")
    return opened[0], opened[1], opened[2]


def show(name: str, what: str, figures: dict[str, tuple[float, float]], agreement: float) -> None:
    for figure, (fp32, int8) in figures.items():
        print(f"{name}: {what}: {figure}: {fp32:.4f} in fp32, {int8:.4f} in int8 ({100 * (int8 - fp32):+.2f} points)")
    print(f"{name}: {what}: agreement {agreement:.4f}", flush=True)


def recogniser(model: ModelFolder, fp32: Session, int8: Session) -> None:
    prepare = feeder(model, fp32.input_names)
    juice = [listed_photos(str(DATA / "juice" / name), str(DATA / "juice")) for name in
             ("test.txt", "train.txt", "iconic.txt")]  # fmt: skip
    held_out = set(HELD_OUT.read_text(encoding="utf-8").split())
    caltech = listed_photos(str(DATA / "caltech101" / "list.txt"), str(DATA / "caltech101"))
    unseen = [photo for photo in caltech if photo.label in held_out]
    shelf = [*juice[1], *juice[2]]
    asks = [True] * len(juice[0]) + [False] * len(shelf)
    for what, photos, queries in (("juice test", [*juice[0], *shelf], asks), ("held-out Caltech", unseen, None)):
        read, bad = read_photos(photos, prepare)
        if bad:
            raise SystemExit(bad[0])
        judge = RecogniserJudge([feed for _, feed in read], fp32, [photo.label for photo, _ in read], queries)
        verdict = judge.judge(int8)
        show(model.name, f"{what}, {judge.asked} photos", verdict.figures, verdict.agreement)


def detector(model: ModelFolder, fp32: Session, int8: Session) -> None:
    prepare, program = feeder(model, fp32.input_names), model.find("onnx") or model.find("onnx", raw=True)
    assert program is not None
    for part in ("ecssd", "boxes"):
        truth = labelled_boxes(DATA / part / "val.json", None)
        read, _ = read_photos([Photo(path) for path in truth], prepare)
        boxes = [truth[photo.path] for photo, _ in read]
        verdict = DetectorJudge([feed for _, feed in read], fp32, decode_for(model, program), boxes).judge(int8)
        show(model.name, f"{part} val, {len(read)} photos", verdict.figures, verdict.agreement)


def times(model: ModelFolder, opened: tuple[Session, ...]) -> None:
    prepare = feeder(model, opened[0].input_names)
    ((_, feed),), _ = read_photos([Photo(str(sorted((ROOT / "demo" / "photos").iterdir())[0]))], prepare)
    feed |= {name: feed[next(iter(feed))] for session in opened for name in session.input_names if name not in feed}
    taken: list[list[float]] = [[] for _ in opened]
    for _ in range(ROUNDS):
        for session, seconds in zip(opened, taken, strict=True):
            start = time.perf_counter()
            run(session, feed)
            seconds.append(time.perf_counter() - start)
    before, after, paddle = (1000 * statistics.median(each[10:]) for each in taken)
    print(f"{model.name}: {before:.1f} ms in fp32, {after:.1f} ms in int8, {paddle:.1f} ms by Paddle in fp32")
    for what, other in (("fp32", taken[0]), ("Paddle's fp32", taken[2])):
        ratios = [b / a for a, b in zip(other, taken[1], strict=True)][10:]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"{model.name}: int8 : {what}: {middle:.2f} (quartiles {low:.2f} to {high:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--lists", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    if arguments.lists:
        write_lists(arguments.lists)
    for folder in arguments.models:
        model = open_folder(folder)
        fp32, int8, paddle = sessions(model)
        (detector if model.card.task == DETECTION else recogniser)(model, fp32, int8)
        times(model, (fp32, int8, paddle))


if __name__ == "__main__":
    main()
