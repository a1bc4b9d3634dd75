"""Sections that the configurations of both networks have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shitu.config.keys import Choice, Flag, Maybe, Number, Whole
from shitu.config.values import Section, within


@dataclass(frozen=True)
class AMP(Section):
    """Mixed precision; as in PaddleClas, a section that is there is in force unless use_amp says false."""

    no_effect = frozenset({"use_fp16_test", "use_promote"})

    use_amp: Flag = True
    level: Choice[Literal["O1", "O2"]] = "O1"
    scale_loss: Number = within(128.0, 1)
    use_dynamic_loss_scaling: Flag = True
    dtype: Choice[Literal["float16", "bfloat16"]] = "float16"  # ours


@dataclass(frozen=True)
class ScaledRate(Section):
    """A learning rate that says what batch it is made for."""

    for_batch_size: Maybe[Whole] = within(
        None, 1
    )  # ours: the total batch (all cards) that the learning rate is made for
    scaling: Choice[Literal["linear", "none"]] = "linear"  # ours: what another total batch does to it (FAQ Q5.3)
