"""What the tests of `shitu dataset` share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from shitu.cli import main
from shitu.datasets.convert import Converted, convert
from shitu.datasets.public_sets import public_set


def run(*arguments: object) -> Result:
    """`shitu dataset ...` in this process."""
    return CliRunner().invoke(main, ["dataset", *map(str, arguments)], catch_exceptions=False)


def converted(name: str, root: Path, target: Path, **how: Any) -> tuple[str, Converted]:
    """The list that comes of a set, and the report."""
    done = convert(public_set(name), root, target, **how)
    return target.read_text(encoding="utf-8"), done
