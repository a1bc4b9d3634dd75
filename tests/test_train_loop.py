"""What the one training loop promises, for both of those who train by it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shitu.errors import ModelError, ShituError
from shitu.training.base.checkpoints import STATES, State, load_states, save_states
from shitu.training.base.log import read_records
from shitu.training.det import run as det
from shitu.training.rec import run as rec
from shitu.training.rec.schema import load_train_config
from tests.conftest import DEMO, ROOT
from tests.train_det_set import config_of, no_bar, write_coco_set

SAVED_AT = 4  # the step from which the tests go on; the log is told of every second one
NAN = {
    "rec": {"Optimizer.lr.learning_rate": 1e30, "Optimizer.lr.warmup_epoch": 0, "Global.print_batch_step": 100},
    "det": {"LearningRate.base_lr": 1e30, "LearningRate.schedulers.1.steps": 0, "log_iter": 100},
}


@dataclass(frozen=True)
class Kind:
    """One of the two: `train` a small set for some steps, saving after each, and where that is written."""

    train: Callable[..., object]
    folder: Path

    @property
    def latest(self) -> Path:
        return self.folder / f"latest{STATES}"

    def records(self) -> list[dict[str, Any]]:
        return [
            {**each, "images_per_s": None, "data_wait": None} for each in read_records(self.folder / "metrics.jsonl")
        ]


def kind_of(name: str, coco: Path, output: Path, **more: object) -> Kind:
    """The extractor on configs/train/demo_cpu.yaml, every feature that has a state; or PicoDet with its average."""
    if name == "det":
        config = config_of(coco, output, **{"epoch": 2, "save_steps": 1, "log_iter": 2, "cycle_epoch": 2, **more})
        return Kind(lambda **how: det.run_training(config, progress=no_bar, **how), config.run_dir)
    memory = "TripletAngularMarginLoss_XBM: {weight: 0.5, start_iter: 1, xbm_size: 100}"
    values = {
        "Global.output_dir": output,
        "Global.eval_during_train": False,
        "Global.epochs": 2,
        "Global.save_steps": 1,
        "Global.print_batch_step": 2,
        "Global.update_freq": 2,
        "EMA.decay": 0.9,
        "Loss.Train": f"[{{CELoss: {{weight: 1.0}}}}, {{{memory}}}]",
        "DataLoader.Train.dataset.image_root": DEMO,
        "DataLoader.Train.dataset.cls_label_path": DEMO / "gallery.txt",
        "DataLoader.Train.loader.num_workers": 0,
        "DataLoader.Train.sampler.batch_size": 24,
        **more,
    }
    overrides = tuple(f"{key}={value}" for key, value in values.items())
    of_rec = load_train_config(ROOT / "configs" / "train" / "demo_cpu.yaml", overrides)
    return Kind(lambda **how: rec.run_training(of_rec, progress=no_bar, **how), output / "RecModel")


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("数据")
    write_coco_set(folder)
    write_coco_set(folder, images=4, seed=5, name="val")
    return folder


@pytest.fixture(scope="module", params=["rec", "det"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def straight(name: str, coco: Path, tmp_path_factory: pytest.TempPathFactory) -> Kind:
    """A run from start to end, with a copy of what it had saved after step SAVED_AT."""
    kind = kind_of(name, coco, tmp_path_factory.mktemp("straight"))
    saved: list[int] = []

    def kept(path: Path, state: State, position: dict[str, Any]) -> None:
        save_states(path, state, position)
        saved.append(len(saved) + 1)
        if len(saved) == SAVED_AT:
            shutil.copytree(kind.folder, kind.folder.with_name("then"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shitu.training.base.checkpoints.save_states", kept)
        kind.train(resume=False, overwrite=False)
    assert len(saved) > SAVED_AT
    return kind


@pytest.mark.parametrize("version", ["of now", "0.1.0"])
def test_what_goes_on_ends_with_the_same_bits(
    version: str, name: str, straight: Kind, coco: Path, tmp_path: Path
) -> None:
    """All that a run leaves: its records, its weights, and each array of its state. Before the loop was one, an
    extractor's checkpoint had no place for its average's position, and none said whose it was.
    """
    again = kind_of(name, coco, tmp_path)
    shutil.copytree(straight.folder.with_name("then"), again.folder)
    if version == "0.1.0":
        state, position = load_states(str(again.latest))
        del position["what"]
        if name == "rec":
            del position["ema"]
        save_states(again.folder / "latest", state, position)
    again.train(resume=True, overwrite=False)
    assert again.records() == straight.records()
    (one, one_position), (other, other_position) = (load_states(str(each.latest)) for each in (straight, again))
    assert one.keys() == other.keys() >= {"network", "optimizer", "ema"}
    for group in one:
        assert one[group].keys() == other[group].keys()
        assert all(np.array_equal(one[group][key], other[group][key]) for key in one[group])
    assert [one_position[key] for key in ("images", "ema", "best", "meter")] == [
        other_position[key] for key in ("images", "ema", "best", "meter")
    ]
    for path in again.folder.glob("*.pdparams"):
        assert path.read_bytes() == (straight.folder / path.name).read_bytes()


def test_the_other_s_checkpoint_is_refused(name: str, straight: Kind, coco: Path, tmp_path: Path) -> None:
    other = kind_of("det" if name == "rec" else "rec", coco, tmp_path)
    other.folder.mkdir(parents=True)
    shutil.copy(straight.latest, other.latest)
    whose = {"rec": "an extractor", "det": "a detector"}
    with pytest.raises(
        ModelError, match=f"is a checkpoint of {whose.pop(name)}; that of {min(whose.values())} is wanted"
    ):
        other.train(resume=True, overwrite=False)


def test_no_checkpoint_holds_what_a_loss_that_is_no_number_left(name: str, coco: Path, tmp_path: Path) -> None:
    """Saved after every step, reported at the end of the epoch."""
    kind = kind_of(name, coco, tmp_path, **NAN[name])
    with pytest.raises(ShituError, match="the loss is no number any more at step"):
        kind.train(resume=False, overwrite=False)
    if kind.latest.exists():
        state, _ = load_states(str(kind.latest))
        assert all(np.isfinite(array).all() for group in state.values() for array in group.values())


def test_a_full_disk_leaves_what_was_saved_before(
    name: str, straight: Kind, coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = kind_of(name, coco, tmp_path)
    shutil.copytree(straight.folder.with_name("then"), again.folder)
    before = again.latest.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shitu.files.os.fsync", full)
    with pytest.raises(ShituError, match=r"No space left on device. What was saved before is untouched"):
        again.train(resume=True, overwrite=False)
    assert again.latest.read_bytes() == before
    assert not list(again.folder.glob(".*.part"))
