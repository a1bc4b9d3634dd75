"""How the numbers of a run are written for people."""

from __future__ import annotations

from collections.abc import Mapping


def shown(values: Mapping[str, float]) -> str:
    """
    >>> shown({"loss": 5.12345, "recall1": 0.5, "queries": 35})
    'loss 5.123, recall1 0.5, queries 35'
    """
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


def duration(seconds: float) -> str:
    """
    >>> duration(42), duration(754), duration(3 * 3600 + 61), duration(200_000)
    ('42 s', '12 min 34 s', '3 h 1 min', '55 h 33 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
