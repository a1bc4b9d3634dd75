"""A YAML file or value -> plain Python values: nothing in it is evaluated, and it cannot grow out of hand."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import yaml

from shitu.errors import ConfigError
from shitu.resources import bundled

_MAX_BYTES = 1_000_000
_MAX_NODES = 100_000  # counted with every alias written out
_MAX_DEPTH = 50


def read_text(path: Path) -> str:
    """What the file holds. Raises ConfigError where it cannot be read, is very long, or is not UTF-8."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"No file {path}; {_bundled_hint(path)}") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a directory; a YAML file is wanted, {_bundled_hint(path)}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ConfigError(f"Cannot read {str(path)!r}: {error}; check the path and its permissions") from None
    if len(data) > _MAX_BYTES:
        raise ConfigError(
            f"{path} has more than {_MAX_BYTES:,} bytes; shitu reads no YAML as long as that, name another"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}, line {line}: not UTF-8 text ({error.reason}); save it as UTF-8") from None


def _bundled_hint(path: Path) -> str:
    folder = bundled("configs")
    near = folder / path.name
    names = ", ".join(sorted(each.stem.removeprefix("inference_") for each in folder.glob("*.yaml")))
    return f"did you mean {near}?" if near.is_file() else f"the bundled ones, in {folder}, are called {names}"


def parse_yaml(text: str, name: str, tags: Collection[str] = ()) -> Any:
    """The plain Python values of one YAML document; of objects only `!Name {...}` of `tags`, as `{name: Name, ...}`."""
    try:
        loader: Any = yaml.SafeLoader(text)
        # the loader's own, beside those of its class
        loader.yaml_constructors = {**loader.yaml_constructors, **{f"!{tag}": _named for tag in tags}}
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check(node, name)
            return _unshared(loader.construct_document(node))
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise ConfigError(f"{name}, line {line}: {error.reason} (#x{error.character:04x}); take it out") from None
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_told(error, name)) from None
    except RecursionError:
        raise ConfigError(f"{name} is nested too deeply; at most {_MAX_DEPTH} levels are read, write fewer") from None
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError) as error:
        # what PyYAML lets through for scalars such as 2024-13-45 or `!!bool maybe`
        raise ConfigError(f"{name}: a value cannot be read ({error}); put text in quotes") from None


def _named(loader: yaml.SafeLoader, node: yaml.Node) -> dict[Any, Any]:
    if isinstance(node, yaml.ScalarNode) and not node.value:
        return {"name": node.tag[1:]}
    if not isinstance(node, yaml.MappingNode):
        raise yaml.constructor.ConstructorError(None, None, f"keys are wanted after {node.tag}", node.start_mark)
    return {"name": node.tag[1:], **loader.construct_mapping(node, deep=True)}


def _unshared(value: Any) -> Any:
    """A copy in which what aliases made one object is several, so that an override changes one place."""
    if isinstance(value, dict):
        return {key: _unshared(each) for key, each in value.items()}
    return [_unshared(each) for each in value] if isinstance(value, list) else value


def _told(error: yaml.MarkedYAMLError, name: str) -> str:
    mark = error.problem_mark or error.context_mark
    place = f"{name}, line {mark.line + 1}, column {mark.column + 1}" if mark else name
    problem = error.problem or error.context or "not YAML"
    advice = ""
    if "'\\t'" in problem:
        advice = "; indent with spaces, not tabs"
    elif "constructor for the tag" in problem:
        advice = "; only plain values are read, no objects"
    return f"{place}: {problem}{advice}"


def _check(root: yaml.Node, name: str) -> None:
    """Refuse duplicate keys, and aliases or nesting that would grow out of hand."""
    seen, waiting = 0, [(root, 1)]
    while waiting:
        node, depth = waiting.pop()
        seen += 1
        if seen > _MAX_NODES:
            raise ConfigError(
                f"{name} grows beyond {_MAX_NODES:,} values once its aliases (*) are written out; use fewer"
            )
        if depth > _MAX_DEPTH:
            line = node.start_mark.line + 1
            raise ConfigError(
                f"{name}, line {line}: nested too deeply; at most {_MAX_DEPTH} levels are read, write fewer"
            )
        if isinstance(node, yaml.MappingNode):
            _check_keys(node, name)
        waiting.extend((child, depth + 1) for child in _children(node))


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from (key, value)
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _check_keys(mapping: yaml.MappingNode, name: str) -> None:
    lines: dict[tuple[str, str], int] = {}
    for key, _ in mapping.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        line, known = key.start_mark.line + 1, (key.tag, key.value)
        if known in lines:
            raise ConfigError(f"{name}, line {line}: {key.value} is there already, in line {lines[known]}; keep one")
        lines[known] = line
