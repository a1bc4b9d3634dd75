"""`finetune`: the steps from photos to a model, from top to bottom; each is passed over where it is done."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from shitu.build.builder import GalleryBuilder
from shitu.build.list_file import Entry, read_list
from shitu.build.photos import FOLDERS, read_photos
from shitu.config import Config, load_config
from shitu.errors import ShituError, UsageError
from shitu.evaluation.calibrate import Calibration, calibrate, check_rate
from shitu.evaluation.evaluate import Evaluation, evaluate
from shitu.evaluation.queries import read_queries
from shitu.evaluation.report import write_report
from shitu.files import replace_file
from shitu.finetune.compare import Unseen, compare, is_better
from shitu.finetune.split import Lists, split_photos
from shitu.resources import bundled
from shitu.training.base.processes import use_device
from shitu.training.rec.eval_lists import open_eval
from shitu.training.rec.evaluate import evaluate as measure
from shitu.training.rec.evaluate import open_network
from shitu.training.rec.export import export_config
from shitu.training.rec.run import run_training
from shitu.training.rec.schema import TrainConfig, load_train_config

CONFIG, REPORT, STATE = "shitu.yaml", "report.html", "finetune.json"
_OWN = ("lists", "training", "before", "after", "model", "gallery", CONFIG, REPORT, STATE)
_STEPS = 160  # of the whole training at least, where the photos are few; an evaluation every tenth of an epoch's
_log = logging.getLogger("shitu")
Bar = Callable[[int, str], AbstractContextManager[Any]]  # how many, what is done -> a bar with update(n)


@dataclass(frozen=True)
class Wanted:
    """What is asked for. `photos`: a folder that holds one for each thing, or a list as build-gallery's.

    `size`: side of the images in pixels; `overrides`: of the training config.

    `epochs` and `minutes` bound the training (None: what the config says).
    """

    photos: Path
    folder: Path
    epochs: int | None = None
    minutes: float | None = None
    size: int = 224
    false_accept: float = 0.05
    seed: int = 0
    overrides: tuple[str, ...] = ()

    @property
    def root(self) -> Path:
        """Where the photos' paths begin."""
        return self.photos.parent if self.photos.is_file() else self.photos

    def entries(self) -> list[Entry]:
        if self.photos.is_file():
            return list(read_list(self.photos, self.root, load_config(None).IndexProcess.delimiter))
        return read_photos(str(self.photos), FOLDERS)

    def identity(self, entries: list[Entry]) -> dict[str, Any]:
        """What a folder is of: another is not gone on with. `epochs` and `minutes` may change."""
        photos = hashlib.sha256("\n".join(f"{one.image}\t{one.label}" for one in entries).encode("utf-8", "replace"))
        keys = {"size": self.size, "false_accept": self.false_accept, "seed": self.seed}
        return {"photos": photos.hexdigest(), **keys, "overrides": list(self.overrides)}


def finetune(wanted: Wanted, *, overwrite: bool, bar: Bar, command: str = "", date: str = "") -> dict[str, Any]:
    """Train on from the bundled recogniser, and fill `wanted.folder` with model, gallery, config and report.

    Without a model of its own where that was not better. Returns the record that finetune.json holds. Run again, it
    goes on where it was. Raises UsageError, ConfigError, StoppedError (all is saved), ShituError.
    """
    check_rate(wanted.false_accept)
    entries = wanted.entries()
    state = _begin(wanted, wanted.identity(entries), overwrite)
    if "result" in state:
        _log.info("%s is finished; --overwrite starts anew", wanted.folder)
        result: dict[str, Any] = state["result"]
        return result
    lists = split_photos(entries, wanted.folder / "lists", wanted.seed)
    unseen = _train(wanted, lists, state, bar)
    names = ["before", *["after"] * unseen.rose]
    for name in names:
        _build(_config(wanted, name), entries, bar)
    tried = {name: _evaluate(_config(wanted, name), wanted, lists, bar) for name in names}
    better = "after" in tried and is_better(tried["before"], tried["after"])
    config = _keep(wanted, "after" if better else "before")
    found, final = _calibrate(config, wanted, lists, bar)
    last = _evaluate(final, wanted, lists, bar)
    comparison = compare(tried, unseen, lists, found, better=better)
    write_report(
        last,
        wanted.folder / REPORT,
        image_root=str(wanted.root),
        command=command,
        date=date,
        detector_model=final.Global.det_inference_model_dir or "",
        comparison=comparison,
    )
    result = {
        "better": better,
        "unseen": {"before": unseen.before, "after": unseen.after},
        "recall1": {name: round(each.recall[1], 6) for name, each in tried.items()},
        "threshold": found.after.score_thres,
        "config": str(wanted.folder / CONFIG),
        "report": str(wanted.folder / REPORT),
    }
    _write_state(wanted.folder, {**state, "result": result})
    for part in ("before", "after"):
        shutil.rmtree(wanted.folder / part, ignore_errors=True)
    return result


# --- the folder ------------------------------------------------------------------------------------------------


def _begin(wanted: Wanted, identity: dict[str, Any], overwrite: bool) -> dict[str, Any]:
    """The state of the folder, made where it is not there."""
    folder, file = wanted.folder, wanted.folder / STATE
    if not file.is_file() and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} holds something else; name another folder by --output")
    if file.is_file() and overwrite:
        for name in reversed(_OWN):
            shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink(missing_ok=True)
    if not file.is_file():
        state = {"of": identity}
        _write_state(folder, state)
        return state
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
        there = state["of"]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ShituError(f"{file} is damaged: {error}. Start anew: --overwrite") from error
    if other := [key for key, value in identity.items() if there.get(key) != value]:
        raise UsageError(
            f"{folder} is of other {' and '.join(other)}; name another folder by --output, or start anew: --overwrite"
        )
    return dict(state)


def _write_state(folder: Path, state: dict[str, Any]) -> None:
    _write(folder / STATE, json.dumps(state, ensure_ascii=False, indent=1))


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda file: file.write(text.encode("utf-8")))
    except OSError as error:
        raise ShituError(f"{path}: {error.strerror}; check space and permissions") from error


# --- training --------------------------------------------------------------------------------------------------


def _train(wanted: Wanted, lists: Lists, state: dict[str, Any], bar: Bar) -> Unseen:
    """Train, and export to after/model where the unseen things were told apart better; a finished run is not run."""
    config, key = _train_config(wanted, lists), "unseen"
    use_device(config.Global.device)
    if key not in state:
        data = open_eval(config.DataLoader.Eval, config.source)
        with bar(data.image_count, "embedding") as one:
            state[key] = measure(open_network(config), data, config, progress=one.update)
        _write_state(wanted.folder, state)
    best = run_training(config, resume=True, overwrite=False, progress=partial(_steps, bar), export=False)
    unseen = Unseen(state[key], {name: value for name, value in best.items() if name != "epoch"}, int(best["epoch"]))
    if state.get("epoch") != unseen.epoch:  # longer than before: what was made of it is old
        shutil.rmtree(wanted.folder / "after", ignore_errors=True)
        state["epoch"] = unseen.epoch
        _write_state(wanted.folder, state)
    if unseen.rose and not (wanted.folder / "after" / "model").exists():
        weights = wanted.folder / "training" / "RecModel" / "best_model"
        target = wanted.folder / "after" / "model"
        settings = replace(config.Global, pretrained_model=str(weights), save_inference_dir=str(target))
        use_device("cpu")
        export_config(replace(config, Global=settings), name=wanted.folder.resolve().name, onnx=None)
    return unseen


def _steps(bar: Bar, count: int) -> AbstractContextManager[Any]:
    return bar(count, "training")


def _train_config(wanted: Wanted, lists: Lists) -> TrainConfig:
    """configs/train/finetune.yaml on these lists; the user's overrides come last."""
    per_class, classes = 4, min(8, lists.train_things)
    steps = math.ceil(lists.train_photos / (per_class * classes))
    sides, data = ("Query", "Gallery"), "DataLoader.Train.dataset"
    values: dict[str, Any] = {
        "Global.output_dir": wanted.folder / "training",
        "Global.image_shape": f"[3, {wanted.size}, {wanted.size}]",
        "Global.epochs": wanted.epochs or max(20, math.ceil(_STEPS / steps)),
        "Global.eval_interval": math.ceil(10 / steps),
        "Global.seed": wanted.seed,
        "DataLoader.Train.sampler.batch_size": per_class * classes,
        "DataLoader.Train.sampler.drop_last": False,
        f"{data}.image_root": wanted.root,
        f"{data}.cls_label_path": lists.train,
        f"{data}.transform_ops.0.RandCropImage.size": wanted.size,
    }
    if wanted.minutes:
        values["Global.max_minutes"] = wanted.minutes
    for side in sides:
        dataset = f"DataLoader.Eval.{side}.dataset"
        values[f"{dataset}.name"] = "VeriWild"
        values[f"{dataset}.image_root"] = wanted.root
        values[f"{dataset}.cls_label_path"] = lists.val
        values[f"{dataset}.transform_ops.0.ResizeImage.size"] = f"[{wanted.size}, {wanted.size}]"
    overrides = tuple(f"{key}={value}" for key, value in values.items())
    return load_train_config(bundled("configs") / "train" / "finetune.yaml", (*overrides, *wanted.overrides))


# --- gallery, evaluation, calibration ---------------------------------------------------------------------------


def _config(wanted: Wanted, name: str) -> Config:
    """The bundled config with the gallery, and where there is one the model, of before/ or after/, or of the folder."""
    folder = (wanted.folder / name).resolve()
    config = load_config(None).replace(
        "IndexProcess", index_dir=str(folder / "gallery"), image_root=str(wanted.root), index_operation="new"
    )
    model = folder / "model"
    return config.replace("Global", rec_inference_model_dir=str(model)) if model.exists() else config


def _build(config: Config, entries: list[Entry], bar: Bar) -> None:
    if (Path(str(config.IndexProcess.index_dir)) / "gallery.json").is_file():
        return
    with bar(len(entries), "embedding") as one:
        report = GalleryBuilder(config).run(entries, one.update)
    for path, reason in report.failed:
        _log.warning("not in the gallery: %s: %s", path, reason)


def _evaluate(config: Config, wanted: Wanted, lists: Lists, bar: Bar) -> Evaluation:
    queries = read_queries(lists.asked, wanted.root, config.IndexProcess.delimiter)
    with bar(len(queries), "evaluating") as one:
        return evaluate(config, queries, leave_one_out=True, progress=one.update)


def _keep(wanted: Wanted, name: str) -> Config:
    """Put the gallery, and the model, of before/ or after/ into the folder itself."""
    for part in ("model", "gallery"):
        if (wanted.folder / name / part).exists():
            shutil.rmtree(wanted.folder / part, ignore_errors=True)
            shutil.copytree(wanted.folder / name / part, wanted.folder / part)
    return _config(wanted, "")


def _calibrate(config: Config, wanted: Wanted, lists: Lists, bar: Bar) -> tuple[Calibration, Config]:
    """The thresholds, and the config with them, as it is written."""
    queries = read_queries(lists.asked, wanted.root, config.IndexProcess.delimiter)
    with bar(len(queries), "looking") as one:
        found = calibrate(config, queries, false_accept=wanted.false_accept, leave_one_out=True, progress=one.update)
    differs: dict[str, dict[str, Any]] = {"Global": {}, "IndexProcess": {"index_dir": config.IndexProcess.index_dir}}
    differs["IndexProcess"]["image_root"] = str(wanted.root.resolve())
    if (wanted.folder / "model").exists():
        differs["Global"]["rec_inference_model_dir"] = config.Global.rec_inference_model_dir
    for key, (before, after) in found.values.items():
        section, _, name = key.partition(".")
        if before != after:
            differs[section][name] = after
    text = yaml.safe_dump({name: keys for name, keys in differs.items() if keys}, allow_unicode=True, sort_keys=False)
    head = "# By shitu finetune; what is not here is the bundled config's.\nbase: general\n\n"
    _write(wanted.folder / CONFIG, head + text)
    return found, load_config(wanted.folder / CONFIG)
