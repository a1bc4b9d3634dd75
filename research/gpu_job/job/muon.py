"""Muon (Keller Jordan, 2024): momentum, made orthogonal, as the step of a matrix.

github.com/KellerJordan/Muon: Newton-Schulz in five steps with the coefficients below; a step is scaled by
max(1, rows / columns) ** 0.5. torch.optim.Muon takes two dimensions only, one matrix at a time; here the kernels of
convolutions are flattened, and those of one shape go together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS, STEPS = (3.4445, -4.7750, 2.0315), 5


def orthogonal(x: Tensor) -> Tensor:
    """(m, rows, columns): near U V' of each matrix's singular value decomposition."""
    a, b, c = COEFFICIENTS
    x = x.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Of kernels (out, in, ...), none of them depthwise; the decay is decoupled, as AdamW's."""

    def __init__(self, params: Iterable[Tensor], lr: float, weight_decay: float, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            alike = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.flatten(1).shape].append(parameter)
            for parameters in alike.values():
                self._step(parameters, group)

    def _step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        directions = []
        for parameter in parameters:
            state = self.state[parameter]
            if "exp_avg" not in state:
                state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg"].lerp_(parameter.grad, 1 - group["momentum"])
            directions.append(parameter.grad.lerp(state["exp_avg"], group["momentum"]).flatten(1))  # Nesterov's
        steps = orthogonal(torch.stack(directions))
        size = group["lr"] * max(1.0, steps.shape[1] / steps.shape[2]) ** 0.5
        for parameter, step in zip(parameters, steps, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(step.view(parameter.shape), alpha=-size)
