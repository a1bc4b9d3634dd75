"""What the one training loop promises, for both of those who train by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shitu.errors import ShituError
from shitu.training.base.checkpoints import STATES, load_states
from shitu.training.rec import run as rec
from shitu.training.rec.schema import TrainConfig, load_train_config
from tests.conftest import DEMO, ROOT
from tests.train_det_set import no_bar


def rec_config(output: Path, **more: object) -> TrainConfig:
    """configs/train/demo_cpu.yaml on the demo's 240 pictures, in batches of 48."""
    values = {
        "Global.output_dir": output,
        "Global.eval_during_train": False,
        "DataLoader.Train.dataset.image_root": DEMO,
        "DataLoader.Train.dataset.cls_label_path": DEMO / "gallery.txt",
        "DataLoader.Train.loader.num_workers": 0,
        **more,
    }
    overrides = tuple(f"{key}={value}" for key, value in values.items())
    return load_train_config(ROOT / "configs" / "train" / "demo_cpu.yaml", overrides)


def test_no_checkpoint_holds_what_a_loss_that_is_no_number_left(tmp_path: Path) -> None:
    """Saved after every step, reported at the end of the epoch, which is the fifth."""
    steps = {"Global.save_steps": 1, "Global.print_batch_step": 100}
    config = rec_config(tmp_path, **steps, **{"Optimizer.lr.learning_rate": 1e30, "Optimizer.lr.warmup_epoch": 0})
    with pytest.raises(ShituError, match="the loss is no number any more at step"):
        rec.run_training(config, resume=False, overwrite=False, progress=no_bar)
    latest = tmp_path / "RecModel" / "latest"
    if latest.with_name(latest.name + STATES).exists():
        state, _ = load_states(str(latest))
        assert all(np.isfinite(array).all() for group in state.values() for array in group.values())
