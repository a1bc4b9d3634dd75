"""Mappings -> sections: pydantic reads them, with messages of our own."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from shitu.config.values import AnySection, Section, adapter


@dataclass(frozen=True)
class Reader:
    """Reads mappings into sections; `name` and `overrides` (dotted key -> `key=value`) say where values came from."""

    root: type[Section]
    name: str
    overrides: dict[str, str] = field(default_factory=dict)

    def section(self, kind: type[AnySection], value: Any, key: str = "", **hidden: Any) -> AnySection:
        """What `value` says below `key`; changes it in place. Raises ConfigError for the mistakes in it."""
        try:
            made: AnySection = adapter(kind).validate_python(value)  # type: ignore[arg-type]
        except ValidationError as error:
            found: Any = error.errors(include_url=False)
        else:
            return dataclasses.replace(made, **hidden) if hidden else made
        from shitu.config.mistakes import Mistakes

        Mistakes(self.root, self.name, self.overrides).mend(kind, value, key, found)
        return self.section(kind, value, key, **hidden)
