"""The options of one operator of transform_ops, each read once and checked; what is left over was a mistake."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from math import isfinite
from typing import Any

from shitu.errors import ConfigError
from shitu.recognise.transform_ops import as_number


class OpOptions:
    """`name` and `where` say in errors (ConfigError) which operator of which section is meant."""

    def __init__(self, name: str, options: Mapping[str, Any], where: str) -> None:
        self.name, self.where = name, where
        self.left = dict(options)
        self.known: list[str] = []

    def take(self, key: str, default: Any) -> Any:
        """The value as it stands; null and a missing key both mean the default."""
        self.known.append(key)
        value = self.left.pop(key, None)
        return default if value is None else value

    def number(self, key: str, default: float, low: float = 0.0, high: float = float("inf")) -> float:
        """A number, or a fraction as text such as 1.0/3.0, from `low` to `high`."""
        value = self.take(key, default)
        number = as_number(value)
        if number is None or not low <= number <= high:
            raise self.refusal(key, value, f"a number {_limits(low, high)} is wanted")
        return number

    def whole(self, key: str, default: int, low: int = 0) -> int:
        value = self.take(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise self.refusal(key, value, f"a whole number, at least {low}, is wanted")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.take(key, default)
        if not isinstance(value, bool):
            raise self.refusal(key, value, "true or false is wanted")
        return value

    def choice(self, key: str, default: Any, choices: Collection[Any]) -> Any:
        value = self.take(key, default)
        if isinstance(value, str):
            value = value.lower()
        if isinstance(value, bool) or value not in choices:
            raise self.refusal(key, value, f"one of {', '.join(map(str, choices))} is wanted")
        return value

    def width_and_height(self, key: str) -> tuple[int, int]:
        """(height, width) of `[width, height]`, as ResizeImage reads it, or of one whole number."""
        value = self.take(key, None)
        pair = value if isinstance(value, Sequence) and not isinstance(value, str) else [value, value]
        if len(pair) != 2 or not all(type(each) is int and each > 0 for each in pair):
            raise self.refusal(key, value, "one or two whole numbers above 0 are wanted")
        return pair[1], pair[0]

    def span(self, key: str, default: tuple[float, float], low: float, high: float) -> tuple[float, float]:
        """Two numbers, the lower one first, from `low` to `high`."""
        value = self.take(key, default)
        numbers = [as_number(each) for each in value] if isinstance(value, Sequence) else []
        if len(numbers) != 2 or None in numbers or not low <= numbers[0] <= numbers[1] <= high:  # type: ignore
            raise self.refusal(key, value, f"two numbers {_limits(low, high)}, the lower one first, are wanted")
        return numbers[0], numbers[1]  # type: ignore

    def around(self, key: str, middle: float, low: float, high: float) -> tuple[float, float]:
        """`x` as (middle - x, middle + x), cut off at `low`; or two numbers as they stand."""
        number = as_number(self.left.get(key))
        if number is None:
            return self.span(key, (middle, middle), low, high)
        self.take(key, None)
        if number < 0 or middle + number > high:
            raise self.refusal(key, number, f"a number {_limits(0, high - middle)}, or [lowest, highest], is wanted")
        return max(low, middle - number), middle + number

    def refusal(self, key: str, value: Any, wanted: str) -> ConfigError:
        return ConfigError(f"{self.where}: {self.name}.{key} is {value!r}; {wanted}")

    def close(self) -> None:
        """Refuse what nobody took."""
        for key in self.left:
            near = get_close_matches(str(key), self.known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(self.known) or 'none'}"
            raise ConfigError(f"{self.where}: {self.name} has no option {key!r}; {hint}")


def _limits(low: float, high: float) -> str:
    return f"from {low:g} to {high:g}" if isfinite(high) else f"of at least {low:g}"
