"""What a run leaves to be read: its text log, how fast it went, and the records in TensorBoard and VisualDL."""

from __future__ import annotations

import json
import logging
import re
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from shitu.cli import main
from shitu.errors import EngineError
from shitu.training.base import processes
from shitu.training.base.boards import Boards
from shitu.training.base.log import Pace, RunLog, text_log
from shitu.training.det.run import settings_of as det_settings
from tests.conftest import DEMO, ROOT
from tests.train_det_set import config_of

CONFIG = ROOT / "configs" / "train" / "demo_cpu.yaml"


def train(output: Path, *more: str, options: tuple[str, ...] = (), quiet: bool = False) -> Any:
    """Three steps of demo_cpu.yaml, which is evaluated, unless `more` says otherwise."""
    sides = ("Train", "Eval.Query", "Eval.Gallery")
    overrides = [
        *(f"Global.output_dir={output}", "Global.max_iters=3", "Global.print_batch_step=1"),
        *("DataLoader.Train.sampler.batch_size=24", "DataLoader.Train.loader.num_workers=0"),
        *(f"DataLoader.{side}.dataset.image_root={DEMO}" for side in sides),
        *(f"DataLoader.{side}.dataset.cls_label_path={DEMO / 'gallery.txt'}" for side in sides),
        *more,
    ]
    settings = [part for each in overrides for part in ("-o", each)]
    return CliRunner().invoke(main, [*["--quiet"] * quiet, "train", "-c", str(CONFIG), *settings, *options])


def records(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "RecModel" / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps that went on to five, with both boards."""
    output = tmp_path_factory.mktemp("run")
    both = ("Global.use_tensorboard=True", "Global.use_visualdl=True")
    for name in ("tensorboardX", "visualdl"):
        pytest.importorskip(name, reason="pip install 'shitu[tensorboard,visualdl]'")
    assert train(output, *both).exit_code == 0
    done = train(output, *both, "Global.max_iters=5", options=("--resume",), quiet=True)
    assert done.exit_code == 0, done.output
    return output


def test_the_text_log_has_what_was_said_also_what_was_not_shown(boards: Path) -> None:
    lines = (boards / "RecModel" / "train.log").read_text(encoding="utf-8").splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING) ", line) for line in lines)
    told = [line.partition(" INFO ")[2].strip() for line in lines]
    assert [line.split(",")[1].split(":")[0] for line in told if line.startswith("epoch") and " step " in line] == [
        " step 1/3", " step 2/3", " step 3/3", " step 4/5", " step 5/5",
    ]  # fmt: skip  # the last two by a run that was told to be quiet
    speed = r"loss [\d.]+, lr [\d.e-]+, [\d.]+ images/s, \d+ % of it waiting for data, \d+:\d\d:\d\d left$"
    assert len([line for line in told if re.search(speed, line)]) == 5
    assert any(line.startswith("data ") for line in told)
    assert any("going on from" in line for line in told)
    assert any("changed since the checkpoint: Global.max_iters 3 -> 5" in line for line in lines)


def test_a_new_run_has_a_new_text_log(tmp_path: Path) -> None:
    assert train(tmp_path).exit_code == 0
    assert train(tmp_path, options=("--overwrite",)).exit_code == 0
    log = (tmp_path / "RecModel" / "train.log").read_text(encoding="utf-8")
    assert len(re.findall("step 1/3", log)) == 1


def test_the_text_log_says_how_it_ended(tmp_path: Path) -> None:
    done = train(tmp_path, "Optimizer.lr.learning_rate=1e30", "Optimizer.lr.warmup_epoch=0")
    assert done.exit_code == 1
    last = (tmp_path / "RecModel" / "train.log").read_text(encoding="utf-8").splitlines()[-1]
    assert " ERROR " in last
    assert "the loss is no number any more" in last


def test_a_full_disk_under_the_text_log_is_passed_over(capfd: pytest.CaptureFixture[str]) -> None:
    with text_log(Path("/dev/full")):
        logging.getLogger("shitu").warning("anything")
    assert "Traceback" not in capfd.readouterr().err


def test_waiting_for_data_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock of the test's own: 4 steps in 10 s, of which 2 + 3 s in waiting."""
    now = 100.0
    monkeypatch.setattr("shitu.training.base.log.time.perf_counter", lambda: now)
    pace = Pace()
    pace.begin(8)
    for seconds in (2.0, 3.0):
        with pace.waiting():
            now += seconds
    now += 5
    assert pace.take(12) == (0.4, 0.5)
    now += 2
    assert pace.take(13) == (0.5, 0.0)


def test_a_gpu_s_memory_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: Any) -> None:
    """Paddle's answers on a GPU, stood in for."""
    monkeypatch.setattr("paddle.device.get_device", lambda: "gpu:0")
    monkeypatch.setattr("paddle.device.cuda.max_memory_allocated", lambda: 12_345_678_901)
    assert processes.gpu_memory() == 12.35


# --- boards ------------------------------------------------------------------------------------------------------


def wanted_scalars(output: Path) -> dict[str, list[tuple[int, float]]]:
    """tag -> (step, value), of metrics.jsonl."""
    found: dict[str, list[tuple[int, float]]] = {}
    for record in records(output):
        group = "train" if "lr" in record else "eval"
        for name, value in record.items():
            if name not in ("epoch", "step"):
                found.setdefault(f"{group}/{name}", []).append((record["step"], pytest.approx(value, rel=1e-6)))
    return found


def events(file: Path) -> list[bytes]:
    """The records of an event file, whose frame is length, its crc, data, its crc."""
    data, place, found = file.read_bytes(), 0, []
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        found.append(data[place + 12 : place + 12 + length])
        place += length + 16
    return found


def test_tensorboard_has_what_metrics_jsonl_has(boards: Path) -> None:
    """Read by tensorboardX's own protobufs; what a resume writes again purges what was there."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, list[tuple[int, float]]] = {}
    for file in sorted((boards / "RecModel" / "tensorboard").iterdir()):
        for event in map(Event.FromString, events(file)):
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    assert found == wanted_scalars(boards)
    assert {"train/loss", "train/lr", "train/images_per_s", "train/data_wait", "eval/recall1"} <= set(found)


def test_visualdl_has_what_metrics_jsonl_has(boards: Path) -> None:
    """By VisualDL's own reader."""
    from visualdl import LogReader

    found: dict[str, list[tuple[int, float]]] = {}
    for file in sorted((boards / "RecModel" / "vdl").iterdir()):
        reader = LogReader(file_path=str(file))
        for tag in reader.get_tags().get("scalar", []):
            found.setdefault(tag, []).extend((each.id, each.value) for each in reader.get_data("scalar", tag))
    assert found == wanted_scalars(boards)


def test_the_detector_s_keys(tmp_path: Path) -> None:
    """ppdet calls its own use_vdl."""
    both = config_of(tmp_path, tmp_path, use_vdl=True, use_tensorboard=True)
    assert [det_settings(each).boards for each in (both, config_of(tmp_path, tmp_path))] == [
        ("tensorboard", "visualdl"),
        (),
    ]


@pytest.mark.parametrize("name", ["tensorboard", "visualdl"])
def test_a_board_is_asked_for_by_name(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in ("tensorboardX", "visualdl"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EngineError, match=rf"pip install 'shitu\[{name}\]'"):
        Boards(tmp_path, (name,), after=0)
    done = train(tmp_path / "run", f"Global.use_{name}=True")
    assert done.exit_code == 1
    assert f"pip install 'shitu[{name}]'" in done.stderr
    assert not (tmp_path / "run").exists()
    tried = train(tmp_path / "run", f"Global.use_{name}=True", options=("--dry-run",))
    assert tried.exit_code == 2
    assert f"pip install 'shitu[{name}]'" in tried.stderr


def test_what_is_no_number_is_not_shown(tmp_path: Path) -> None:
    told: list[tuple[str, float, int]] = []

    class Spy:
        def add_scalar(self, tag: str, value: float, step: int) -> None:
            told.append((tag, value, step))

        def close(self) -> None:
            pass

    log = RunLog(tmp_path)
    log.boards.writers = [Spy()]
    log.write({"epoch": 1, "step": 3, "recall1": 0.5, "mAP": float("nan"), "mINP": float("inf")})
    assert told == [("eval/recall1", 0.5, 3)]
