"""Whether a model's files are those on record: in its model.yaml, and at its download."""

from __future__ import annotations

from pathlib import Path

from shitu.digest import sha256_of
from shitu.errors import ModelError
from shitu.models.checked import is_inside, read_as, read_mapping
from shitu.models.files import check_files
from shitu.models.folder import ModelFolder, open_folder
from shitu.models.known import KnownModel, known_model
from shitu.models.model_yaml import MODEL_YAML, FileRecord, Files, read_model_yaml

DOWNLOAD_RECORD = "shitu-download.yaml"


def recorded_files(path: Path) -> dict[str, FileRecord]:
    """What is on record about the files of a model: from its model.yaml and from its download."""
    records: dict[str, FileRecord] = {}
    if (path / DOWNLOAD_RECORD).is_file():
        where = path / DOWNLOAD_RECORD
        files = read_mapping(where).get("files")
        if not isinstance(files, dict):
            raise ModelError(f"{where}: lacks `files`; delete {path} and download the model again")
        for name in files:
            if not isinstance(name, str) or not is_inside(name):
                raise ModelError(f"{where}: files names {str(name)[:80]!r}, which is outside the folder; delete {path}")
        records.update(read_as(Files, files, where, "files"))
    if (path / MODEL_YAML).is_file():
        records.update(read_model_yaml(path / MODEL_YAML).files)
    return records


def verify_model(folder: ModelFolder | Path) -> list[str]:
    """What is wrong with a model, in words: missing files, wrong sizes, wrong SHA-256; empty if nothing is."""
    path = folder.path if isinstance(folder, ModelFolder) else folder
    try:
        return _wrong(path)
    except OSError as error:
        return [f"{error.filename or path} cannot be read ({error.strerror}); check its permissions"]


def _wrong(path: Path) -> list[str]:
    problems = []
    try:
        records = recorded_files(path)
        problems = [problem for name in sorted(records) if (problem := _problem(path / name, records[name]))]
        opened = open_folder(path)
        params, known = opened.params, known_model(path.resolve().name)
        if not problems and (path / DOWNLOAD_RECORD).is_file():
            problems = no_such_model(opened, known)
    except ModelError as error:
        return [*problems, str(error)]
    wanted = known.params_bytes if known and not (path / MODEL_YAML).is_file() else None
    if wanted is not None and (size := params.stat().st_size) != wanted:
        problems.append(f"{params.name}: {size} bytes; the official one has {wanted}")
    return problems


def no_such_model(folder: ModelFolder, known: KnownModel | None) -> list[str]:
    """Why the files cannot be those of the model, though they are on record: the record was made of what had come."""
    first = folder.programs[0]
    if first.engine == "paddle":
        try:
            check_files(*first.files)
        except ModelError as error:
            return [str(error)]
    if known and folder.card.task not in (None, known.task):
        return [f"{folder.path} is a {folder.card.task} model, and {known.name} a {known.task} model"]
    return []


def _problem(path: Path, wanted: FileRecord) -> str | None:
    if not path.is_file():
        return f"{path.name}: is missing"
    if (size := path.stat().st_size) != wanted.size:
        return f"{path.name}: {size} bytes; wanted {wanted.size}"
    if (digest := sha256_of(path)) != wanted.sha256:
        return f"{path.name}: SHA-256 {digest[:12]}...; wanted {wanted.sha256[:12]}...: the file was changed"
    return None
