"""What the rest knows of an engine.

An `Engine` finds among a model's programs the one that it can run, and opens it: a `Session`. Another engine is one
more file beside `paddle.py`, `onnxruntime.py` and `openvino.py`, and one more line in `choose.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
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

    On a CPU, n streams of one thread are a little quicker than one session of n threads with the same crops
    (benchmarks/streams.py): small layers do not divide well. oneDNN keeps its caches per thread, hence one lasting
    thread per session. Cloning a `.json` program takes as long as loading it (0.3 s), so the others come with the
    second call that has work for them: a process that recognises one photo does without.
    """

    def __init__(self, session: Session, count: int) -> None:
        self._sessions = [session]
        self._workers = [ThreadPoolExecutor(1, thread_name_prefix="shitu-stream") for _ in range(count)]
        self._lock = Lock()
        self._wanted_before = False
        self._turn = 0

    def __len__(self) -> int:
        return len(self._workers)

    def map(self, work: Callable[[Session, Any], T], pieces: Sequence[Any]) -> list[T]:
        """`work(session, piece)` for every piece, results in order. Any number of threads may call at once."""
        sessions, turn = self._ready(len(pieces))
        futures: list[Future[T]] = []
        for number, piece in enumerate(pieces, start=turn):
            stream = number % len(sessions)
            futures.append(self._workers[stream].submit(work, sessions[stream], piece))
        return [future.result() for future in futures]

    def _ready(self, pieces: int) -> tuple[list[Session], int]:
        """The sessions there are, after cloning the missing ones where it is time, and whose turn it is."""
        with self._lock:
            missing = len(self) - len(self._sessions)
            if pieces > 1 and missing:
                if self._wanted_before:
                    first = self._sessions[0]
                    # in its own thread: it must not be running meanwhile
                    clones = self._workers[0].submit(lambda: [first.clone() for _ in range(missing)])
                    self._sessions = [first, *clones.result()]
                self._wanted_before = True
            turn, self._turn = self._turn, self._turn + pieces  # calls of one piece each go round, too
            return self._sessions, turn
