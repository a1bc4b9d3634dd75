"""Getting a published model: download, unpack beside its place, record what came, and rename at last."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from shitu.digest import sha256_of
from shitu.errors import DownloadError, ModelError
from shitu.models.download import download
from shitu.models.folder import open_folder
from shitu.models.known import KnownModel
from shitu.models.unpack import unpack
from shitu.models.verify import DOWNLOAD_RECORD, no_such_model, verify_model

_LOG = logging.getLogger(__name__)


def fetch_model(known: KnownModel, home: Path, *, base_url: str | None = None, progress: bool = True) -> Path:
    """Download a published model into `home`/NAME, if it is not there already; a damaged one is not touched.

    `base_url` takes the place of the official host (scheme and host, perhaps a path), for a mirror.
    """
    target = home / known.name
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _lock(home / f".{known.name}.lock"):
            if not target.exists():
                _fetch_into(target, known, model_url(known, base_url), progress)
            elif problems := verify_model(target):
                raise ModelError(f"{target} is damaged: {'; '.join(problems)}; delete the folder and run again")
    except DownloadError as error:
        raise DownloadError(
            f"{error}; or unpack the archive by hand, so that {target} holds inference.pdmodel (or .json) and "
            "inference.pdiparams"
        ) from error
    except OSError as error:
        raise DownloadError(f"cannot write {error.filename or home}: {error.strerror}; choose another --dir") from error
    return target


def model_url(known: KnownModel, base_url: str | None) -> str:
    """Where to fetch a model: at the official host, or at a mirror that keeps the official paths."""
    if known.url is None:
        raise DownloadError(f"{known.name}: no address of this model is known; copy its folder here by hand")
    return base_url.rstrip("/") + urlsplit(known.url).path if base_url else known.url


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Held while a model is fetched; the operating system frees it when the process dies."""
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _LOG.warning("another process is downloading this model; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _fetch_into(target: Path, known: KnownModel, url: str, progress: bool) -> None:
    """Download and unpack beside `target`, and rename at last. The caller holds the model's lock."""
    archive = download(url, target.parent / f".{target.name}.tar", progress=progress)
    prefix = f".{target.name}.unpacking-"
    for left in target.parent.glob(f"{prefix}*"):  # of a process that was killed: nobody else has the lock
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    try:
        unpack(archive, folder)
        root = _model_root(folder, target.name)
        size = open_folder(root).params.stat().st_size
        if known.params_bytes not in (None, size):
            raise DownloadError(
                f"{url}: its .pdiparams has {size} bytes, the official one {known.params_bytes}; try another --url"
            )
        if problems := no_such_model(open_folder(root), known):
            raise DownloadError(f"{url}: {'; '.join(problems)}; try another --url")
        _write_record(root, url, archive)
        root.chmod(0o755)  # mkdtemp's folder is closed to other users
        os.replace(root, target)
    except ModelError as error:
        raise DownloadError(f"{url}: the archive holds no model: {error}") from error
    finally:
        # Also after a failure: an archive that could not be unpacked is not worth going on with.
        archive.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def _model_root(folder: Path, name: str) -> Path:
    """The official archives hold one folder with the model's name; one of another name, or none, will do."""
    entries = list(folder.iterdir())
    if len(entries) == 1 and entries[0].is_dir():
        return entries[0]
    return folder / name if (folder / name).is_dir() else folder


def _write_record(root: Path, url: str, archive: Path) -> None:
    """What has come, so that later changes show: nobody publishes checksums of these models."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    record = {
        "url": url,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "archive": {"size": archive.stat().st_size, "sha256": sha256_of(archive)},
        "files": {
            path.relative_to(root).as_posix(): {"size": path.stat().st_size, "sha256": sha256_of(path)}
            for path in files
        },
    }
    (root / DOWNLOAD_RECORD).write_text(yaml.safe_dump(record, sort_keys=False), encoding="utf-8")
