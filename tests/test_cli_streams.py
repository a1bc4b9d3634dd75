"""Streams that are closed or full, and Ctrl-C while libraries are loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from shitu.cli import main
from shitu.errors import ShituError
from shitu.gallery.gallery import Gallery
from tests.conftest import ROOT
from tests.gallery_twin import items_for, new

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="shells and devices of Linux")


def shell(command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = f'shitu() {{ "{sys.executable}" -m shitu "$@"; }}; {command}'
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, check=False, cwd=cwd, env=environment, timeout=120
    )


@pytest.mark.parametrize("command", ["gallery info g", "gallery list nowhere", "predict nofile.jpg", "nonsense"])
@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "2>/dev/full", "<&- >&- 2>&-"])
def test_the_status_is_the_same_where_nobody_can_read_the_message(command: str, closed: str, tmp_path: Path) -> None:
    """A traceback, of status 1, where sys.stderr was None."""
    new(tmp_path / "g", np.eye(4, 64, dtype=np.float32))
    plain, mute = (shell(f"shitu {command} {streams}", tmp_path) for streams in ("", closed))
    assert mute.returncode == (1 if "nonsense" in command and "full" in closed else plain.returncode)
    assert "Traceback" not in mute.stderr
    if ">&- 2" not in closed:
        assert mute.stdout == plain.stdout


def test_a_closed_stream_s_number_does_not_go_to_a_file(tmp_path: Path) -> None:
    """What a library prints to 1 or 2 would go into the gallery that was opened in their place."""
    gallery = new(tmp_path / "g", np.eye(4, 64, dtype=np.float32))
    code = (
        "import os, sys; from shitu.cli import out; out.open_streams(); f = open('x', 'w'); "
        "os.write(1, b'noise'); os.write(2, b'noise'); sys.exit(f.fileno())"
    )
    done = shell(f'"{sys.executable}" -c "{code}" <&- >&- 2>&-', tmp_path)
    assert done.returncode > 2
    assert (tmp_path / "x").read_text() == ""
    assert gallery.verify() == []


def test_help_on_a_full_disk_is_no_traceback(tmp_path: Path) -> None:
    done = shell("shitu --help > /dev/full", tmp_path)
    assert (done.returncode, done.stderr) == (1, "Error: No space left on device: standard output\n")


INTERRUPTED = """
import signal
from shitu.cli import main
from shitu.cli.predict import predict
from shitu.errors import ShituError

def interrupted(*arguments, **named):
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise {error} from None

predict.callback = interrupted
main(["predict", "x.jpg"])
"""


@pytest.mark.parametrize("error", ["ShituError('paddlepaddle cannot be imported (None)')", "ImportError('numpy')"])
def test_ctrl_c_that_a_library_makes_an_error_of_is_still_ctrl_c(error: str) -> None:
    """A C extension that is being loaded turns it into an ImportError: we said that Paddle cannot be imported."""
    code = INTERRUPTED.format(error=error)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 130, done.stderr
    assert "Interrupted" in done.stderr
    assert "paddle" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "--false-accept", "nan"],
        ["calibrate", "--query", "x", "--false-accept", "nan"],
        ["quantize", "x", "--max-drop", "nan"],
    ],
)
def test_nan_is_no_number(arguments: list[str]) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert "nan" in done.output


@pytest.mark.parametrize("key", ["Global.batch_size", "IndexProcess.batch_size"])
def test_batches_have_a_limit(key: str) -> None:
    """A batch of a million took all memory before its first image was named."""
    done = CliRunner().invoke(main, ["predict", "-o", f"{key}=1000000", "x.jpg"])
    assert (done.exit_code, "between 1 and 1024" in done.output) == (2, True)


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    from tests.campaign.full_disks import may_mount, small_disk

    if not may_mount():
        pytest.skip("no tmpfs may be mounted here")
    with small_disk(tmp_path, 100_000) as disk:
        with pytest.raises(ShituError) as caught:
            Gallery.create(
                disk / "图库",
                np.eye(200, 512, dtype=np.float32),
                items_for(200),
                index_method="Flat",
                dist_type="IP",
                fingerprint="",
            )
        assert f"Make room on the disk mounted at {disk} (" in str(caught.value)
        assert f"that holds {disk / '图库'}" in str(caught.value)
        assert os.listdir(disk) == ["图库"]
