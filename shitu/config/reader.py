"""Mappings -> sections: pydantic reads them, with messages of our own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from shitu.config.layers import Layer
from shitu.config.values import AnySection, Section, adapter


@dataclass(frozen=True)
class Reader:
    """Reads mappings into sections.

    `name`, of a file, `overrides` (dotted key -> `key=value`) and `layers`, lowest first, say where values came from.
    """

    root: type[Section]
    name: str
    overrides: dict[str, str] = field(default_factory=dict)
    layers: Sequence[Layer] = ()

    def section(self, kind: type[AnySection], value: Any, key: str = "", **hidden: Any) -> AnySection:
        """What `value` says below `key`; changes it in place. Raises ConfigError for the mistakes in it."""
        try:
            made: AnySection = adapter(kind).validate_python(value)  # type: ignore[arg-type]
        except ValidationError as error:
            found: Any = error.errors(include_url=False)
        else:
            return dataclasses.replace(made, **hidden) if hidden else made
        from shitu.config.mistakes import Mistakes

        Mistakes(self.root, self.name, self.overrides, self.layers).mend(kind, value, key, found)
        return self.section(kind, value, key, **hidden)
