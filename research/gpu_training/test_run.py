"""The script for GPUs, as far as a CPU runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from research.gpu_training import run


def test_it_trains_and_resumes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "research.gpu_training.run", "--cpu", "--output", str(tmp_path), "--only"]
    checks = ["resume", "two-processes-O2"]
    done = subprocess.run([*command, *checks], capture_output=True, text=True, check=False, cwd=run.ROOT, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert [results[name][0] for name in checks] == ["passed", "left out"]
    assert results["resume"][1] == "equal to the last bit"


def test_what_is_too_far_apart_fails() -> None:
    assert run.compare([1.0, 2.002], [1.0, 2.0], 5e-3) == "1e-03 apart"
    with pytest.raises(run.FailedError, match=r"2\.0e-02 apart"):
        run.compare([1.0, 2.04], [1.0, 2.0], 5e-3)
    machine = run.Machine(gpu=False, cards=0, output=Path())

    def broken(_: run.Machine) -> str:
        raise run.FailedError("why")

    assert run.made(broken, machine) == ("FAILED", "why")
    assert run.made(run.several("two", wanted=False), machine) == ("left out", "needs GPUs")
