"""Measure bundled models on tests/data/cards/ and compare with, or write into, their model.yaml.

    python benchmarks/measure_cards.py                           # every folder in models/, compared with its card
    python benchmarks/measure_cards.py models/NAME --juice --write       # puts the figures into models/NAME/model.yaml

Recogniser: `shitu evaluate` with a gallery of the set's 42 pictures and its 150 crops, no detector; with `--juice`
also on the juice photos of ../shared. Detector: COCO's AP, as `shitu eval-det` counts it. All run through Paddle
Inference with the options of a plain config; a program in int8, where the model has one, through ONNX Runtime besides,
or OpenVINO where it was made for that.
Status 1 where a figure is below the card by more than its tolerance, or the card has no entry for it
(tests/test_model_cards.py).

Tolerances are what another CPU's rounding might turn, no more: one query of recall, one box of AP50. On one machine,
oneDNN off, graph optimisation off, one thread or two changed none of the figures (features differed by 4e-7), and
resizing in floats, by which a tenth of the pixels differ by 1, only the AUROC, by 0.003.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from shitu import GalleryBuilder, load_config
from shitu.build.list_file import read_list
from shitu.convert.quantize import feeder
from shitu.convert.quantize_judge import run
from shitu.engines.base import EngineOptions
from shitu.engines.choose import ENGINES
from shitu.evaluation.evaluate import Evaluation, evaluate
from shitu.evaluation.queries import read_queries
from shitu.images.read import read_image
from shitu.models import Program
from shitu.models.folder import ModelFolder, open_folder
from shitu.models.model_yaml import DETECTION, MODEL_YAML, read_model_yaml
from shitu.recognise.decode import decode_for
from shitu.training.det.coco_data import read_coco
from shitu.training.det.evaluate import Found, coco_metrics, detected_by_model
from shitu.training.det.schema import COCODataSet

ROOT = Path(__file__).resolve().parents[1]
CARDS = ROOT / "tests" / "data" / "cards"
JUICE = ROOT.parent / "shared" / "data" / "juice"
SET, JUICE_SET = "card set", "card juice"  # what our entries of `measured` begin with
PLAIN = ("Global.engine=paddle", "Global.precision=fp32")  # whatever else the model has, and `auto` would take
ROUNDING = 0.00005  # the card's four digits


@dataclass(frozen=True)
class Figure:
    """One number of a model on the set, and by how much another machine's may be lower without being worse."""

    what: str
    value: float
    tolerance: float


def measure(folder: Path, cards: Path = CARDS) -> list[Figure]:
    """The figures of the model in a folder, whichever of the two kinds it is."""
    model = open_folder(folder)
    part = cards / ("detector" if model.card.task == DETECTION else "recogniser")
    figures = _detector_figures(model, part) if model.card.task == DETECTION else _recogniser_figures(folder, part)
    found = (model.find(name, "int8", raw=raw) for name in ("onnx", "openvino") for raw in (False, True))
    program = next(filter(None, found), None)
    if program is None:
        return figures
    if model.card.task == DETECTION:
        int8 = _detector_figures(model, part, program)
    else:
        int8 = _recogniser_figures(folder, part, "Global.engine=onnxruntime", "Global.precision=int8")
    # twice the tolerance: without VNNI, OpenVINO's products saturate where others do not
    return figures + [Figure(each.what.replace(":", " in int8:", 1), each.value, 2 * each.tolerance) for each in int8]


def _recogniser_figures(folder: Path, part: Path, *overrides: str) -> list[Figure]:
    found = _evaluated(folder, part, ["gallery.txt"], "query.txt", *overrides)
    if found.open_set is None or found.open_set.kind != "listed":
        raise SystemExit(f"{part}: no crop shows what is not in the gallery")
    known, unknown = f"{found.known} crops", f"{found.unknown} of things not in the gallery"
    title, one = f"{SET} {digest(part)}, {known}", 1 / found.known
    accepted = found.open_set.recall_at[0].recall
    return [
        Figure(f"{title}: Recall@1, no detector", found.recall[1], one),
        Figure(f"{title}: Recall@5, no detector", found.recall[5], one),
        Figure(f"{title}, {unknown}: AUROC", found.open_set.auroc, 0.005),
        Figure(f"{title}, {unknown}: recall at 10 % false accepts", accepted, one),
    ]


def measure_juice(folder: Path, juice: Path = JUICE) -> list[Figure]:
    """Phone photos of ten cartons in shops, which no repository holds; see docs/models.md."""
    found = _evaluated(folder, juice, ["train.txt", "iconic.txt"], "test.txt")
    what = f"{JUICE_SET}: Recall@1 of {found.known} test photos against train.txt + iconic.txt, no detector"
    return [Figure(what, found.recall[1], 1 / found.known)]


def _evaluated(folder: Path, root: Path, gallery: list[str], queries: str, *more: str) -> Evaluation:
    """`shitu evaluate` without a detector, with a gallery of these lists."""
    entries = [entry for name in gallery for entry in read_list(root / name, root, "\t")]
    with tempfile.TemporaryDirectory() as index_dir:
        overrides = [f"IndexProcess.{key}" for key in (f"index_dir={index_dir}", "index_method=Flat", "crop=none")]
        config = load_config(None, [f"Global.rec_inference_model_dir={folder}", *overrides, *(more or PLAIN)])
        report = GalleryBuilder(config).run(entries)
        asked = read_queries(root / queries, root, "\t")
        found = evaluate(config, asked, detector="off", false_accepts=(0.1,), with_map=False)
    if report.failed or found.failed:
        raise SystemExit(f"{root}: {len(report.failed)} gallery pictures and {found.failed} queries failed")
    return found


def _detector_figures(model: ModelFolder, part: Path, int8: Program | None = None) -> list[Figure]:
    section = COCODataSet(dataset_dir=str(part), image_dir="images", anno_path="annotations.json")
    data = read_coco(section, 1, what="the card set", training=False)
    seen = detected_by_model(str(model.path), data.paths) if int8 is None else _detected(model, int8, data.paths)
    found = [each for each in seen if each is not None]
    if len(found) < len(data):
        raise SystemExit(f"{part}: {len(data) - len(found)} of {len(data)} scenes could not be read")
    numbers = coco_metrics(data, found)
    title = f"{SET} {digest(part)}, {len(data)} scenes with {len(data.xyxy)} boxes"
    tolerances = {"AP": 0.005, "AP50": 1 / len(data.xyxy), "AR10": 0.005}
    return [Figure(f"{title}: {name}", numbers[name] or 0.0, limit) for name, limit in tolerances.items()]


def _detected(model: ModelFolder, program: Program, paths: Sequence[str]) -> list[Found]:
    """By ONNX Runtime."""
    engine = ENGINES["openvino" if program.engine == "openvino" else "onnxruntime"]
    session, decode = engine.open(program, EngineOptions(threads=2)), decode_for(model, program)
    prepare = feeder(model, session.input_names)
    return [Found(number, decode(run(session, prepare(read_image(path))))) for number, path in enumerate(paths)]


def digest(part: Path) -> str:
    """Eight hex digits that stand for the pictures and the lists of a part: figures of another set do not count."""
    found = hashlib.sha256()
    for path in sorted(path for path in part.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix != ".jpg":
            content = content.replace(b"\r\n", b"\n")
        found.update(path.relative_to(part).as_posix().encode() + hashlib.sha256(content).digest())
    return found.hexdigest()[:8]


def below_card(folder: Path, figures: list[Figure]) -> list[str]:
    """What is wrong with the card in view of these figures; empty where all is well."""
    card = {row["what"]: row["value"] for row in read_model_yaml(folder / MODEL_YAML).measured}
    problems = []
    for figure in figures:
        said = card.get(figure.what)
        if not isinstance(said, (int, float)):
            problems.append(
                f"{folder / MODEL_YAML}: `measured` has no number for {figure.what!r} (measured: {figure.value:.4f}); "
                f"write it by: python benchmarks/measure_cards.py {folder} --write"
            )
        elif figure.value < said - figure.tolerance - ROUNDING:
            problems.append(
                f"{folder / MODEL_YAML}: {figure.what}: the card says {said:.4f}, measured {figure.value:.4f}; at most "
                f"{figure.tolerance:.4f} less can be rounding"
            )
    return problems


def write(folder: Path, figures: list[Figure]) -> None:
    """Put the figures into `measured` of the folder's model.yaml, in place of earlier ones; all else stays as it is."""
    path = folder / MODEL_YAML
    before = path.read_text(encoding="utf-8")
    replaced = tuple(name for name in (SET, JUICE_SET) if any(figure.what.startswith(name) for figure in figures))
    after = _with_entries(before, [_entry(figure, folder.resolve().name) for figure in figures], replaced, path)
    if _rest(before, replaced) != _rest(after, replaced):
        raise SystemExit(f"{path}: `measured` cannot be changed without changing something else; write it by hand")
    path.write_text(after, encoding="utf-8")
    read_model_yaml(path)


def _entry(figure: Figure, name: str) -> str:
    command = f"python benchmarks/measure_cards.py models/{name}"
    if figure.what.startswith(JUICE_SET):
        command += " --juice"
    return f"- {{what: {json.dumps(figure.what)}, value: {figure.value:.4f}, command: {command}}}"


def _with_entries(text: str, entries: list[str], replaced: tuple[str, ...], path: Path) -> str:
    lines = text.rstrip("\n").split("\n")
    start = next((n for n, line in enumerate(lines) if re.match(r"measured:\s*(\[\s*\])?\s*(#.*)?$", line)), None)
    if start is None:
        if any(line.startswith("measured:") for line in lines):
            raise SystemExit(f"{path}: `measured` is not one entry after another, each from a `- ` on; write it so")
        lines.append("measured:")
        start = len(lines) - 1
    lines[start] = "measured:"
    end = next((n for n in range(start + 1, len(lines)) if re.match(r"[^\s#-]", lines[n])), len(lines))
    first = next((line for line in lines[start + 1 : end] if line.lstrip().startswith("- ")), "  - ")
    indent = first[: len(first) - len(first.lstrip())]
    kept = [
        line
        for group in _groups(lines[start + 1 : end], indent + "- ")
        if not _what(group).startswith(replaced)
        for line in group
    ]
    return "\n".join([*lines[: start + 1], *kept, *(indent + entry for entry in entries), *lines[end:]]) + "\n"


def _groups(lines: list[str], opening: str) -> list[list[str]]:
    """The lines of each entry together."""
    groups: list[list[str]] = []
    for line in lines:
        if line.startswith(opening) or not groups:
            groups.append([])
        groups[-1].append(line)
    return groups


def _what(lines: list[str]) -> str:
    """What an entry measures; empty for comments before the first."""
    rows = yaml.safe_load("\n".join(lines)) or [{"what": ""}]
    return str(rows[0]["what"])


def _rest(text: str, replaced: tuple[str, ...]) -> object:
    """All of the card but the entries that are replaced."""
    content = yaml.safe_load(text)
    measured = [row for row in content.get("measured") or [] if not str(row["what"]).startswith(replaced)]
    return {**content, "measured": measured}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path, help="model folders; default: all of models/")
    parser.add_argument("--cards", type=Path, default=CARDS)
    parser.add_argument(
        "--juice", type=Path, nargs="?", const=JUICE, help="also on the juice photos of ../shared, or of this folder"
    )
    parser.add_argument("--write", action="store_true", help="write the figures into each model.yaml")
    arguments = parser.parse_args()
    problems = []
    for folder in arguments.models or sorted(path.parent for path in (ROOT / "models").glob(f"*/{MODEL_YAML}")):
        figures = measure(folder, arguments.cards)
        if arguments.juice and open_folder(folder).card.task != DETECTION:
            figures += measure_juice(folder, arguments.juice)
        if arguments.write:
            write(folder, figures)
        for figure in figures:
            print(f"{folder.name}: {figure.what}: {figure.value:.4f}", flush=True)
        problems += below_card(folder, figures)
    for problem in problems:
        print(problem, file=sys.stderr)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
