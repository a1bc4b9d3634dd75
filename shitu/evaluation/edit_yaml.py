"""Sets single values in the text of a YAML file: every other character stays as the user wrote it.

Writing a parsed file anew would turn `True` into `true`, drop `null` and wrap lines; here the parser only says where a
value stands. The result is parsed and compared with what was meant, so a layout that this cannot handle is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import yaml

from shitu.errors import ConfigError

NOTE = "Calibrated"  # how a comment of ours starts; the next calibration replaces it
_NOTES = re.compile(rf"^[ \t]*# {NOTE} \d{{4}}-\d\d-\d\d: (\w+) .*(?:\r\n?|\n)(?:[ \t]*#   .*(?:\r\n?|\n))*", re.M)
_NOT_IN_COMMENTS = re.compile("[^\t\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LINE_END = re.compile(r"\r\n?|\n")
_ALIAS = "an alias"
_NULLS = ("", "~", "null", "Null", "NULL", "None")

Node = Any  # types-PyYAML does not know flow_style
Pair = tuple[Node, Node]


@dataclass(frozen=True)
class Change:
    """`key` is `section.key`; `notes` become the lines of a comment above it, `KEY ` in front of the first."""

    key: str
    value: Any
    date: str
    notes: tuple[str, ...]

    @property
    def section(self) -> str:
        return self.key.partition(".")[0]

    @property
    def name(self) -> str:
        return self.key.partition(".")[2]

    @property
    def text(self) -> str:
        """The value as YAML 1.1 and 1.2 read it; 1e-05 would be text to one of them."""
        if not isinstance(self.value, float):
            text = yaml.safe_dump(self.value, default_flow_style=True, allow_unicode=True, width=10**6)
            return text.removesuffix("\n").removesuffix("\n...")
        text = format(Decimal(repr(self.value)), "f")
        return text if "." in text else text + ".0"

    def comment(self) -> list[str]:
        """What stands above the key; a line break or another control character in a note becomes a question mark."""
        first, *more = (_NOT_IN_COMMENTS.sub("?", note) for note in self.notes)
        return [f"# {NOTE} {self.date}: {self.name} {first}", *(f"#   {note}" for note in more)]

    def lines(self) -> list[str]:
        """The comment and the key."""
        return [*self.comment(), f"{self.name}: {self.text}"]

    @property
    def in_braces(self) -> str:
        return f'"{self.name}": ' + (json.dumps(self.value) if isinstance(self.value, str) else self.text)


def set_values(text: str, changes: Sequence[Change], name: str) -> str:
    """`text` (no byte-order mark) with the values set, each below its comment; missing keys and sections are added.

    Raises ConfigError, which tells what to set by hand, where `name` has a layout in which that does not succeed.
    """
    edited = text
    try:
        for change in changes:
            edited = _Edit(edited, change).done()
        good = _parsed(edited) == _meant(text, changes)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError):
        good = False
    if not good:
        wanted = ", ".join(f"{change.key}: {change.text}" for change in changes)
        raise ConfigError(f"{name} is laid out in a way that cannot be edited without changing more; set {wanted}")
    return edited


def _parsed(text: str) -> Any:
    return yaml.load(text, yaml.SafeLoader)


def _meant(text: str, changes: Sequence[Change]) -> Any:
    raw = dict(_parsed(text))
    for change in changes:
        section = raw.get(change.section)
        if not (isinstance(section, dict) or section in (None, *_NULLS)):
            raise ValueError("no section")
        raw[change.section] = {**(section if isinstance(section, dict) else {}), change.name: change.value}
    return raw


class _Places(yaml.SafeLoader):
    """Composes nodes, constructs nothing; an alias stays one, so that its own place is known."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.aliases: list[yaml.ScalarNode] = []

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if not self.check_event(yaml.AliasEvent):
            return super().compose_node(parent, index)
        event: Any = self.get_event()  # type: ignore[no-untyped-call]
        alias = yaml.ScalarNode(_ALIAS, event.anchor, event.start_mark, event.end_mark)
        self.aliases.append(alias)
        return alias


class _Edit:
    """One change of a text, as (start, end, new text) of its parts."""

    def __init__(self, text: str, change: Change) -> None:
        self.text, self.change = text, change
        loader = _Places(text)
        try:
            self.root: Node = loader.get_single_node()
        finally:
            loader.dispose()
        self.aliases = loader.aliases
        found = _LINE_END.search(text)
        self.newline = found[0] if found else "\n"
        self.in_block = not _in_braces(self.root)
        self.edits: list[tuple[int, int, str]] = []

    def done(self) -> str:
        section = _find(self.root, self.change.section)
        pair = _find(section[1], self.change.name) if section else None
        if section and pair:
            self._replace(pair[1])
            self._note(section[0] if _in_braces(section[1]) else pair[0])
        elif section:
            self._add(*section)
        else:
            self._add_section()
        text = self.text
        for start, end, new in sorted(self.edits, reverse=True):
            text = text[:start] + new + text[end:]
        return text

    def _replace(self, value: Node) -> None:
        start, end = _span(value)
        old, new = self.text[start:end], self.change.text
        if not old:
            new = f" {new}"
        elif old[0] in "'\"" and isinstance(self.change.value, str):
            new = f"{old[0]}{new}{old[0]}"
        if anchor := re.match(r"&(\S+)\s", old):  # goes to the first alias, whose value must stay
            heirs = [each for each in self.aliases if each.value == anchor[1] and _span(each)[0] > start]
            self.edits += [(*_span(heir), old.rstrip()) for heir in heirs[:1]]
        if blanks := re.match(r"( {2,})#", self.text[end:]):  # what stands in a column of comments stays in it
            wide = max(len(blanks[1]) + len(old) - len(new), 1)
            end, new = end + len(blanks[1]), new + " " * wide
        self.edits.append((start, end, new))

    def _note(self, key: Node) -> None:
        """The comment above the line of a key, instead of the one that an earlier calibration left there.

        In braces above all of them: nothing may go on across a comment.
        """
        place = reached = _line_start(key if self.in_block else self.root)
        above = {found.end(): found for found in _NOTES.finditer(self.text)}
        while reached in above:
            if above[reached][1] == self.change.name:
                self.edits.append((*above[reached].span(), ""))
            reached = above[reached].start()
        self.edits.append((place, place, self._lines(self.change.comment(), self._indent(place))))

    def _lines(self, lines: Sequence[str], indent: str) -> str:
        return "".join(f"{indent}{line}{self.newline}" for line in lines)

    def _indent(self, line_start: int) -> str:
        return re.match(r" *", self.text[line_start:])[0]  # type: ignore[index]

    # --- keys that are not there ---

    def _add(self, key: Node, node: Node) -> None:
        start, end = _span(node)
        empty = _is_empty(node)
        if not self.in_block or (_in_braces(node) and not empty):
            if isinstance(node, yaml.MappingNode):
                self._open_brace(node, self.change.in_braces)
            else:
                self.edits.append((start, end, f"{'' if end > start else ' '}{{{self.change.in_braces}}}"))
            self._note(key)
        elif node.tag == _ALIAS or empty:
            self.edits.append((start - (self.text[start - 1] == " "), end, ""))
            merged = [f"<<: *{node.value}"] if node.tag == _ALIAS else []
            self._insert(self._next_line(end), [*merged, *self.change.lines()], self._indent(_line_start(key)) + "  ")
        else:
            # After the last value that has an end of its own; others last until the indentation ends.
            plain = [value for _, value in node.value if _has_an_end(value)]
            place = self._next_line(_span(plain[-1] if plain else key)[1])
            self._insert(place, self.change.lines(), self._indent(_line_start(node.value[0][0])))

    def _add_section(self) -> None:
        name = self.change.section
        if self.in_block:
            lines = [f"{name}:", *(f"  {line}" for line in self.change.lines())]
            self._insert(_span(self.root)[1], lines, self._indent(_line_start(self.root.value[0][0])))
        else:
            self._open_brace(self.root, f'"{name}": {{{self.change.in_braces}}}')
            self._note(self.root)

    def _open_brace(self, node: Node, new: str) -> None:
        place = self.text.index("{", _span(node)[0]) + 1
        self.edits.append((place, place, new + (", " if node.value else "")))

    def _insert(self, place: int, lines: Sequence[str], indent: str) -> None:
        before = self.newline if self.text[place - 1] not in "\r\n" else ""
        self.edits.append((place, place, before + self._lines(lines, indent)))

    def _next_line(self, index: int) -> int:
        found = _LINE_END.search(self.text, index)
        return found.end() if found else len(self.text)


def _find(mapping: Node, name: str) -> Pair | None:
    if not isinstance(mapping, yaml.MappingNode):
        return None
    return next((pair for pair in mapping.value if pair[0].value == name), None)


def _span(node: Node) -> tuple[int, int]:
    return node.start_mark.index, node.end_mark.index


def _line_start(node: Node) -> int:
    start: int = node.start_mark.index - node.start_mark.column
    return start


def _in_braces(node: Node) -> bool:
    return isinstance(node, yaml.CollectionNode) and bool(node.flow_style)


def _has_an_end(node: Node) -> bool:
    return _in_braces(node) or (isinstance(node, yaml.ScalarNode) and node.style in (None, "'", '"'))


def _is_empty(node: Node) -> bool:
    """What shitu reads as a section without keys."""
    return not node.value or (isinstance(node, yaml.ScalarNode) and node.tag != _ALIAS and node.value in _NULLS)
