"""A config file with calibrated values in it, written beside its place and moved there when it is whole."""

from __future__ import annotations

import codecs
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from shitu.config import Config
from shitu.config.values import Section
from shitu.errors import ConfigError, ShituError, UsageError
from shitu.evaluation.edit_yaml import Change, set_values
from shitu.files import replace_file


def check_target(target: str | Path, *, overwrite: bool) -> None:
    """Before the work, not after it: UsageError where `target` is there already or cannot be written."""
    path = Path(target).expanduser()
    if path.is_dir():
        raise UsageError(f"--write {target}: that is a folder; name a YAML file")
    if (path.exists() or path.is_symlink()) and not overwrite:
        raise UsageError(f"--write {target}: is there already; name another file, or replace it with --overwrite")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise UsageError(f"--write {target}: there is no folder {folder}; make it first")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"--write {target}: nothing can be written in {folder}; name another place")


def given_changes(config: Config, on_file: Config, chosen: Collection[str], date: str, command: str) -> list[Change]:
    """What a command was told beside its file (-o, its options, the gallery's settings), but for the keys `chosen`."""
    changes = []
    for section, before in vars(on_file).items():
        after = getattr(config, section)
        if isinstance(after, Section):
            for name, value in vars(after).items():
                key, old, new = f"{section}.{name}", _plain(getattr(before, name, None)), _plain(value)
                if old != new and key not in chosen:
                    changes.append(Change(key, new, date, (f"was {old}, given", f"by: {command}")))
    return changes


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        return {key: _plain(each) for key, each in vars(value).items()}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def write_config(
    source: Path, target: str | Path, changes: Sequence[Change], *, overwrite: bool = False
) -> tuple[Path, int]:
    """Write `source` with the values of `changes` set to `target`; returns where it is and how many were set.

    All else stays, character by character: comments, order, line ends, a byte-order mark. `target` may be `source`.
    Raises UsageError as `check_target`, ConfigError where the file cannot be edited, ShituError where writing fails.
    """
    check_target(target, overwrite=overwrite)
    path = Path(target).expanduser().resolve()
    try:
        data = source.read_bytes()
        mark = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read {source}: {error}; check that it is UTF-8 text which you may read") from None
    edited = set_values(text, changes, str(source)) if changes else text
    try:
        replace_file(path, lambda file: file.write(mark + edited.encode("utf-8")))
    except OSError as error:
        raise ShituError(f"--write {target}: {error.strerror}; check space and permissions") from error
    return path, len(changes)
