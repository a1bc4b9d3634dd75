"""Readers and writers of galleries in databases, as `open_reader` and `open_writer` call for them."""

from __future__ import annotations

from typing import Any

from shitu.errors import GalleryError
from shitu.gallery.stores.reader import StoreReader
from shitu.gallery.stores.store import Store
from shitu.gallery.stores.url import place_of, shown
from shitu.gallery.stores.writer import StoreWriter


def reader(
    url: str,
    *,
    efSearch: int | None = None,  # noqa: N803 (the key of the configuration)
    nprobe: int | None = None,
    **options: Any,
) -> StoreReader:
    return StoreReader.open(_store(url), thorough=efSearch or nprobe)


def writer(url: str, **options: Any) -> StoreWriter:
    return StoreWriter(_store(url), place_of(url) / "building")


def _store(url: str) -> Store:
    try:
        if url.lower().startswith("milvus"):
            from shitu.gallery.stores.milvus import Milvus

            return Milvus(url)
        from shitu.gallery.stores.postgres import Postgres

        return Postgres(url)
    except ImportError as error:
        extra = "milvus" if url.lower().startswith("milvus") else "pgvector"
        raise GalleryError(
            f"{shown(url)}: galleries there need more ({error}): pip install 'shitu[{extra}]'"
        ) from error
