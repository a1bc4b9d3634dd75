"""A network from elsewhere becomes a model folder: asked what its file can tell, tried, and described in a card."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shitu.convert.add_beside import with_config
from shitu.convert.add_output import PADDLE, RAW, Reading, detector_reading, extractor_reading
from shitu.convert.add_source import Asked, Source, find_source, told_of
from shitu.convert.agree import cosines, example_pictures
from shitu.engines.base import EngineOptions, Session
from shitu.engines.choose import ENGINES
from shitu.errors import EngineError, ModelError, ShituError, UsageError
from shitu.models import Nms, Program
from shitu.models.folder import ModelFolder, open_folder
from shitu.models.model_yaml import DETECTION, RECOGNITION
from shitu.models.write import new_folder, write_model_yaml
from shitu.recognise.decode import BEFORE_NMS, decode_for
from shitu.recognise.detect import KNOWN_INPUTS, Detector
from shitu.recognise.embed import Extractor
from shitu.recognise.stated import stated_preprocessor

NMS = Nms(score_threshold=0.05, nms_threshold=0.6, nms_top_k=1000, keep_top_k=100)
ALIKE = (
    0.9999  # cosine; vectors of different photos that are nearer say that the pixels are not scaled as they should be
)
SAME = 0.999  # cosine of a picture's vector alone and in a batch
PROVENANCE = "Added by `shitu models add` from {}; what the file does not say was given to that command."
Tell = Callable[[str], None]


def add_model(source: Path, target: Path, name: str, asked: Asked, tell: Tell = lambda _: None) -> ModelFolder:
    """Write the folder `target`. It appears when the network gave finite outputs of the shape promised.

    Raises UsageError (also ModelError) where something has to be said that the file does not, or where the network
    cannot be used, and EngineError where the engine refuses it.
    """
    if target.exists():
        raise UsageError(f"{target} is there already; choose another --name or --out, or delete it")
    found = find_source(source, asked.weights)
    asked, beside = with_config(source, asked)
    if beside is not None:
        tell(f"pixels become numbers as {beside} says, where nothing else is said")
    options = EngineOptions(threads=2)
    session = ENGINES[found.runs_on].open(found.program, options)
    told = told_of(found, session, asked.size)
    asked = replace(asked, labels=asked.labels or told.labels)
    task = asked.task or told.task
    if task is None:
        raise UsageError(f"{source} does not say what it is for; name it: --task recognition, or --task detection")
    noise = np.random.default_rng(0).random((1, 3, *told.size), np.float32)
    outputs = session.run(_feeds(session, noise))
    reading = (detector_reading if task == DETECTION else extractor_reading)(outputs, told, asked)
    card: dict[str, Any] = {"name": name, "task": task, **reading.card}
    operators = transform_ops(told.size, asked, reading)
    if reading.kind in (*BEFORE_NMS, RAW):
        card["nms"] = asdict(NMS if asked.nms is None else replace(NMS, nms_threshold=asked.nms))
    if task == RECOGNITION and (told.batch == 1 or not _batches(session, noise, card)):
        card["batch"] = 1
        tell("it takes one image a run")
    with new_folder(target, "--out") as folder:
        files = _copied(found, folder, raw=reading.kind == RAW)
        write_model_yaml(
            folder, **card, **files, preprocess={}, transform_ops=operators, provenance=PROVENANCE.format(source.name)
        )
        try:
            _try(open_folder(folder), found, tell)
        except ShituError as error:  # names the folder that is about to vanish
            raise type(error)(str(error).replace(str(folder), str(target))) from None
    return open_folder(target)


def _feeds(session: Session, tensor: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """As recognise.detect gives them; the image alone for all other networks."""
    if set(session.input_names) <= set(KNOWN_INPUTS):
        size = np.array([tensor.shape[2:]], np.float32)
        every = {"image": tensor, "im_shape": size, "scale_factor": np.ones((1, 2), np.float32)}
        return {name: every[name] for name in session.input_names}
    return {session.input_names[0]: tensor}


def transform_ops(size: tuple[int, int], asked: Asked, reading: Reading) -> list[dict[str, Any]]:
    """What the images go through, in PaddleClas's words; a size there is width, height."""
    usual: Mapping[str, Any] = reading.usual

    def either(key: str) -> Any:
        return usual.get(key) if getattr(asked, key) is None else getattr(asked, key)

    mean, std, bgr = either("mean"), either("std"), either("bgr")
    if mean is None or std is None:
        raise UsageError(
            "the file does not say how pixels become numbers; say it as whoever trained the network does: --mean and "
            "--std for R, G and B, in shares of white: 0.485,0.456,0.406 and 0.229,0.224,0.225 (ImageNet, DINOv2), "
            "0.48145466,0.4578275,0.40821073 and 0.26862954,0.26130258,0.27577711 (CLIP), 0,0,0 and 1,1,1 (none)"
        )
    if usual.get("resize") == PADDLE and asked.resize not in (None, "stretch"):
        raise UsageError(
            f"--resize {asked.resize}: Paddle's detectors want images stretched to their size; leave it out"
        )
    kind = PADDLE if usual.get("resize") == PADDLE else either("resize") or "stretch"
    swapped, picture = slice(None, None, -1 if bgr else 1), list(size[::-1])
    backend, _, interpolation = (either("interpolation") or "bilinear").rpartition("-")
    how = {"interpolation": interpolation, "backend": backend or "cv2"}
    if kind in ("letterbox", "corner"):
        steps: list[dict[str, Any]] = [{"Letterbox": {"size": list(size), "centred": kind == "letterbox"}}]
    elif kind == "crop":
        short = asked.short or max(size)
        if short < max(size):
            raise UsageError(f"--short {short} is less than the {max(size)} pixels that are cut out of it")
        steps = [{"ResizeImage": {"resize_short": short, **how}}, {"CropImage": {"size": picture}}]
    elif kind == PADDLE:
        steps = [{"DetResize": {"target_size": list(size), "keep_ratio": False, "interp": 2}}]
    else:
        steps = [{"ResizeImage": {"size": picture, **how}}]
    numbers = {"scale": either("scale") or 1 / 255, "mean": list(mean[swapped]), "std": list(std[swapped])}
    decode: list[dict[str, Any]] = [{"DecodeImage": {"to_rgb": False}}] if bgr else []
    return [*decode, *steps, {"NormalizeImage": {**numbers, "order": "hwc"}}, {"ToCHWImage": {}}]


def _batches(session: Session, noise: NDArray[Any], card: Mapping[str, Any]) -> bool:
    """Whether two images together give what each gives alone; some exports fix in their middle what they leave free."""
    pair = np.concatenate([noise, noise[:, :, ::-1]])
    number = card.get("feature", {}).get("output", 0)
    alone = np.concatenate([session.run(_feeds(session, one[None]))[number] for one in pair])
    try:
        together = session.run(_feeds(session, pair))[number]
    except EngineError:
        return False
    same = together.shape == alone.shape
    with np.errstate(invalid="ignore"):  # what is not finite is told of later
        return same and bool((cosines(together.reshape(2, -1), alone.reshape(2, -1)) >= SAME).all())


def _copied(found: Source, folder: Path, *, raw: bool) -> dict[str, Any]:
    """Copy the program; what its card says of the files."""
    for name, path in found.files.items():
        shutil.copyfile(path, folder / name)
    program, *weights = found.files
    part: dict[str, Any] = {"program": program, **({"params": weights[0]} if weights else {})}
    return {"program": "", "params": "", "programs": {found.engine: {"fp32": {"raw": part} if raw else part}}}


def _try(model: ModelFolder, found: Source, tell: Tell) -> None:
    """Photos through the model as its card has it. Raises EngineError and ModelError."""
    program = model.programs[0]
    session, prepare = ENGINES[found.runs_on].open(program, EngineOptions(threads=2)), stated_preprocessor(model)
    assert prepare is not None
    pictures = example_pictures()
    if model.card.task == DETECTION:
        _try_detector(model, program, session, tell)
        return
    vectors = Extractor(model, program, session, prepare).predict(pictures)
    if vectors.shape != (len(pictures), model.card.dimension):
        raise EngineError(f"{found.program.program}: vectors of shape {vectors.shape}, not of {model.card.dimension}")
    nearest = float(np.triu(vectors @ vectors.T, 1).max())
    tell(f"{len(pictures)} photos became vectors of {vectors.shape[1]}; the most alike have a cosine of {nearest:.3f}")
    if nearest > ALIKE:
        tell("Warning: the vectors hardly differ; are --mean, --std and --scale those of its training?")


def _try_detector(model: ModelFolder, program: Program, session: Session, tell: Tell) -> None:
    prepare, decode = stated_preprocessor(model), decode_for(model, program)
    assert prepare is not None
    seen: list[bool] = []

    def watched(outputs: Any) -> Any:
        seen.append(all(np.isfinite(each).all() for each in outputs))
        return decode(outputs)

    detector = Detector(
        model, session, watched, prepare, threshold=0.3, max_results=100, labels=model.card.labels
    )  # fmt: skip
    pictures = example_pictures()
    found = detector.predict(pictures)
    if not all(seen):
        raise ModelError(
            f"{program.program.name} gave numbers that are not finite for photos; are they prepared right?"
        )
    tell(f"{sum(map(len, found))} objects with a score of 0.3 or more in {len(pictures)} photos")
