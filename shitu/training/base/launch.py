"""The same command in several processes, through paddle.distributed.launch; and how a training process is stopped."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import socket
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
# Paddle's launcher finds its place among the machines by its host name's address, on Debian 127.0.1.1: all are first.
_LAUNCHER = (
    "import sys; from paddle.distributed.launch.context.node import Node; "
    "own = sys.argv.pop(1); Node.get_host_ip = lambda _: own; "
    "from paddle.distributed.launch.main import launch; launch()"
)
# what Paddle writes by itself: its flags, its C++ log, warnings about compilers
_NOISE = re.compile(
    r"=====|FLAGS\(|[IW]\d{4} \d\d:|.*ccache|\s*warnings\.warn|LAUNCH INFO|-----|Modified FLAGS|.*Non compatible API"
)
_log = logging.getLogger("shitu")


def is_launched() -> bool:
    """Whether this process is one of several that `launch` started."""
    return processes.STOP_FILE in os.environ


def launch(arguments: Sequence[str], *, gpus: str | None, nproc: int | None, ips: str | None, log_dir: Path) -> None:
    """Run `shitu ARGUMENTS` once per GPU (`gpus` "0,1"), or in `nproc` processes on the CPU, on each machine of `ips`.

    What the first process says is passed on, lines of JSON to stdout and all else to stderr. Raises ShituError that
    says which process died and what it said last; Paddle's launcher ends the others.
    """
    places, own = _places(gpus, nproc, ips), own_address(ips) if ips else "127.0.0.1"
    log_dir.mkdir(parents=True, exist_ok=True)
    stop_file = log_dir / "stop"
    for old in (*log_dir.glob("*log*"), *log_dir.glob("stop*")):
        old.unlink(missing_ok=True)
    command = [sys.executable, "-c", _LAUNCHER, own, "--log_dir", str(log_dir), *places]
    # not what a cluster's scheduler says of other processes; and an empty list of devices makes Paddle's launcher fail
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PADDLE_TRAINER") and (value or name != "CUDA_VISIBLE_DEVICES")
    }
    if nproc and not gpus:
        environment["PADDLE_DISTRI_BACKEND"] = "gloo"
        # without a limit each process would take all cores
        environment.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // nproc)))
    environment[processes.STOP_FILE] = str(stop_file)
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
            """The first signal asks the processes to save and stop; the second, or one before they met, ends them."""
            if stop_file.exists() or not processes.met_file(stop_file).exists():
                process.terminate()
                return
            stop_file.touch()
            _log.warning("stopping at the next line of the log; again to stop at once")

        with _signals_to(stop):
            status = _follow(process, log_dir / "workerlog.0", processes.met_file(stop_file))
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


def own_address(ips: str) -> str:
    """The one of the machines of `--ips` that this is: an address that a socket here can have. Raises UsageError."""
    for address in ips.split(","):
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
            return address
    raise UsageError(
        f"--ips {ips}: none is an address of this machine; wanted are those of all machines, as `ip address` shows "
        "them, in the same order on each"
    )


def _check_gpus(gpus: str) -> None:
    import paddle

    count = paddle.device.cuda.device_count() if paddle.device.is_compiled_with_cuda() else 0
    if max(map(int, gpus.split(","))) >= count:
        advice = f"they are numbered from 0 to {count - 1}" if count else "paddlepaddle-gpu and a driver are wanted"
        raise UsageError(f"--gpus {gpus}: this Paddle sees {count or 'no'} GPUs; {advice}. --nproc uses the CPU")


def _follow(process: subprocess.Popen[bytes], path: Path, met: Path) -> int:
    """Pass on the lines of a log as they come, until the process ends. Returns its status.

    Raises ShituError where the processes have not met in time: Paddle itself waits in silence, and deaf to signals.
    """
    seen, rest = 0, b""
    patience = int(os.environ.get("SHITU_MEET_SECONDS", "900"))
    limit = time.monotonic() + patience
    while True:
        if time.monotonic() > limit and not met.exists():
            process.terminate()
            raise ShituError(
                f"the processes did not meet within {patience} s (SHITU_MEET_SECONDS). Was the same command started on "
                f"every machine of --ips, and may they connect to each other? {path} says where they wait"
            )
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
        stop, launchers = self._asked.is_set(), os.environ.get(processes.STOP_FILE, "")
        # signals would reach the processes one by one, so their launcher leaves them a file
        return stop if world == 1 else due and processes.any_of(stop or os.path.exists(launchers), world)
