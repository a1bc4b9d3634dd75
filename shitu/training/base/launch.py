"""The same command in several processes, through paddle.distributed.launch; and how a training process is stopped."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import shitu
from shitu.cores import available_cores
from shitu.errors import ShituError, StoppedError, UsageError
from shitu.training.base import processes

_TAIL = 5  # lines shown of the log of a process that failed
_STOP_FILE = "SHITU_STOP_FILE"  # in the environment of the processes
# what Paddle writes by itself: its flags, its C++ log, warnings about compilers
_NOISE = re.compile(r"=====|FLAGS\(|[IW]\d{4} \d\d:|.*ccache|\s*warnings\.warn|LAUNCH INFO|-----|Modified FLAGS")
_log = logging.getLogger("shitu")


def is_launched() -> bool:
    """Whether this process is one of several that a launcher started."""
    return "PADDLE_TRAINER_ID" in os.environ


def launch(arguments: Sequence[str], *, gpus: str | None, nproc: int | None, ips: str | None, log_dir: Path) -> None:
    """Run `shitu ARGUMENTS` once per GPU (`gpus` "0,1"), or in `nproc` processes on the CPU, on each machine of `ips`.

    What the first process says is passed on, lines of JSON to stdout and all else to stderr. Raises ShituError that
    says which process died and what it said last; Paddle's launcher ends the others.
    """
    places = _places(gpus, nproc, ips)
    log_dir.mkdir(parents=True, exist_ok=True)
    stop_file = log_dir / "stop"
    for old in (*log_dir.glob("*log*"), stop_file):
        old.unlink(missing_ok=True)
    command = [sys.executable, "-m", "paddle.distributed.launch", "--log_dir", str(log_dir), *places]
    # an empty list of devices makes Paddle's launcher fail
    environment = {name: value for name, value in os.environ.items() if value or name != "CUDA_VISIBLE_DEVICES"}
    if nproc and not gpus:
        environment["PADDLE_DISTRI_BACKEND"] = "gloo"
        # without a limit each process would take all cores
        environment.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // nproc)))
    environment[_STOP_FILE] = str(stop_file)
    program = Path(shitu.__file__).parent / "__main__.py"
    with (log_dir / "launcher.log").open("wb") as launcher_log:
        process = subprocess.Popen(
            [*command, str(program), *arguments],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=launcher_log,
            start_new_session=True,  # a Ctrl-C reaches this process alone
        )

        def stop(*_: object) -> None:
            """The first signal asks the processes to save and stop; the second ends them."""
            if stop_file.exists():
                process.terminate()
            stop_file.touch()
            _log.warning("stopping at the next line of the log; again to stop at once")

        with _signals_to(stop):
            status = _follow(process, log_dir / "workerlog.0")
    if status:
        raise _what_happened(log_dir, status)


@contextmanager
def _signals_to(handler: Callable[..., object]) -> Iterator[None]:
    """SIGINT and SIGTERM inside the block."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _places(gpus: str | None, nproc: int | None, ips: str | None) -> list[str]:
    if gpus is not None and not re.fullmatch(r"\d+(,\d+)*", gpus):
        raise UsageError(f"--gpus {gpus}; numbers with commas between them are wanted, such as 0,1,2,3")
    if gpus and nproc:
        raise UsageError("--gpus and --nproc together; --gpus starts a process per GPU, --nproc processes on the CPU")
    if gpus:
        _check_gpus(gpus)
    places = ["--gpus", gpus] if gpus else ["--nproc_per_node", str(nproc or 1)]
    return [*places, "--ips", ips] if ips else places


def _check_gpus(gpus: str) -> None:
    import paddle

    count = paddle.device.cuda.device_count() if paddle.device.is_compiled_with_cuda() else 0
    if max(map(int, gpus.split(","))) >= count:
        advice = f"they are numbered from 0 to {count - 1}" if count else "paddlepaddle-gpu and a driver are wanted"
        raise UsageError(f"--gpus {gpus}: this Paddle sees {count or 'no'} GPUs; {advice}. --nproc uses the CPU")


def _follow(process: subprocess.Popen[bytes], path: Path) -> int:
    """Pass on the lines of a log as they come, until the process ends. Returns its status."""
    seen, rest = 0, b""
    while True:
        ended = process.poll() is not None
        if path.is_file():
            with path.open("rb") as file:
                file.seek(seen)
                new = file.read()
            seen += len(new)
            *lines, rest = (rest + new).split(b"\n")
            for line in lines:
                _pass_on(line.decode("utf-8", "replace").rpartition("\r")[2])
        if ended:
            return process.returncode
        time.sleep(0.2)


def _pass_on(line: str) -> None:
    if line.startswith("{"):
        print(line, flush=True)
    elif line.strip() and not _NOISE.match(line) and not line.startswith("Error: "):
        print(line, file=sys.stderr, flush=True)


def _what_happened(log_dir: Path, status: int) -> ShituError:
    """Which process failed, and the end of what it said."""
    launcher = (log_dir / "launcher.log").read_text(encoding="utf-8", errors="replace")
    failed = re.search(r"Container rank (\d+) .*code (-?\d+)", launcher)
    if not failed:
        last = " ".join(_said(log_dir / "launcher.log"))
        return ShituError(f"the processes could not be started (status {status}; {log_dir}/launcher.log): {last}")
    rank, code = failed[1], int(failed[2])
    said = _said(log_dir / f"workerlog.{rank}")
    errors = [line.removeprefix("Error: ") for line in said if line.startswith("Error: ")]
    if code in (StoppedError.exit_status, UsageError.exit_status) and errors:
        return (StoppedError if code == StoppedError.exit_status else UsageError)(errors[-1])
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    lines = "".join(f"\n  {line}" for line in errors or said)
    return ShituError(
        f"process {rank} {how}, so all were stopped; what was saved is kept, go on with --resume. It said last "
        f"({log_dir}/workerlog.{rank}):{lines}"
    )


def _said(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return [line.strip() for line in lines if line.strip() and not _NOISE.match(line)][-_TAIL:]


class StopRequest:
    """The first signal asks to stop, the second stops at once."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    def heard(self) -> AbstractContextManager[None]:
        """Inside the block, SIGINT and SIGTERM are this request."""
        return _signals_to(self._ask)

    def _ask(self, *_: object) -> None:
        if self._asked.is_set():
            raise KeyboardInterrupt
        self._asked.set()
        _log.warning("stopping after this step; again to stop at once")

    def granted(self, world: int, *, due: bool) -> bool:
        """Whether to stop now.

        Several processes must stop at the same step. They ask each other where it is `due`, which is not at every step,
        since it takes time.
        """
        stop, launchers = self._asked.is_set(), os.environ.get(_STOP_FILE, "")
        # signals would reach the processes one by one, so their launcher leaves them a file
        return stop if world == 1 else due and processes.any_of(stop or os.path.exists(launchers), world)
