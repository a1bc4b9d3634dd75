"""Mixed precision: casting of the forward pass and scaling of the loss, or neither; and what is too fine for it."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import paddle
from paddle import nn

from shitu.training.base.schema import AMP

_log = logging.getLogger("shitu")


class Precision:
    """O1 casts operator by operator; O2 also the weights, of which the optimizer then keeps a float32 master copy."""

    def __init__(self, section: AMP | None, network: nn.Layer, optimizer: paddle.optimizer.Optimizer) -> None:
        self.section = section if section and section.use_amp else None
        if self.section and not paddle.device.get_device().startswith("gpu"):
            # Paddle 3.2.2 ignores autocast there, and has no bfloat16 matmul
            _log.warning("AMP works on GPUs only; going on in float32")
            self.section = None
        section = self.section or AMP()
        if self.section and section.level == "O2":
            paddle.amp.decorate(network, optimizer, level="O2", dtype=section.dtype, master_weight=True)
        # bfloat16 has float32's range: nothing to scale. Where it is not in force, the scaler only passes on.
        self.scaler = paddle.amp.GradScaler(
            enable=self.section is not None and section.dtype == "float16",
            init_loss_scaling=section.scale_loss,
            use_dynamic_loss_scaling=section.use_dynamic_loss_scaling,
        )

    def cast(self) -> AbstractContextManager[Any]:
        """For the forward pass; losses are computed in float32."""
        if self.section is None:
            return nullcontext()
        cast: AbstractContextManager[Any] = paddle.amp.auto_cast(level=self.section.level, dtype=self.section.dtype)
        return cast

    def cast_like_weights(self) -> AbstractContextManager[Any]:
        """For an evaluation: in float32, unless the weights themselves are something else (O2)."""
        return self.cast() if self.section and self.section.level == "O2" else nullcontext()

    def scaled(self, loss: paddle.Tensor) -> paddle.Tensor:
        """What to call backward on."""
        return self.scaler.scale(loss)

    def step(self, optimizer: paddle.optimizer.Optimizer) -> None:
        """One step of the optimizer; left out where scaled gradients overflowed."""
        self.scaler.step(optimizer)
        self.scaler.update()

    def state(self) -> dict[str, np.ndarray]:
        return {
            key: np.asarray(value.numpy() if isinstance(value, paddle.Tensor) else value)
            for key, value in self.scaler.state_dict().items()
        }

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        if state and self.scaler.is_enable():
            values: Any = {key: value if value.shape else value.item() for key, value in state.items()}
            self.scaler.load_state_dict(values)


def full_precision(x: paddle.Tensor) -> paddle.Tensor:
    """float16 and bfloat16 become float32; float32 and float64 stay. Autocast is the caller's to end."""
    return x.astype("float32") if x.dtype in (paddle.float16, paddle.bfloat16) else x


def unit_vectors(x: paddle.Tensor, axis: int = -1) -> paddle.Tensor:
    """`x` divided by its L2 norm along `axis`; vectors with a norm below 1e-12 stay as they are.

    These have no direction. Dividing them makes NaN, and an epsilon in the divisor makes gradients of 1e12.
    """
    squares = (x * x).sum(axis=axis, keepdim=True)
    return x * paddle.rsqrt(paddle.where(squares > 1e-24, squares, paddle.ones_like(squares)))
