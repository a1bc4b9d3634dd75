"""All that is wrong with a run, told at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from shitu.errors import ConfigError, ShituError

Made = TypeVar("Made")


class Faults:
    """Collects what would end a run in its first minute."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def of(self, make: Callable[[], Made]) -> Made | None:
        """What `make` makes, or None where it fails."""
        try:
            return make()
        except ShituError as error:
            self.found.append(str(error))
            return None

    def end(self) -> None:
        """Raises ConfigError where there were any."""
        if len(self.found) == 1:
            raise ConfigError(self.found[0])
        if self.found:
            told = "".join(f"\n  {number}. {each}" for number, each in enumerate(self.found, 1))
            raise ConfigError(f"{len(self.found)} things are wrong:{told}")
