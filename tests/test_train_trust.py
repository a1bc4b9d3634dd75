"""What a training run says of itself is true of what it saves; what is wrong with it shows before it begins."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn

from shitu.errors import ConfigError, ModelError, ShituError, UsageError
from shitu.models import open_model
from shitu.self_test import describe_machine
from shitu.training.base.checkpoints import load_states
from shitu.training.base.ema import MovingAverage
from shitu.training.base.launch import is_launched, own_address
from shitu.training.base.processes import start as join
from shitu.training.rec import run
from shitu.training.rec.auto_augment import OPERATIONS, timm_rand_augment
from shitu.training.rec.from_exported import load_exported
from shitu.training.rec.networks import build_network, freeze, set_train_mode
from shitu.training.rec.plan import build_optimizer
from shitu.training.rec.schema import load_train_config
from shitu.training.rec.schema_arch import Backbone, FCNeck, RecModel
from shitu.training.rec.schema_optimizer import SGD
from tests.conftest import DEMO, ROOT, Run
from tests.test_train_run import CONFIG, arguments, here, records, start

BUNDLED = ROOT / "models" / "efficientnet_lite0_512"
LITE = RecModel(Backbone=Backbone(name="EfficientNetLite0"), Neck=FCNeck(embedding_size=1280, class_num=512))
EVALUATED = (
    "Global.eval_during_train=True",
    *(f"DataLoader.Eval.{side}.dataset.image_root={DEMO}" for side in ("Query", "Gallery")),
    *(f"DataLoader.Eval.{side}.dataset.cls_label_path={DEMO / 'gallery.txt'}" for side in ("Query", "Gallery")),
)


@pytest.fixture(autouse=True)
def one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.parametrize("average", [(), ("EMA.decay=0.9",)], ids=["weights", "average"])
def test_what_two_processes_measure_is_what_they_save(average: tuple[str, ...], shitu: Run, tmp_path: Path) -> None:
    """Their batch norms have seen different images; the first process's are saved."""
    done = shitu(*arguments(tmp_path, *EVALUATED, *average, "Global.epochs=2", "--nproc=2"))
    assert done.returncode == 0, done.stderr
    told = [record["recall1"] for record in records(tmp_path) if "recall1" in record]
    overrides = (*EVALUATED, f"Global.pretrained_model={tmp_path / 'RecModel' / 'best_model'}")
    measured = here("eval", "-c", str(CONFIG), *(part for each in overrides for part in ("-o", each)))
    assert json.loads(measured.stdout)["recall1"] == pytest.approx(max(told), abs=1e-6)


def config_of(folder: Path, *more: str) -> run.TrainConfig:
    words = arguments(folder, "Global.epochs=1", "Global.device=cpu", *more)
    return load_train_config(CONFIG, tuple(word for word in words[3:] if word != "-o"))


def trained(config: run.TrainConfig, *, resume: bool = False) -> dict[str, float]:
    from contextlib import nullcontext
    from types import SimpleNamespace

    bar = SimpleNamespace(update=lambda _: None)
    return run.run_training(config, resume=resume, overwrite=False, progress=lambda _: nullcontext(bar))


def test_an_evaluation_that_fails_loses_no_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ShituError("the disk of the evaluation images is gone")

    config = config_of(tmp_path, *EVALUATED)
    with monkeypatch.context() as patch:
        patch.setattr(run, "evaluate", fail)
        with pytest.raises(ShituError, match="is gone"):
            trained(config)
    assert (tmp_path / "RecModel" / "latest.pdparams").is_file()
    _, position = load_states(str(tmp_path / "RecModel" / "latest"))
    assert position["unfinished"]
    best = trained(config, resume=True)  # begins with what failed, and has nothing else to do
    assert best["epoch"] == 1
    assert [record["step"] for record in records(tmp_path) if "loss" in record] == [1, 2, 3, 4, 5]
    assert (tmp_path / "RecModel" / "best_model.pdparams").is_file()


def test_weights_that_are_no_numbers_are_not_saved_under_any_name(tmp_path: Path) -> None:
    words = ("Optimizer.lr={name: Constant, learning_rate: 1.0e+38}", "Global.print_batch_step=4")
    with pytest.raises(ShituError, match="no number any more"):
        trained(config_of(tmp_path, *words, "Global.max_iters=1"))
    assert not list((tmp_path / "RecModel").glob("*.pd*"))


def test_a_dry_run_finds_all_that_is_wrong_and_says_it_at_once(tmp_path: Path) -> None:
    done = here(
        *arguments(tmp_path, *EVALUATED, f"Global.pretrained_model={tmp_path / 'none'}", "--dry-run"),
        *("-o", f"DataLoader.Eval.Query.dataset.cls_label_path={tmp_path / 'gone.txt'}", "-o", "Metric.Eval=[]"),
        *("-o", "Loss.Train=[{DistillationGTCELoss: {model_names: [Student]}}]"),
    )
    assert done.exit_code == 2
    said = str(done.exception) if done.exception and not done.output else done.output
    for each in ("no weights", "Metric.Eval", "gone.txt", "DistillationGTCELoss", "4 things are wrong"):
        assert each in said, said
    assert not (tmp_path / "RecModel").exists()


def test_frozen_random_layers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no weights to start from"):
        trained(config_of(tmp_path, "Arch.freeze_layers=[backbone]"))


# --- several processes ---------------------------------------------------------------------------------------------


def test_the_own_one_of_several_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_address("203.0.113.7,127.0.0.1") == "127.0.0.1"
    with pytest.raises(UsageError, match="none is an address of this machine"):
        own_address("203.0.113.7,203.0.113.8")


@pytest.fixture
def own() -> str:
    """An address of this machine that others could reach."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("203.0.113.7", 9))  # which sends nothing
        return str(probe.getsockname()[0])
    pytest.skip("this machine has no address but the loopback's, which Paddle refuses")


def test_a_machine_is_told_its_own_place_and_ends_at_the_first_signal(tmp_path: Path, own: str) -> None:
    """The other machine, an address of documentation (RFC 5737), never comes."""
    process = start(tmp_path, "--nproc=1", f"--ips=203.0.113.7,{own}")
    log, limit = tmp_path / "launch" / "workerlog.0", time.monotonic() + 60
    while not (log.is_file() and "waits for the others" in log.read_text()) and time.monotonic() < limit:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert "process 1 of 2 waits for the others at 203.0.113.7" in log.read_text()


def test_processes_that_do_not_meet_say_so(tmp_path: Path, own: str) -> None:
    environment = os.environ | {"SHITU_MEET_SECONDS": "2"}
    command = [sys.executable, "-m", "shitu", *arguments(tmp_path, "--nproc=1", f"--ips=203.0.113.7,{own}")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "the processes did not meet within 2 s" in done.stderr


def test_a_scheduler_s_variables_are_not_taken_for_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADDLE_TRAINER_ID", "3")
    assert not is_launched()
    assert join() == (0, 1)


# --- half precision, as far as a CPU shows it ------------------------------------------------------------------------


def test_an_average_of_half_precision_weights_moves() -> None:
    """0.9999 of a float16 and 0.0001 of another are, in float16, the first."""
    network = nn.Linear(1, 1, bias_attr=False).to(dtype="float16")
    network.weight.set_value(np.array([[1.0]], np.float16))
    average = MovingAverage(network, 0.9999)
    network.weight.set_value(np.array([[2.0]], np.float16))
    for _ in range(1000):
        average.update()
    with average.in_place():
        assert float(network.weight.astype("float32")) == pytest.approx(2 - 0.9999**1000, abs=1e-3)
    assert float(network.weight.astype("float32")) == 2.0


# --- as PaddleClas has it --------------------------------------------------------------------------------------------


def test_clip_norm_is_of_each_parameter() -> None:
    network = nn.Sequential(nn.Linear(2, 1, bias_attr=False), nn.Linear(1, 1, bias_attr=False))
    optimizer = build_optimizer(SGD(clip_norm=1.0), network, nn.Layer())
    before = [each.numpy().copy() for each in network.parameters()]
    network[0].weight.grad, network[1].weight.grad = paddle.to_tensor([[3.0], [4.0]]), paddle.to_tensor([[0.5]])
    optimizer.set_lr(1.0)
    optimizer.step()
    moved = [b - each.numpy() for b, each in zip(before, network.parameters(), strict=True)]
    np.testing.assert_allclose(moved[0].ravel(), [0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(moved[1].ravel(), [0.5], rtol=1e-6)


@pytest.mark.parametrize(("strength", "kept"), [(0.0, 4), (0.3, 3), (0.5, 2), (0.9, 1), (1.0, 0)])
def test_timm_s_increasing_posterize_keeps_four_bits_to_none(strength: float, kept: int) -> None:
    """timm: 4 - int(level / 10 * 4)."""
    from PIL import Image

    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16).repeat(3).reshape(16, 16, 3)
    found = np.asarray(OPERATIONS["posterize_further"](Image.fromarray(ramp), strength, 1))
    assert np.array_equal(found, ramp & ((0xFF << (8 - kept)) & 0xFF))
    augment = timm_rand_augment("rand-m9-mstd0.5-inc1")
    assert augment is not None
    assert "posterize_further" in augment.operations
    assert "posterize" not in augment.operations


# --- training on from an exported model ----------------------------------------------------------------------------


def test_the_bundled_recogniser_can_be_trained_on() -> None:
    network = build_network(LITE, 3)
    freeze(network, RecModel(freeze_norms=True))
    for _ in range(2):  # Paddle names the parameters of a program otherwise when it is loaded again
        load_exported(network, open_model(str(BUNDLED), task="recognition"))
    program = paddle.jit.load(str(BUNDLED / "inference"))
    x = paddle.to_tensor(np.random.default_rng(3).normal(size=(2, 3, 224, 224)).astype("float32"))
    for mode in (network.eval, lambda: set_train_mode(network)):  # norms that stand still do the same in both
        mode()
        for block in network.backbone.blocks:
            block.drop_rate = 0.0
        found = network.embed(x)["features"].numpy()
        np.testing.assert_allclose(found, program(x).numpy(), atol=1e-4 * np.abs(found).max())
    loss = network.embed(x)["features"].square().mean()
    loss.backward()
    assert [
        name for name, each in network.backbone.named_parameters() if not each.stop_gradient and each.grad is None
    ] == []


def test_the_bundled_pplcnetv2_can_be_trained_on() -> None:
    """Its export joined parallel branches; together they give the same, and each of them learns."""
    config = load_train_config(
        ROOT / "configs" / "train" / "GeneralRecognitionV2_PPLCNetV2_cpu.yaml",
        ("Arch.Neck=null", "Arch.freeze_norms=True", "Arch.Head.class_num=3"),
    )
    network = build_network(config.Arch, 3)
    freeze(network, config.Arch)
    load_exported(network, open_model("pplcnetv2_base_512", task="recognition"))
    x = paddle.to_tensor(np.random.default_rng(3).normal(size=(2, 3, 224, 224)).astype("float32"))
    network.eval()
    features = network.embed(x)["features"]
    program = paddle.jit.load(str(ROOT / "models" / "pplcnetv2_base_512" / "inference"))
    np.testing.assert_allclose(features.numpy(), program(x).numpy(), atol=1e-4 * np.abs(features.numpy()).max())
    features.square().mean().backward()
    branches = {
        n: each.grad for n, each in network.backbone.named_parameters() if "dw_conv_list" in n and "conv.w" in n
    }
    assert len(branches) == 8 * 3 - 1  # the one of stride 2 has no branch of 1 x 1
    assert all(grad is not None and float(grad.abs().max()) > 0 for grad in branches.values())


def test_norms_that_would_move_and_other_networks_are_refused() -> None:
    model = open_model(str(BUNDLED), task="recognition")
    with pytest.raises(ConfigError, match=r"freeze_norms=True"):
        load_exported(build_network(LITE, 3), model)
    other = build_network(RecModel(Backbone=Backbone(name="EfficientNetLite1"), Neck=LITE.Neck), 3)
    freeze(other, RecModel(freeze_norms=True))
    before = {name: value.numpy().copy() for name, value in other.state_dict().items()}
    with pytest.raises(ModelError, match="another network"):
        load_exported(other, model)
    assert all(np.array_equal(before[name], value.numpy()) for name, value in other.state_dict().items())


# --- the wheel for GPUs ---


def test_check_finds_two_paddles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both write the folder paddle/. The record of a wheel for GPUs is put beside the one that is here."""
    wheel = tmp_path / "paddlepaddle_gpu-3.2.2.dist-info"
    wheel.mkdir()
    (wheel / "METADATA").write_text("Metadata-Version: 2.1\nName: paddlepaddle-gpu\nVersion: 3.2.2\n")
    assert "one too many" not in dict(describe_machine())["paddlepaddle"]
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "paddlepaddle-gpu 3.2.2: one too many" in dict(describe_machine())["paddlepaddle"]


def test_an_export_names_paddle_without_its_wheel_s_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU build there is no distribution called paddlepaddle."""

    def none(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", none)
    assert trained(config_of(tmp_path, *EVALUATED, "Global.max_iters=1"))
    assert "exported by shitu" in (tmp_path / "RecModel" / "inference" / "model.yaml").read_text().lower()


# --- a run that ends early -------------------------------------------------------------------------------------------


def test_it_ends_without_gain_and_keeps_the_latest_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.1, 0.3, 0.2, 0.3, 0.9])
    monkeypatch.setattr(run, "evaluate", lambda *_, **__: {"recall1": next(scores)})
    words = ("Global.epochs=10", "Global.early_stop=2", "Global.keep_checkpoints=2")
    config = config_of(tmp_path, *EVALUATED, *words)
    assert trained(config) == {"epoch": 2, "recall1": 0.3}
    folder = tmp_path / "RecModel"
    assert sorted(path.stem for path in folder.glob("epoch_*")) == ["epoch_3", "epoch_4"]
    assert trained(config, resume=True) == {"epoch": 2, "recall1": 0.3}  # over is over
    assert next(scores) == 0.9


def test_it_ends_with_the_epoch_in_which_the_time_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluated, though its turn has not come; with more time a resume goes on."""
    scores = iter([0.1, 0.2, 0.9])
    monkeypatch.setattr(run, "evaluate", lambda *_, **__: {"recall1": next(scores)})
    words = (*EVALUATED, "Global.epochs=2", "Global.eval_interval=2")
    assert trained(config_of(tmp_path, *words, "Global.max_minutes=1e-9"))["epoch"] == 1
    assert trained(config_of(tmp_path, *words, "Global.max_minutes=1e-9"), resume=True)["epoch"] == 1
    assert trained(config_of(tmp_path, *words), resume=True) == {"epoch": 2, "recall1": 0.2}
