"""What the readers of all layouts yield, and which paths may stand in a list file."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PLAIN = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_./-]*")


@dataclass(frozen=True, slots=True)
class Row:
    """One image of a set: `path` below the converted folder, with `/`; `label` as the set writes its class.

    `camera` is the third column where a set's protocol has one, an integer as text.
    """

    path: str
    label: str
    camera: str = ""


def path_problem(path: str) -> str | None:
    """Why a path must not stand in a list file, or None. Paths come out of other people's files.

    >>> path_problem("train/a b.jpg"), path_problem("../a.jpg"), path_problem("C:/a.jpg")
    (None, 'it leaves the folder', 'it is absolute')
    """
    if _PLAIN.fullmatch(path) and ".." not in path:
        return None  # nearly all; millions are asked about
    problems = {
        "it is empty": not path,
        "it holds a control character": re.search(r"[\x00-\x1f\x7f\x85\u2028\u2029]", path),
        "it begins or ends with a space": path != path.strip(),
        "it is absolute": re.match(r"[/\\]|[A-Za-z]:", path),
        "it leaves the folder": ".." in re.split(r"[/\\]", path),
        "its name is not UTF-8": re.search("[\ud800-\udfff]", path),
    }
    return next((problem for problem, found in problems.items() if found), None)


def natural_key(text: str) -> tuple[object, ...]:
    """Sorts numbers within text by their value.

    >>> sorted(["10", "2", "a10", "a9"], key=natural_key)
    ['2', '10', 'a9', 'a10']
    """
    parts: list[object] = []
    for index, part in enumerate(re.split("([0-9]+)", text)):
        digits = part.lstrip("0")  # compared by length first: int() refuses a number of 5,000 digits
        parts.append((len(digits), digits) if index % 2 else part)
    return (parts, text)
