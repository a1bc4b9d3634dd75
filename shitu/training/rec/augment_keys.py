"""What the keys of random operators may hold, besides what all configurations know: fractions, sizes, limits."""

from __future__ import annotations

from math import inf, isfinite
from typing import Annotated, Any

from shitu.config.keys import Read
from shitu.recognise.transform_ops import as_number

Size = tuple[int, int]  # (height, width)


def _number(value: Any) -> float:
    number = as_number(value)
    if number is None:
        raise ValueError
    return number


def _height_width(value: Any) -> Size:
    width, height = value if isinstance(value, (list, tuple)) else (value, value)
    if not all(type(each) is int and each > 0 for each in (width, height)):
        raise ValueError
    return height, width


def limits(low: float, high: float, middle: float | None = None) -> Read:
    """[lowest, highest]; with a `middle` also x, for (middle - x, middle + x), cut off at `low`."""

    def read(value: Any) -> tuple[float, float]:
        number = None if middle is None else as_number(value)
        if middle is None or number is None:
            lowest, highest = (_number(each) for each in value)
        elif number < 0 or middle + number > high:
            raise ValueError
        else:
            lowest, highest = max(low, middle - number), middle + number
        if not low <= lowest <= highest <= high:
            raise ValueError
        return lowest, highest

    within = f"from {low:g} to {high:g}" if isfinite(high) else f"of at least {low:g}"
    pair = f"[lowest, highest] with numbers {within}"
    return Read(pair if middle is None else f"a number from 0 to {high - middle:g}, or {pair},", read)


Fraction = Annotated[float, Read("a number", _number)]  # also as text, 1.0/3.0
HeightWidth = Annotated[Size, Read("a whole number above 0, or [width, height],", _height_width)]
Shares = Annotated[tuple[float, float], limits(1e-6, 1.0)]  # of the area
Ratios = Annotated[tuple[float, float], limits(1e-3, 1e3)]  # width / height
Factors = Annotated[tuple[float, float], limits(0.0, inf, middle=1.0)]
Turns = Annotated[tuple[float, float], limits(-0.5, 0.5, middle=0.0)]  # of the colour circle
Angles = Annotated[tuple[float, ...], limits(-360.0, 360.0, middle=0.0)]  # degrees
