"""What another total batch than the one that a configuration is made for does to its learning rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol


class Scalable(Protocol):
    """What a section says of the batch that its learning rate is made for."""

    @property
    def for_batch_size(self) -> int | None: ...
    @property
    def scaling(self) -> Literal["linear", "none"]: ...


class ScalableIterations(Protocol):
    """What a section says of its number of iterations."""

    @property
    def scale_iters(self) -> bool: ...


@dataclass(frozen=True)
class Scaling:
    """The linear rule (PaddleClas FAQ Q5.3): k times the batch, k times the learning rate, a k-th of the iterations."""

    total_batch: int  # images per step over all cards
    made_for: int | None  # what the config's learning rate was made for
    factor: float
    reason: str  # for the log: why the factor is what it is

    @classmethod
    def of(cls, section: Scalable, total_batch: int) -> Scaling:
        made_for = section.for_batch_size
        if made_for is None:
            return cls(total_batch, None, 1.0, "not scaled: the config states no for_batch_size")
        if section.scaling == "none":
            return cls(total_batch, made_for, 1.0, "not scaled: the config's scaling is none")
        factor = total_batch / made_for
        return cls(total_batch, made_for, factor, f"linear rule, {total_batch} / {made_for} = {factor:g}")

    def iterations(self, section: ScalableIterations, max_iters: int | None) -> int | None:
        """`max_iters`, by the inverse where scale_iters asks for that."""
        if max_iters is None or not section.scale_iters:
            return max_iters
        return max(1, round(max_iters / self.factor))
