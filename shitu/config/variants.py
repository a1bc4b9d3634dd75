"""Sections that come in several kinds, told apart by a `name` key or by the one key of a mapping.

The kinds are the subclasses of the base, called in YAML as in Python unless `yaml_name` says otherwise.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, ClassVar

from shitu.config.values import Section


@dataclass(frozen=True)
class Variant(Section):
    """What both forms share."""

    yaml_name: ClassVar[str] = ""

    @classmethod
    def kinds(cls) -> dict[str, type[Section]]:
        """The kinds by their names in YAML."""
        return {each.__dict__.get("yaml_name") or each.__name__: each for each in cls.__subclasses__()}

    @classmethod
    def kind_named(cls, name: Any) -> type[Section]:
        """Raises ValueError that names the nearest or all of them."""
        kinds = cls.kinds()
        if isinstance(name, str) and name in kinds:
            return kinds[name]
        near = difflib.get_close_matches(str(name), kinds, n=1, cutoff=0.5)
        raise ValueError(f"did you mean {near[0]}?" if near else f"one of {', '.join(kinds)} is wanted")


@dataclass(frozen=True)
class ByName(Variant):
    """`{name: PKSampler, batch_size: 256}`"""

    @classmethod
    def read_as(cls, value: Any) -> tuple[type[Section], Any]:
        if not cls.kinds():
            return cls, value
        if not isinstance(value, dict) or "name" not in value:
            raise ValueError(f"a section with a name is wanted, one of {', '.join(cls.kinds())}")
        try:
            kind = cls.kind_named(value["name"])
        except ValueError as error:
            raise ValueError(f"unknown name {value['name']}: {error}") from None
        return kind, {key: each for key, each in value.items() if key != "name"}


@dataclass(frozen=True)
class ByKey(Variant):
    """`{CELoss: {weight: 1.0}}`, as in PaddleClas's lists of losses and metrics."""

    @classmethod
    def read_as(cls, value: Any) -> tuple[type[Section], Any]:
        if not cls.kinds():
            return cls, value
        if isinstance(value, str):
            value = {value: {}}
        if not isinstance(value, dict) or len(value) != 1:
            raise ValueError(f"a mapping with one key is wanted, one of {', '.join(cls.kinds())}")
        ((name, keys),) = value.items()
        try:
            kind = cls.kind_named(name)
        except ValueError as error:
            raise ValueError(f"unknown {name}: {error}") from None
        return kind, {} if keys is None else keys
