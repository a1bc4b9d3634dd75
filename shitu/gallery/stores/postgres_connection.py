"""Connections to Postgres with pgvector, and what its errors mean: the one door to psycopg."""

from __future__ import annotations

import re
import struct
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from queue import Empty, LifoQueue
from typing import Any, TypeVar
from urllib.parse import urlencode, urlunsplit

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import errors, sql
from psycopg.adapt import Dumper, Loader
from psycopg.pq import Format
from psycopg.types import TypeInfo

from shitu.errors import GalleryBusyError, GalleryError, GalleryServerError, GalleryWriteError, ShituError
from shitu.gallery.stores.url import checked_name, shown, split_url

# Of libpq, in seconds: a server that is gone is noticed within a minute, not after the system's two hours.
_LIMITS = {"connect_timeout": "10", "keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3"}
Connection = psycopg.Connection[Any]
SQL, Identifier, Literal = sql.SQL, sql.Identifier, sql.Literal
UndefinedTable = errors.UndefinedTable
_T = TypeVar("_T")


@dataclass(frozen=True)
class Dense:
    """A vector of float32 on its way to pgvector's type `vector`."""

    row: NDArray[np.float32]


@dataclass(frozen=True)
class Bits:
    """Packed bits on their way to Postgres's type `bit`."""

    row: NDArray[np.uint8]


class _DenseDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Dense) -> bytes:
        return struct.pack(">HH", len(obj.row), 0) + obj.row.astype(">f4").tobytes()


class _BitsDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Bits) -> bytes:
        return struct.pack(">i", 8 * len(obj.row)) + obj.row.tobytes()


class _DenseLoader(Loader):
    format = Format.BINARY

    def load(self, data: Any) -> NDArray[np.float32]:
        return np.frombuffer(bytes(data), ">f4", offset=4).astype(np.float32)


class _BitsLoader(Loader):
    format = Format.BINARY

    def load(self, data: Any) -> NDArray[np.uint8]:
        return np.frombuffer(bytes(data), np.uint8, offset=4)


class Database:
    """What `postgresql://[USER@]HOST[:PORT]/DATABASE[?gallery=NAME]` names; all but `gallery` is libpq's.

    Who reads takes an idle connection or makes one, so that threads do not wait for each other.
    """

    def __init__(self, url: str) -> None:
        instead = "set $PGPASSWORD, or write it into ~/.pgpass"
        parts, options = split_url(url, instead)
        self.url, self.name = url, checked_name(options.pop("gallery", "gallery"), url)
        query = urlencode({**_LIMITS, **options})
        self._conninfo = urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))
        self._idle: LifoQueue[Connection] = LifoQueue()
        self.held: Connection | None = None
        weakref.finalize(self, _close, self._idle)

    def run(self, work: Callable[[Connection], _T]) -> _T:
        """Do the work on the writer's connection, else on an idle one, or again on a new one where that was dead."""
        with self.told():
            if self.held is not None:
                return work(self.held)
            try:
                connection, used = self._idle.get_nowait(), True
            except Empty:
                connection, used = self.connect(), False
            try:
                found = work(connection)
            except psycopg.OperationalError:
                connection.close()
                if not used:
                    raise
                self.close()  # the others were idle as long
                connection = self.connect()
                found = work(connection)
            except BaseException:
                connection.close()
                raise
            self._idle.put(connection)
            return found

    def nested(self) -> AbstractContextManager[Any]:
        """Within a writer's transaction, what fails inside undoes only itself."""
        return nullcontext() if self.held is None else self.held.transaction()

    def connect(self) -> Connection:
        connection = psycopg.connect(self._conninfo, autocommit=True, application_name="shitu")
        connection.adapters.register_dumper(Bits, _dumper(_BitsDumper, psycopg.postgres.types["bit"].oid))
        connection.adapters.register_loader("bit", _BitsLoader)
        self.learn(connection)
        return connection

    @staticmethod
    def learn(connection: Connection) -> None:
        """Let a connection know pgvector's type, where the database has it."""
        if info := TypeInfo.fetch(connection, "vector"):
            info.register(connection)
            connection.adapters.register_dumper(Dense, _dumper(_DenseDumper, info.oid))
            connection.adapters.register_loader(info.oid, _DenseLoader)

    def close(self) -> None:
        _close(self._idle)

    @contextmanager
    def told(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise self._meaning(error) from error

    def _meaning(self, error: psycopg.Error) -> ShituError:
        said = " ".join(str(error.diag.message_primary or error).split())[:300]
        kind, advice = next((kind, advice) for fits, kind, advice in _MEANINGS if fits(error, said))
        return kind(f"{shown(self.url)}: {said}; {advice}")


def _of(*kinds: type[psycopg.Error], saying: str = "") -> Callable[[psycopg.Error, str], bool]:
    return lambda error, said: isinstance(error, kinds) and bool(re.search(saying, said))


# The first that fits an error and what the server said.
_MEANINGS: tuple[tuple[Callable[[psycopg.Error, str], bool], type[ShituError], str], ...] = (
    (_of(errors.LockNotAvailable, errors.QueryCanceled), GalleryBusyError, "others use it; try again"),
    (
        _of(errors.DiskFull, errors.OutOfMemory, errors.TooManyConnections),
        GalleryWriteError,
        "the server has no more room; nothing was changed",
    ),
    (
        _of(UndefinedTable, errors.UndefinedColumn),
        GalleryError,
        "the gallery's rows are gone, it was built anew since; open it again",
    ),
    (
        _of(errors.InsufficientPrivilege),
        GalleryError,
        "let one who may say CREATE EXTENSION vector, and GRANT CREATE ON SCHEMA public to this user",
    ),
    (
        _of(psycopg.OperationalError, saying="password|authentication|pg_hba"),
        GalleryError,
        "the server does not let us in: set $PGPASSWORD, or write it into ~/.pgpass",
    ),
    (
        _of(psycopg.OperationalError, saying='(database|role) ".*" does not exist'),
        GalleryError,
        "create it, or name another",
    ),
    (
        _of(psycopg.OperationalError, psycopg.InterfaceError),
        GalleryServerError,
        "the server cannot be reached, or was lost in the middle; is it running there? Nothing that was not committed "
        "is there; run the same command again",
    ),
    (_of(psycopg.Error), GalleryError, "this is what Postgres refuses"),
)


def _close(idle: LifoQueue[Connection]) -> None:
    with suppress(Empty):
        while True:
            idle.get_nowait().close()


def _dumper(base: type[Dumper], oid: int) -> type[Dumper]:
    return type(base.__name__, (base,), {"oid": oid})
