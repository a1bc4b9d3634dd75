"""Shards on Ray (https://docs.ray.io): the one door to it.

An actor loads the models once and writes its parts itself; through Ray go the work, once, and the lines and names of
shards. Not Ray Data: its readers and writers want slots that actors hold (ray#44687), and its checkpoints load the ids
of all rows into every actor (ray#60200); here neither is needed.
"""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import socket
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

from shitu.cores import CORES, available_cores
from shitu.errors import ShituError, UsageError
from shitu.fleet.parts import Parts
from shitu.fleet.shards import Run, Shard, Work, do_shard

log = logging.getLogger("shitu")

MOST_CORES = 4  # of an actor: more share one copy of the models, and one lock of Python
MEMORY = 1_500 << 20  # bytes for an actor: models 0.4 to 0.7 GB, pictures ahead 0.3 GB and what is made of them
AHEAD = 2  # shards at an actor: one being done, one that waits there
RETRIES = 3  # how often a shard may take its actor with it
PATIENCE = 60  # seconds without a shard after which a line says so
_NOWHERE = "http://127.0.0.1:9"  # port "discard": refused at once


class OnRay:
    """A Fleet of actors, from `with` to its end: on the cluster at `address`, or a Ray of this machine's alone.

    cores: of an actor, at most MOST_CORES; gpus: of an actor. Raises UsageError where there is no Ray, or no room.
    """

    def __init__(self, address: str | None = None, *, cores: int = MOST_CORES, gpus: int = 0) -> None:
        os.environ.update(_SAID if address else _SAID | _SAID_HERE)
        self._address, self._gpus = address, gpus
        self._cores = min(cores, MOST_CORES) if address else min(cores, MOST_CORES, available_cores())
        self._folder = ""

    def __enter__(self) -> OnRay:
        _knock(self._address or "")
        try:
            if self._address:
                _ray().init(address=self._address, **_QUIET)
            else:
                self._start_here()
        except BaseException as error:
            self.__exit__(None, None, None)
            if not isinstance(error, OSError | RuntimeError | ValueError):
                raise
            raise _no_ray(self._address or "this machine", error) from error
        return self

    def _start_here(self) -> None:
        """Ray of this machine: on the loopback address, in a folder that goes with it, asking nobody anything."""
        self._folder = tempfile.mkdtemp(prefix=f"shitu-ray-{os.getpid()}-")
        with _no_other_host():
            _ray().init(
                address="local",
                num_cpus=available_cores(),
                include_dashboard=False,
                object_store_memory=100 << 20,
                _temp_dir=self._folder,
                **_QUIET,
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _ray().shutdown()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def map(self, work: Work, shards: Sequence[Shard], parts: Parts) -> Iterator[str]:
        """At most AHEAD shards wait at an actor: nothing runs far ahead of who reads the names.

        A lost actor is started anew, where there is room, and does its shards again.
        """
        if not shards:
            return
        ray = _ray()
        work_once = [ray.put(pickle.dumps((work, parts)))]  # in a list it is fetched by who asks for it, and no sooner
        actors = [self._actor() for _ in range(min(self._room(), len(shards)))]
        todo, running = deque(shards), dict[Any, tuple[int, Shard]]()

        def give(number: int) -> None:
            """The next shard to an actor, or its room to others: one that is lost may wait for it."""
            if todo:
                shard = todo.popleft()
                running[actors[number].do.remote(work_once, shard)] = (number, shard)
            elif not any(number == other for other, _ in running.values()):
                ray.kill(actors[number])

        try:
            for number in [*range(len(actors))] * AHEAD:
                if todo:
                    give(number)
            while running:
                ready, _ = ray.wait(list(running), num_returns=1, timeout=PATIENCE)
                if not ready:
                    log.warning("No shard was done for %d s; %s", PATIENCE, self._state())
                    continue
                number, shard = running.pop(ready[0])
                _check(ready[0], shard)
                give(number)
                yield shard.name
        finally:
            for actor in actors:
                with suppress(Exception):
                    ray.kill(actor)

    def _actor(self) -> Any:
        remote = _ray().remote(_Actor)
        options = {
            "num_cpus": self._cores,
            "num_gpus": self._gpus,
            "memory": MEMORY,
            "max_restarts": -1,
            "max_task_retries": RETRIES,
            "runtime_env": {"env_vars": {CORES: str(self._cores), **({} if self._address else _proxies())}},
        }
        return remote.options(**options).remote(os.getcwd())

    def _room(self) -> int:
        """How many actors find room on the machines that there are. Raises UsageError for none."""
        alive = [node["Resources"] for node in _ray().nodes() if node["Alive"]]
        wanted = {"CPU": self._cores, "memory": MEMORY, **({"GPU": self._gpus} if self._gpus else {})}
        room = sum(int(min(has.get(name, 0) // amount for name, amount in wanted.items())) for has in alive)
        if not room:
            shown = "; ".join(f"{has.get('CPU', 0):g} cores, {has.get('memory', 0) / 1e9:.1f} GB" for has in alive)
            raise UsageError(
                f"an actor wants {self._cores} cores and {MEMORY / 1e9:.1f} GB, and no machine has them ({shown}); "
                "-o Global.cpu_num_threads=1 wants fewer cores, nothing wants less memory"
            )
        return room

    @staticmethod
    def _state() -> str:
        free = _ray().available_resources()
        return f"{free.get('CPU', 0):g} of {_ray().cluster_resources().get('CPU', 0):g} cores of the cluster are free"


class _Actor:
    """Holds the models; they are loaded at the first shard, so that what is wrong with them is told as what it is."""

    def __init__(self, folder: str) -> None:
        self._opened: tuple[Run, Parts] | None = None
        with suppress(OSError):  # relative paths mean what they do for the driver, where its folder is shared
            os.chdir(folder)

    def do(self, work_once: list[Any], shard: Shard) -> int:
        if self._opened is None:
            work, parts = pickle.loads(_ray().get(work_once[0]))
            self._opened = (work.open(), parts)
        do_shard(self._opened[0], shard, self._opened[1])
        return len(shard.lines)


# What is read when Ray is imported: no statistics to its makers; and what its processes have to say would come on
# stdout, among the records.
_SAID = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "1", "RAY_DEDUP_LOGS_SKIP_REGEX": "^"}
# Otherwise a Ray of this machine alone listens on the address by which others reach the machine.
_SAID_HERE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
_QUIET = {"log_to_driver": False, "configure_logging": False, "logging_level": logging.ERROR}


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UsageError("--engine ray needs Ray: pip install 'shitu[ray]'") from error
    logging.getLogger("ray").setLevel(logging.ERROR)
    return ray


def _knock(address: str) -> None:
    """UsageError where nobody answers at HOST:PORT or ray://HOST:PORT; Ray would take minutes to say so."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise _no_ray(address, error) from error


def _no_ray(where: str, error: Exception) -> UsageError:
    return UsageError(
        f"no Ray at {where}: {_first_line(error)}; is it running, and does it want a token (RAY_AUTH_MODE=token)?"
    )


def _check(result: Any, shard: Shard) -> None:
    """Raise what went wrong with a shard."""
    from ray.exceptions import RayActorError, RayTaskError

    try:
        _ray().get(result)
    except RayTaskError as error:
        if isinstance(error.cause, ShituError):
            raise error.cause from None
        raise
    except RayActorError as error:
        first, last = shard.lines[0], shard.lines[-1]
        raise ShituError(
            f"An actor died {RETRIES + 1} times over the images from {getattr(first, 'path', first)} to "
            f"{getattr(last, 'path', last)} ({_first_line(error)}); take out what kills them, or find more memory. "
            "What is done is kept, and the same command goes on"
        ) from error


@contextmanager
def _no_other_host() -> Iterator[None]:
    """Ray asks cloud providers' addresses where it runs, also without its statistics; here through a closed door."""
    before = {name: os.environ.get(name) for name in _PROXIES}
    os.environ.update(dict.fromkeys(_PROXIES, "") | {"http_proxy": _NOWHERE, "no_proxy": "localhost,127.0.0.1"})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


_PROXIES = ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY")


def _proxies() -> dict[str, str]:
    """What actors find in their place again: they may read from an object store."""
    return {name: os.environ.get(name, "") for name in _PROXIES}


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
