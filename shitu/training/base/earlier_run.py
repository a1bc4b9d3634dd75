"""The folder of a run before it begins: whether an earlier one is there, to go on with or to start over."""

from __future__ import annotations

from pathlib import Path

import yaml

from shitu.config.values import Section
from shitu.errors import UsageError
from shitu.training.base import processes
from shitu.training.base.checkpoint_fit import plain
from shitu.training.base.checkpoints import STATES, replace_file


def find_checkpoint(folder: Path, *, resume: bool, overwrite: bool, key: str, world: int) -> Path | None:
    """What to go on from, without suffix. `key` of the config names the folder.

    Raises UsageError rather than start over an earlier run, or go on with one that not all machines have.
    """
    if resume and overwrite:
        raise UsageError("--resume and --overwrite together; one goes on, the other starts anew")
    latest = folder / "latest"
    there = latest.with_name(latest.name + STATES).is_file()
    if there and not (resume or overwrite):
        raise UsageError(
            f"{folder} holds an earlier run; go on with it: --resume, start over it: --overwrite, or write "
            f"elsewhere: -o {key}=FOLDER"
        )
    if processes.any_of(there and resume, world) and not there:
        raise UsageError(f"this machine has no {latest}{STATES}, but another has; copy it to all")
    return latest if there and resume else None


def begin(folder: Path, config: Section, *, overwrite: bool) -> None:
    """The folder with the config as read, and without what an earlier run left: its log, if `overwrite` all of it."""
    if overwrite:
        for pattern in ("*.pdparams", "*.pdstates", "curves.png"):
            for old in folder.glob(pattern):
                old.unlink()
    (folder / "metrics.jsonl").unlink(missing_ok=True)
    text = yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True)
    replace_file(folder / "config_as_read.yaml", lambda file: file.write(text.encode()))
