"""The optimizer. ppdet's layers already say which parameters have no weight decay, and which learn twice as fast."""

from __future__ import annotations

import paddle
from paddle import nn
from paddle.regularizer import L2Decay

from shitu.training.det.schema import OptimizerBuilder


def build_optimizer(section: OptimizerBuilder, network: nn.Layer) -> paddle.optimizer.Optimizer:
    """Over all parameters that learn."""
    kind = section.optimizer
    parameters = [each for each in network.parameters() if not each.stop_gradient]
    clip = nn.ClipGradByGlobalNorm(section.clip_grad_by_norm) if section.clip_grad_by_norm else None
    if kind.type == "AdamW":
        return paddle.optimizer.AdamW(0.0, parameters=parameters, weight_decay=kind.weight_decay, grad_clip=clip)
    decay = L2Decay(section.regularizer.factor) if section.regularizer else None
    return paddle.optimizer.Momentum(
        0.0, kind.momentum, parameters, use_nesterov=kind.use_nesterov, weight_decay=decay, grad_clip=clip
    )
