"""One line of a list file, split into its columns: the same rules for galleries, queries, data sets and training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import AnyStr


def split_label(line: str, delimiter: str) -> list[str]:
    """[path, label, more ...], stripped, of a line whose label is free text; [path] where the delimiter is missing.

    The path ends at the first delimiter. The label is what follows, spaces included, up to a TAB, at which further
    columns begin.

    >>> split_label("a b/1.jpg\\tgreen tea\\t7", "\\t"), split_label("1.jpg green tea", " "), split_label("1.jpg", " ")
    (['a b/1.jpg', 'green tea', '7'], ['1.jpg', 'green tea'], ['1.jpg'])
    """
    image, found, rest = line.strip("\r\n").partition(delimiter)
    return [image.strip(), *(column.strip() for column in rest.split("\t"))] if found else [image.strip()]


def splitter(delimiter: AnyStr, columns: int) -> Callable[[AnyStr], list[AnyStr]]:
    """How to split lines of so many columns, all but the first without spaces: path, label and perhaps an id.

    A TAB ends a column wherever it stands; at spaces, and at other delimiters, the columns are counted from the right,
    so that a path may hold them. For text or bytes; a function made once, since lists have millions of lines.

    >>> splitter(" ", 2)("my photos/a b.jpg 3"), splitter("\\t", 2)("a.jpg\\t3\\t7"), splitter(b",", 2)(b"a,b.jpg, 3")
    (['my photos/a b.jpg', '3'], ['a.jpg', '3', '7'], [b'a,b.jpg', b'3'])
    """
    if delimiter in (" ", b" "):
        return lambda line: line.strip().rsplit(None, columns - 1)
    limit = -1 if delimiter in ("\t", b"\t") else columns - 1
    return lambda line: [field.strip() for field in line.rsplit(delimiter, limit)]


def is_whole(fields: Sequence[AnyStr], columns: int) -> bool:
    """Whether there are so many columns, and none of them is empty."""
    return len(fields) == columns and all(fields)
