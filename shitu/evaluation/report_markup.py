"""HTML and SVG as text in which nothing from outside can be anything but text."""

from __future__ import annotations

import html
import re

_VOID = frozenset({"br", "circle", "img", "line", "path", "rect"})
# Characters that neither HTML nor XML can hold; a half of a surrogate pair cannot even be written as UTF-8.
_NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Markup(str):
    """Text that is markup already; every other string is escaped before it comes into a page."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Any value as text of a page, quotes escaped too.

    >>> text("<b> & 'it'")
    '&lt;b&gt; &amp; &#x27;it&#x27;'
    """
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(_NOT_TEXT.sub("\ufffd", str(value)), quote=True))


def join(*parts: object) -> Markup:
    """The parts one after the other; None is left out."""
    return Markup("".join(text(part) for part in parts if part is not None))


def element(name: str, *children: object, **attributes: object) -> Markup:
    """`<name attribute="...">children</name>`, well-formed as XML too; children and attributes of None are left out.

    An underscore at the end of an attribute's name (`class_`) falls away, one inside (`stroke_width`) is a hyphen.

    >>> element("a", "1 < 2", class_="x")
    '<a class="x">1 &lt; 2</a>'
    """
    pairs = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None)
    # str(): also what is markup elsewhere is only text in an attribute.
    start = name + "".join(f' {key}="{text(str(value))}"' for key, value in pairs)
    inner = join(*children)
    return Markup(f"<{start}/>" if name in _VOID and not inner else f"<{start}>{inner}</{name}>")


def name_of(value: object, kind: str = "label") -> Markup:
    """A label or path from outside inside our sentence: its writing direction ends with it."""
    return element("bdi", value, class_=kind)
