"""Central differences in float64, against which Paddle's gradients are held."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import paddle

STEP = 1e-6


def check_gradient(function: Callable[[paddle.Tensor], paddle.Tensor], x: np.ndarray) -> np.ndarray:
    """Compare both gradients of the scalar `function` at float64 `x`; the result is the gradient, shaped as x."""
    tensor = paddle.to_tensor(x.astype(np.float64), stop_gradient=False)
    function(tensor).backward()
    expected = np.zeros(x.shape)
    for place in np.ndindex(*x.shape):
        moved = np.zeros(x.shape)
        moved[place] = STEP
        high, low = (float(function(paddle.to_tensor(x + each))) for each in (moved, -moved))
        expected[place] = (high - low) / (2 * STEP)
    gradient: np.ndarray = tensor.grad.numpy()
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)
    return gradient
