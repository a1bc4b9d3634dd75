"""What of a file of weights went into a network."""

from __future__ import annotations

from dataclasses import dataclass

_SHOWN = 5


@dataclass(frozen=True)
class LoadReport:
    """Names are the network's, but for `unexpected`, which are the file's."""

    source: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    other_shape: tuple[str, ...]  # "head.fc.weight (512, 80) here, (512, 192612) there"

    def __str__(self) -> str:
        wanted = len(self.loaded) + len(self.missing) + len(self.other_shape)
        parts = [f"loaded {len(self.loaded)} of {wanted} tensors from {self.source}"]
        told = (
            ("not in the file", self.missing),
            ("left out, other shape", self.other_shape),
            ("only in the file", self.unexpected),
        )
        parts += [f"{what}: {some(names)}" for what, names in told if names]
        return "; ".join(parts)


def some(names: tuple[str, ...]) -> str:
    """The first of the names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"
