"""What `shitu check` shows: the machine, the versions, and the bundled models at work."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np

from shitu import __version__
from shitu.config import load_config
from shitu.cores import available_cores
from shitu.engines.cpu import cpu_flags
from shitu.errors import ShituError
from shitu.images.read import read_image
from shitu.models import open_model
from shitu.models.verify import verify_model
from shitu.recognise.from_config import DetPredictor, RecPredictor
from shitu.resources import bundled

PACKAGES = (
    "onnxruntime",
    "openvino",
    "faiss-cpu",
    "opencv-python-headless",
    "numpy",
    "pillow",
    "paddleclas",
    "paddledet",
)
PADDLES = ("paddlepaddle", "paddlepaddle-gpu")
# What the engines choose their kernels by.
CPU_FEATURES = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def describe_machine() -> list[tuple[str, str]]:
    """(name, value) pairs: versions, processor, cores."""
    lines = [
        ("shitu", __version__),
        ("Python", f"{platform.python_version()} ({sys.executable})"),
        ("system", platform.platform()),
        ("cores", str(available_cores())),
        ("CPU features", " ".join(_cpu_features()) or "unknown"),
    ]
    return [*lines, ("paddlepaddle", _paddle()), *((package, _version(package)) for package in PACKAGES)]


def self_test() -> Iterator[tuple[str, bool]]:
    """(what was tested, whether it is right), one after the other."""
    config = load_config(None, ["Global.engine=auto", "Global.precision=auto"])
    for task, name in (
        ("detection", config.Global.det_inference_model_dir),
        ("recognition", config.Global.rec_inference_model_dir),
    ):
        yield _files_test(str(name), task)
    demo = bundled("demo")
    try:
        yield _detector_test(DetPredictor(config), demo)
        yield _recogniser_test(RecPredictor(config), demo)
    except ShituError as error:
        yield str(error), False


def _files_test(name: str, task: str) -> tuple[str, bool]:
    try:
        problems = verify_model(open_model(name, task=task))
    except ShituError as error:
        return str(error), False
    return (f"{name}: {'; '.join(problems)}" if problems else f"{name}: files as its model.yaml says"), not problems


def _detector_test(predictor: DetPredictor, demo: Path) -> tuple[str, bool]:
    image = read_image(sorted((demo / "photos").glob("*.jpg"))[0])
    predictor.predict([image])  # the first run is slower
    start = time.perf_counter()
    found = predictor.predict([image])[0]
    elapsed = 1000 * (time.perf_counter() - start)
    return f"detector: {len(found)} objects in a demo photo, {elapsed:.0f} ms ({predictor.engine})", bool(found)


def _recogniser_test(predictor: RecPredictor, demo: Path) -> tuple[str, bool]:
    """Two makers' pictures of one thing must be nearer to each other than to the other things, on average."""
    folders = sorted(path for path in (demo / "gallery").iterdir() if path.is_dir())[:2]
    names = [path.stem for path in sorted(folders[0].iterdir())][:8]
    images = [read_image(next(folder.glob(f"{name}.*"))) for folder in folders for name in names]
    start = time.perf_counter()
    vectors = predictor.predict(images)
    elapsed = 1000 * (time.perf_counter() - start) / len(images)
    similar = vectors[: len(names)] @ vectors[len(names) :].T
    same = float(np.mean(np.diag(similar)))
    other = float((similar.sum() - np.trace(similar)) / (similar.size - len(names)))
    text = f"recogniser: similarity {same:.2f} to the same thing, {other:.2f} to others, {elapsed:.0f} ms per image"
    text += f" ({predictor.engine})"
    return text, same > other


def _paddle() -> str:
    """Of the wheel for CPUs and the one for GPUs, which write the same folder: with both, who knows what is in it."""
    found = [f"{name} {version}" for name in PADDLES if (version := _version(name)) and not version.startswith("not ")]
    if len(found) > 1:
        return f"{' and '.join(found)}: one too many; pip uninstall both, then install the one you want"
    return found[0].removeprefix("paddlepaddle ") if found else _version(PADDLES[0])


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed (only for training)" if package.startswith("paddle") else "not installed"


def _cpu_features() -> list[str]:
    return [feature for feature in CPU_FEATURES if feature in cpu_flags()]
