"""The JSON schema of a configuration, for editors: keys, types, limits, choices, and the comments as help.

What it refuses, the reader refuses. The reader is more lenient: it takes choices in any case and '5' for 5.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from typing import Any

from pydantic import VERSION
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from shitu.config.values import Section, adapter
from shitu.config.variants import ByKey, Variant

Schema = dict[str, Any]


def json_schema(root: Any, title: str) -> Schema:
    """What the files of a kind may hold; draft 2020-12."""
    made = adapter(root).json_schema(schema_generator=_Editors)
    by = f"pydantic {'.'.join(VERSION.split('.')[:2])}"  # which words the same schema in its own way
    return {"$schema": _Editors.schema_dialect, "$comment": by, "title": title, **made}


class _Editors(GenerateJsonSchema):
    """pydantic's, with what it does not know of sections."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False  # a title would only repeat the key

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> Schema:
        kind: Any = schema["cls"]
        made = super().dataclass_schema(schema)
        properties: Schema = made.get("properties", {})
        helps = _comments(kind)
        for each in dataclasses.fields(kind):
            if "hidden" in each.metadata:
                del properties[each.name]
                continue
            if each.name in helps:
                properties[each.name]["description"] = helps[each.name]
            _limit(properties[each.name], each.metadata)
            if isinstance(each.default, tuple) and any(isinstance(one, Section) for one in each.default):
                properties[each.name].pop("default", None)  # written without the names of their kinds
        for name in sorted(kind.no_effect):
            properties[name] = {"deprecated": True, "description": "has no effect"}
        del made["title"]
        if not (kind.__doc__ or "").startswith(f"{kind.__name__}("):  # dataclass's own
            made["description"] = inspect.cleandoc(kind.__doc__)
        made["properties"] = properties
        whole: Schema = kind.in_editors(_in_yaml(kind, made))
        return whole

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> Schema:
        made = super().tagged_union_schema(schema)
        return {"oneOf": made["oneOf"]}  # `discriminator` is OpenAPI's


def _comments(kind: type[Section]) -> dict[str, str]:
    """What stands behind the fields in the source, as `key: Type = default  # comment`; the bases' included."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if issubclass(each, Section):
            found |= dict(re.findall(r"^    (\w+): .*  # (.+)$", inspect.getsource(each), re.MULTILINE))
    return found


def _limit(made: Schema, metadata: Any) -> None:
    """Put minimum and maximum where the numbers are: in the key itself, in its list, or beside null."""
    if "low" in metadata and made.get("type") in ("integer", "number"):
        made["minimum"] = metadata["low"]
        if metadata["high"] < math.inf:
            made["maximum"] = metadata["high"]
    for inner in [*made.get("anyOf", ()), *([made["items"]] if "items" in made else ())]:
        _limit(inner, metadata)


def _in_yaml(kind: type[Section], made: Schema) -> Schema:
    """As a section is written in YAML: null where it has its defaults, with the name of its kind, or below that."""
    if not issubclass(kind, Variant):
        return {**made, "type": ["object", "null"]}
    name = kind.called()
    if issubclass(kind, ByKey):
        below = {"anyOf": [made, {"type": "null"}]}
        whole = {"type": "object", "properties": {name: below}, "required": [name], "additionalProperties": False}
        return {"anyOf": [whole, {"const": name}]}
    return {**made, "properties": {"name": {"const": name}, **made["properties"]}, "required": ["name"]}
