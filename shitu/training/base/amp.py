"""The AMP section of a training configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shitu.config.keys import Choice, Flag, Number
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
