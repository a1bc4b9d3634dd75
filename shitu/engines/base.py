"""What the rest knows of an engine.

An `Engine` finds among a model's programs the one that it can run, and opens it: a `Session`. Another engine is one
more file beside `paddle.py`, `onnxruntime.py` and `openvino.py`, and one more line in `choose.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Lock
from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray

from shitu.models import ModelFolder, Program

Array = NDArray[Any]
T = TypeVar("T")


@dataclass(frozen=True)
class EngineOptions:
    """How to run a model. `threads` never exceeds the cores that this process may use.

    `engine` and `precision` (fp32, bf16, int8) may be `auto`; what an `Engine` is asked names its precision.
    """

    threads: int = 1
    use_mkldnn: bool = True
    ir_optim: bool = True
    use_gpu: bool = False
    gpu_mem: int = 8000
    profile: bool = False
    engine: str = "paddle"
    precision: str = "fp32"


@dataclass(frozen=True)
class Told:
    """What a program says of itself: its inputs by name, each with its type (float32, int64 ...) and its dimensions,
    None where they are free; the names of its outputs; what its maker noted.
    """

    inputs: Mapping[str, tuple[str, tuple[int | None, ...]]]
    outputs: tuple[str, ...]
    notes: Mapping[str, str]


class Engine(Protocol):
    """One way to run programs."""

    def supports(self, model: ModelFolder, options: EngineOptions) -> Program | None:
        """The program of the model that this engine would run with these options; None: it has none for it.

        Told from the card and the machine, without loading the engine's library.
        """

    def open(self, program: Program, options: EngineOptions) -> Session:
        """Load a program. Raises EngineError where the library is missing or refuses it, ModelError on a bad file."""


class Session(Protocol):
    """One program with its weights, for one thread at a time."""

    @property
    def input_names(self) -> list[str]: ...

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """Input arrays by name -> output arrays in the program's order. Raises EngineError."""

    def clone(self) -> Session:
        """Another session on the same weights, for another thread."""


class Streams:
    """Runs pieces of work side by side, each worker thread with a session of its own.

    On a CPU, n streams of one thread do more than one session of n threads (benchmarks/streams.py): small layers do
    not divide well. A piece goes to a stream that is free; who finds none waits. oneDNN keeps its caches per thread,
    hence one lasting thread per session. Cloning a `.json` program takes as long as loading it (0.3 s), so the others
    come with the second call that has work for them: a process that recognises one photo does without.
    """

    def __init__(self, session: Session, count: int) -> None:
        self._sessions = [session]
        self._workers = [ThreadPoolExecutor(1, thread_name_prefix="shitu-stream") for _ in range(count)]
        self._free: SimpleQueue[int] = SimpleQueue()
        self._free.put(0)
        self._lock = Lock()
        self._wanted_before = False

    def __len__(self) -> int:
        return len(self._workers)

    def map(self, work: Callable[[Session, Any], T], pieces: Sequence[Any]) -> list[T]:
        """`work(session, piece)` for every piece, results in order. Any number of threads may call at once."""
        self._grow(len(pieces))
        futures = [self._submit(work, piece) for piece in pieces]
        return [future.result() for future in futures]

    def _submit(self, work: Callable[[Session, Any], T], piece: Any) -> Future[T]:
        stream = self._free.get()
        future = self._workers[stream].submit(work, self._sessions[stream], piece)
        future.add_done_callback(lambda _: self._free.put(stream))
        return future

    def _grow(self, pieces: int) -> None:
        """Clone the missing sessions where it is time."""
        with self._lock:
            there, missing = len(self._sessions), len(self) - len(self._sessions)
            if not missing or (pieces < 2 and not self._free.empty()):
                return
            if self._wanted_before:
                first = self._sessions[0]
                # in its own thread: it must not be running meanwhile
                clones = self._workers[0].submit(lambda: [first.clone() for _ in range(missing)])
                self._sessions += clones.result()
                for stream in range(there, len(self)):
                    self._free.put(stream)
            self._wanted_before = True
