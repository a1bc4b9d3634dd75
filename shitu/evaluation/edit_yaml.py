"""Sets single values in the text of a YAML file: every other character stays as the user wrote it.

Writing a parsed file anew would turn `True` into `true`, drop `null` and wrap lines; here the parser only says where a
value stands. The result is parsed and compared with what was meant, so a layout that this cannot handle is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import yaml

from shitu.errors import ConfigError

NOTE = "Calibrated"  # how a comment of ours starts; the next calibration replaces it
_NOTES = re.compile(rf"^[ \t]*# {NOTE} \d{{4}}-\d\d-\d\d: (\w+) .*(?:\r\n?|\n)(?:[ \t]*#   .*(?:\r\n?|\n))*", re.M)
_NOT_IN_COMMENTS = re.compile("[^\t\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ALIAS = "an alias"
_NULLS = ("", "~", "null", "Null", "NULL", "None")

Node = Any  # types-PyYAML does not know flow_style
Pair = tuple[Node, Node]


@dataclass(frozen=True)
class Change:
    """`key` is `section.key`; `notes` become the lines of a comment above it, `KEY ` in front of the first."""

    key: str
    value: str | int | float
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
            return str(self.value)
        text = format(Decimal(repr(self.value)), "f")
        return text if "." in text else text + ".0"

    def comment(self) -> list[str]:
        """What stands above the key; a line break or another control character in a note becomes a question mark."""
        first, *more = (_NOT_IN_COMMENTS.sub("?", note) for note in self.notes)
        return [f"# {NOTE} {self.date}: {self.name} {first}", *(f"#   {note}" for note in more)]


def set_values(text: str, changes: Sequence[Change], name: str) -> str:
    """`text` (no byte-order mark) with the values set, each below its comment; missing keys and sections are added.

    Raises ConfigError, which tells what to set by hand, where `name` has a layout in which that does not succeed.
    """
    try:
        edited = _Editor(text).run(changes)
        done = _parsed(edited) == _meant(text, changes)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError):
        done = False
    if not done:
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


@dataclass
class _Editor:
    """Collects (start, end, rank, new text) and applies them at once.

    `rank` orders insertions at one place: a missing line end, keys of the section before, new sections, comments.
    """

    text: str
    edits: list[tuple[int, int, int, str]] = field(default_factory=list)

    def run(self, changes: Sequence[Change]) -> str:
        loader = _Places(self.text)
        try:
            root: Node = loader.get_single_node()
        finally:
            loader.dispose()
        self.root = root
        found = re.search(r"\r\n?|\n", self.text)
        self.newline = found[0] if found else "\n"
        self.in_block = not _in_braces(root)
        missing: dict[str, list[Change]] = {}
        for change in changes:
            section = _find(self.root, change.section)
            pair = _find(section[1], change.name) if section else None
            if section and pair:
                self._replace(pair, change)
                self._note(self._place_of_note(section, pair), change)
            else:
                missing.setdefault(change.section, []).append(change)
        self._move_anchors(loader.aliases)
        for name, wanted in missing.items():
            self._add(name, _find(self.root, name), wanted)
        return "".join(self._applied())

    def _applied(self) -> Iterator[str]:
        here = 0
        for start, end, _, new in sorted(self.edits, key=lambda edit: edit[:3]):
            if start < here:
                raise ValueError("two changes of one place")
            yield self.text[here:start] + new
            here = end
        yield self.text[here:]

    # --- values that are there ---

    def _replace(self, pair: Pair, change: Change) -> None:
        start, end = _span(pair[1])
        old, new = self.text[start:end], change.text
        if not old:
            new = f" {new}"
        elif old[0] in "'\"" and isinstance(change.value, str):
            new = f"{old[0]}{new}{old[0]}"
        blanks = re.match(r"( {2,})#", self.text[end:])
        if blanks:  # what stands in a column of comments stays in it
            wide = max(len(blanks[1]) + len(old) - len(new), 1)
            end, new = end + len(blanks[1]), new + " " * wide
        self.edits.append((start, end, 0, new))

    def _move_anchors(self, aliases: list[yaml.ScalarNode]) -> None:
        """`&x 0.2` that is replaced goes to the first `*x` that is not, whose value must stay."""
        taken = {start for start, _, _, _ in self.edits}
        for start, end, _, _ in list(self.edits):
            anchor = re.match(r"&(\S+)\s", self.text[start:end])
            later = [each for each in aliases if anchor and each.value == anchor[1] and _span(each)[0] > start]
            heirs = [each for each in later if _span(each)[0] not in taken]
            if heirs:
                self.edits.append((*_span(heirs[0]), 0, self.text[start:end].rstrip()))

    # --- comments ---

    def _place_of_note(self, section: Pair, pair: Pair) -> int:
        """The start of the line above which a comment can stand: nothing may go on across it."""
        if not self.in_block:
            return _line_start(self.root)
        return _line_start(section[0] if _in_braces(section[1]) else pair[0])

    def _note(self, place: int, change: Change) -> None:
        """The comment above the line at `place`, instead of the one that an earlier calibration left there."""
        above, reached = {found.end(): found for found in _NOTES.finditer(self.text)}, place
        while reached in above:
            if above[reached][1] == change.name:
                self.edits.append((*above[reached].span(), 0, ""))
            reached = above[reached].start()
        self.edits.append((place, place, 2, self._lines(change.comment(), self._indent(place))))

    def _lines(self, lines: Sequence[str], indent: str) -> str:
        return "".join(f"{indent}{line}{self.newline}" for line in lines)

    def _indent(self, line_start: int) -> str:
        return re.match(r" *", self.text[line_start:])[0]  # type: ignore[index]

    # --- keys that are not there ---

    def _add(self, name: str, section: Pair | None, wanted: Sequence[Change]) -> None:
        if section is None:
            self._add_section(name, wanted)
            return
        node = section[1]
        empty = _is_empty(node)
        if not self.in_block or (_in_braces(node) and not empty):
            self._add_in_flow(section, wanted)
        elif node.tag == _ALIAS or empty:
            indent, (start, end) = self._indent(_line_start(section[0])) + "  ", _span(node)
            self.edits.append((start - (self.text[start - 1] == " "), end, 0, ""))
            merged = [f"<<: *{node.value}"] if node.tag == _ALIAS else []
            self._insert(self._next_line(end), merged + _in_block(wanted), indent)
        else:
            # After the last value that has an end of its own; others last until the indentation ends.
            plain = [value for _, value in node.value if _has_an_end(value)]
            place = _span(plain[-1])[1] if plain else _span(section[0])[1]
            self._insert(self._next_line(place), _in_block(wanted), self._indent(_line_start(node.value[0][0])))

    def _add_section(self, name: str, wanted: Sequence[Change]) -> None:
        if self.in_block:
            indent = self._indent(_line_start(self.root.value[0][0]))
            lines = [f"{name}:", *(f"  {line}" for line in _in_block(wanted))]
            self._insert(_span(self.root)[1], lines, indent, rank=1)
            return
        self._open_brace(self.root, f'"{name}": {{{_in_flow(wanted)}}}', wanted)

    def _add_in_flow(self, section: Pair, wanted: Sequence[Change]) -> None:
        if isinstance(section[1], yaml.MappingNode):
            self._open_brace(section[1], _in_flow(wanted), wanted)
        else:
            start, end = _span(section[1])
            self.edits.append((start, end, 0, f"{'' if end > start else ' '}{{{_in_flow(wanted)}}}"))
        if self.in_block:
            for change in wanted:
                self._note(_line_start(section[0]), change)

    def _open_brace(self, node: Node, new: str, wanted: Sequence[Change]) -> None:
        place = self.text.index("{", _span(node)[0]) + 1
        self.edits.append((place, place, 0, new + (", " if node.value else "")))
        if not self.in_block:
            for change in wanted:
                self._note(_line_start(self.root), change)

    def _insert(self, place: int, lines: Sequence[str], indent: str, rank: int = 0) -> None:
        line_end = (place, place, -1, self.newline)
        if self.text[place - 1] not in "\r\n" and line_end not in self.edits:
            self.edits.append(line_end)
        self.edits.append((place, place, rank, self._lines(lines, indent)))

    def _next_line(self, index: int) -> int:
        found = re.compile(r"\r\n?|\n").search(self.text, index)
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


def _in_block(wanted: Sequence[Change]) -> list[str]:
    return [line for change in wanted for line in (*change.comment(), f"{change.name}: {change.text}")]


def _in_flow(wanted: Sequence[Change]) -> str:
    quoted = (f'"{change.text}"' if isinstance(change.value, str) else change.text for change in wanted)
    return ", ".join(f'"{change.name}": {text}' for change, text in zip(wanted, quoted, strict=True))
