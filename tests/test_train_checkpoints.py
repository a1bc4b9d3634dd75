"""Checkpoints: whole or not there, readable by Paddle, and never a pickle that is run."""

from __future__ import annotations

import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest

from shitu.errors import ModelError, ShituError, UsageError
from shitu.training.base.checkpoints import load_states, replace_file, save_states, save_weights, sweep

STATE = {
    "network": {"conv.weight": np.arange(6, dtype="float32").reshape(2, 3), "层.bias": np.zeros(0, "float32")},
    "optimizer": {"conv.weight|_velocity_0": np.ones((2, 3), "float32")},
}
POSITION = {"images": 640, "best": {"recall1": 0.5}, "meter": {"sums": {"loss": 0.1}, "images": 3}, "config": {"名": 1}}


@pytest.mark.parametrize("suffix", ["", ".pdstates", ".pdparams"])
def test_what_is_saved_comes_back(tmp_path: Path, suffix: str) -> None:
    save_states(tmp_path / "latest", STATE, POSITION)
    state, position = load_states(str(tmp_path / f"latest{suffix}"))
    assert position == POSITION
    assert {group: set(arrays) for group, arrays in state.items()} == {
        group: set(arrays) for group, arrays in STATE.items()
    }
    for group, arrays in STATE.items():
        for name, value in arrays.items():
            np.testing.assert_array_equal(state[group][name], value)
            assert state[group][name].dtype == value.dtype


def test_paddle_reads_the_weights(tmp_path: Path) -> None:
    network = paddle.nn.Linear(3, 2)
    save_weights(tmp_path / "best_model", {name: value.numpy() for name, value in network.state_dict().items()})
    other = paddle.nn.Linear(3, 2)
    other.set_state_dict(paddle.load(str(tmp_path / "best_model.pdparams")))
    np.testing.assert_array_equal(other.weight.numpy(), network.weight.numpy())


def test_a_write_that_fails_leaves_the_old(tmp_path: Path) -> None:
    save_states(tmp_path / "latest", STATE, POSITION)

    def fails(file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_file(tmp_path / "latest.pdstates", fails)
    assert load_states(str(tmp_path / "latest"))[1] == POSITION
    assert [path.name for path in tmp_path.iterdir()] == ["latest.pdstates"]


def test_a_full_disk_leaves_the_old(tmp_path: Path) -> None:
    """With a limit on the size of files, writing fails as it does on a full disk: in the middle."""
    save_states(tmp_path / "latest", STATE, POSITION)
    code = (
        "import numpy as np; from pathlib import Path; from shitu.training.base.checkpoints import save_states\n"
        "save_states(Path('latest'), {'network': {'w': np.zeros(10**6)}}, {})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert "ShituError: latest.pdstates cannot be written: File too large" in done.stderr
    assert load_states(str(tmp_path / "latest"))[1] == POSITION
    assert [path.name for path in tmp_path.iterdir()] == ["latest.pdstates"]


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ShituError, match="cannot be written"):
        save_states(tmp_path / "file" / "latest", STATE, POSITION)


def test_remains_of_a_killed_process_are_swept(tmp_path: Path) -> None:
    (tmp_path / ".latest.pdstates.123.part").write_bytes(b"half")
    (tmp_path / "latest.pdstates").write_bytes(b"whole")
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["latest.pdstates"]


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no checkpoint .*latest\.pdstates; .*pretrained_model"):
        load_states(str(tmp_path / "latest"))


class Dangerous:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("echo executed > executed",)


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "pickle", "pickled array", "another npz"])
def test_damaged_or_foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    save_states(Path("latest"), STATE, POSITION)
    path = Path("latest.pdstates")
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif kind == "pickled array":
        with path.open("wb") as file:
            np.savez(file, position=np.array([Dangerous()], dtype=object))
    elif kind == "another npz":
        with path.open("wb") as file:
            np.savez(file, a=np.zeros(3))
    else:
        path.write_bytes({"empty": b"", "text": b"hello", "pickle": pickle.dumps(Dangerous())}[kind])
    with pytest.raises(ModelError, match="is no checkpoint of shitu's, or is damaged"):
        load_states("latest")
    assert not Path("executed").exists()
