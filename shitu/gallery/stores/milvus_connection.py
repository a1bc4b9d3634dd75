"""A connection to Milvus, and what its errors mean: the one door to pymilvus."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what fails is told by an exception
import grpc
from pymilvus import DataType, MilvusClient, MilvusException

from shitu.errors import GalleryBusyError, GalleryError, GalleryServerError, ShituError
from shitu.gallery.stores.state import LONGEST
from shitu.gallery.stores.url import checked_name, shown, split_url

TOKEN = "SHITU_MILVUS_TOKEN"
LEVELS = ("Strong", "Bounded", "Session", "Eventually")
PORT = 19530
CONNECT_SECONDS, CALL_SECONDS = 10, 120
_T = TypeVar("_T")


@dataclass(frozen=True)
class Place:
    """What a URL names: `where` as pymilvus wants it, the gallery's name, the consistency level of what is read."""

    url: str
    where: str
    name: str
    level: str
    database: str
    lite: bool


def place_in(url: str) -> Place:
    """Raises GalleryError."""
    parts, options = split_url(url, f"set ${TOKEN} to USER:PASSWORD or to a token")
    level, database = options.pop("consistency", LEVELS[0]), options.pop("database", "")
    tls = options.pop("tls", "false")
    if options or level not in LEVELS or tls not in ("true", "false") or parts.username:
        raise GalleryError(
            f"{shown(url)}: wanted milvus://HOST:PORT/NAME, behind it at most ?consistency={'|'.join(LEVELS)}, "
            f"&tls=true, &database=NAME; who asks is told by ${TOKEN}"
        )
    if parts.hostname:
        where = f"http{'s' * (tls == 'true')}://{parts.hostname}:{parts.port or PORT}"
        return Place(url, where, checked_name(parts.path.strip("/"), url), level, database, lite=False)
    found = re.fullmatch(r"(/.*?\.db)(?:/([^/]*))?/?", parts.path)
    if not found:
        raise GalleryError(
            f"{shown(url)}: wanted milvus://HOST:PORT/NAME, or milvus:///PATH/FILE.db/NAME for milvus-lite"
        )
    return Place(url, str(Path(found[1])), checked_name(found[2] or "gallery", url), level, database, lite=True)


class Connection:
    """pymilvus's client of a place. Raises GalleryError where the server cannot be reached."""

    def __init__(self, place: Place) -> None:
        self._place = place
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it prints each error that it raises, with a trace
        if place.lite:
            for name in ("grpc._server", "milvus_lite"):  # the server in this process
                logging.getLogger(name).setLevel(logging.CRITICAL)
        token = "" if place.lite else os.environ.get(TOKEN, "")
        with self.told():
            try:
                self.client = self._client(token)
            except MilvusException as error:
                # its server, a thread of this process, was once not reached in time on a busy machine
                if not place.lite or error.code != 2:
                    raise
                self.client = self._client(token)

    def _client(self, token: str) -> MilvusClient:
        place = self._place
        return MilvusClient(place.where, token=token, db_name=place.database, timeout=CONNECT_SECONDS)

    def call(self, method: Callable[..., _T], *arguments: Any, **more: Any) -> _T:
        """The method of the client, with a limit of time."""
        with self.told():
            return method(*arguments, timeout=CALL_SECONDS, **more)

    def describe(self, name: str) -> dict[str, Any] | None:
        """What Milvus knows of a collection, or of the one that an alias names; None where there is none."""
        with self.told():
            try:
                return dict(self.client.describe_collection(name, timeout=CALL_SECONDS))
            except MilvusException as error:
                if _is_missing(error):
                    return None
                raise

    def claim(self, name: str, holder: dict[str, str]) -> dict[str, str]:
        """Make a collection that stands for a lock, unless it is there; what it says of who made it."""
        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False, description=holder["token"])
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
        with self.told():
            try:
                self.client.create_collection(name, schema=schema, properties=holder, timeout=CALL_SECONDS)
            except MilvusException:
                if self.describe(name) is None:
                    raise
        # Where there was one already, of another description, what it says decides.
        return dict((self.describe(name) or {}).get("properties") or {})

    def create(self, table: str, dimension: int, measure: str, index: tuple[str, dict[str, int]]) -> None:
        """A collection of a gallery's rows."""
        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        for name in ("label", "image", "sha256", "box"):
            schema.add_field(name, DataType.VARCHAR, max_length=LONGEST)
        for name in ("sum", "added", "gone"):
            schema.add_field(name, DataType.INT64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
        params = self.client.prepare_index_params()
        params.add_index("vector", index_type=index[0], metric_type=measure, params=index[1])
        level = self._place.level
        self.call(self.client.create_collection, table, schema=schema, index_params=params, consistency_level=level)

    @contextmanager
    def told(self) -> Iterator[None]:
        """Say of pymilvus's errors what they mean."""
        try:
            yield
        except MilvusException as error:
            raise self._meaning(error, str(error.message), error.code) from error
        except grpc.RpcError as error:
            raise self._meaning(error, str(error.details()), error.code()) from error

    def _meaning(self, error: Exception, said: str, code: Any) -> ShituError:
        """The token stands in none of its messages; were it there, it would be cut out."""
        url, said = self._place.url, " ".join(said.split())
        if token := os.environ.get(TOKEN):
            said = said.replace(token, "...").replace(token.rpartition(":")[2], "...")
        said = said[:300]
        if self._place.lite and "Open local milvus failed" in said:
            return GalleryBusyError(
                f"{url} cannot be opened: its folder is not there, it is no milvus-lite, or another process has it "
                "open, of which milvus-lite allows one; a Milvus server takes many"
            )
        if re.search(
            r"\bauth\b|unauth|authenticat|authoriz|permission|privilege",
            f"{said} {code} {_codes(error)}",
            re.IGNORECASE,
        ):
            return GalleryError(f"{url}: the server does not let us in ({said}); set ${TOKEN} to USER:PASSWORD")
        if isinstance(code, grpc.StatusCode) or code == 2:  # pymilvus's own code for a connection that failed
            return GalleryServerError(
                f"{url}: the server cannot be reached, or was lost in the middle ({said}); is it running there? What "
                "was committed is whole, nothing else is seen; run the same command again"
            )
        if _is_missing(error):
            return GalleryError(f"{url}: its collection is gone, it was built anew since; open it again ({said})")
        return GalleryError(f"{url}: Milvus refuses ({said})")


def _codes(error: BaseException) -> set[str]:
    """gRPC's codes of what led to an error, which pymilvus tells as a server that is not there."""
    seen: list[BaseException] = []
    while error not in seen:
        seen.append(error)
        error = error.__cause__ or error.__context__ or error
    return {str(each.code()) for each in seen if isinstance(each, grpc.RpcError)}


def _is_missing(error: Exception) -> bool:
    """Whether a collection, or what an alias names, is not there: Milvus's CollectionNotFound, or its words."""
    return getattr(error, "code", None) == 100 or bool(re.search("(collection|alias).*not (found|exist)", str(error)))
