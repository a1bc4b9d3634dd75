"""Necks and heads: embeddings -> features -> logits, with the parameters of PaddleClas's gears.

Names and shapes are theirs, so that official weights load. The margin heads differ in what rounding may do: a zero
vector or a cosine beyond 1 gives no NaN, and they compute in float32 whatever the mixed precision around them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import paddle
import paddle.nn.functional as F  # noqa: N812 - everybody's name for it
from paddle import nn
from paddle.nn.initializer.initializer import Initializer

from shitu.errors import ConfigError
from shitu.training.base.precision import full_precision, unit_vectors
from shitu.training.rec import schema_arch

FROZEN_BELOW = 1e-10  # PaddleClas's V2 recipe freezes a bias by a learning rate of 1e-20


def build_neck(section: schema_arch.Neck) -> nn.Layer:
    """A layer (n, d) -> (n, e); for VehicleNeck (n, d, h, w) -> (n, e h w)."""
    if isinstance(section, schema_arch.BNNeck):
        return BNNeck(section)
    if isinstance(section, schema_arch.VehicleNeck):
        return VehicleNeck(section)
    if isinstance(section, schema_arch.Tanh):
        return nn.Tanh()
    assert isinstance(section, schema_arch.FCNeck)
    return FC(section, section.class_num)


def build_head(section: schema_arch.Head, class_count: int) -> nn.Layer:
    """A layer (n, d) features, (n,) int64 labels or None -> (n, class_num) logits.

    `class_count` is the number of classes in the train list. Raises ConfigError where the head has fewer outputs.
    """
    class_num = class_count if section.class_num is None else section.class_num
    if class_num < class_count:
        raise ConfigError(
            f"The head has fewer outputs than the list has classes: Arch.Head.class_num is {class_num}, the train list "
            f"has {class_count} classes; write class_num: {class_count} or leave it out"
        )
    kinds: dict[type[schema_arch.Head], Callable[..., nn.Layer]] = {
        schema_arch.FC: FC,
        schema_arch.ArcMargin: ArcMargin,
        schema_arch.CosMargin: CosMargin,
        schema_arch.CircleMargin: CircleMargin,
    }
    return kinds[type(section)](section, class_num)


def param_attr(section: schema_arch.ParamAttr, default: Initializer | None = None) -> paddle.ParamAttr | bool:
    """Paddle's form of the section; False: no such parameter. `default` begins it where the section does not say how.

    A learning rate below 1e-10 freezes the parameter (`trainable` is False); see BNNeck for its bias.
    """
    if not section.present:
        return False
    if section.initializer is not None:
        default = getattr(nn.initializer, type(section.initializer).__name__)(**asdict(section.initializer))
    rate = section.learning_rate
    return paddle.ParamAttr(initializer=default, learning_rate=rate, trainable=rate >= FROZEN_BELOW)


class BNNeck(nn.Layer):
    """Batch norm of the embedding: what the triplet loss sees before it, cross-entropy sees after it."""

    def __init__(self, section: schema_arch.BNNeck) -> None:
        super().__init__()
        weight_attr, bias_attr = param_attr(section.weight_attr), param_attr(section.bias_attr)
        # Paddle's momentum is the share of the old mean that is kept.
        self.feat_bn = nn.BatchNorm1D(section.num_features, 0.9, 1e-5, weight_attr=weight_attr, bias_attr=bias_attr)
        bias = self.feat_bn.bias
        if bias is not None and bias.stop_gradient:
            # Paddle 3.2.2 gives a batch norm whose bias wants no gradient none for its scale either. So the bias takes
            # part, and its gradient is made 0: with that every optimizer leaves it where it is.
            bias.stop_gradient = False
            bias.register_hook(paddle.zeros_like)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """(n, d) or (n, d, 1, 1) -> (n, d)."""
        y: paddle.Tensor = self.feat_bn(x.flatten(1))
        return y


class VehicleNeck(nn.Layer):
    def __init__(self, section: schema_arch.VehicleNeck) -> None:
        super().__init__()
        self.conv = nn.Conv2D(section.in_channels, section.out_channels, 1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """(n, d, h, w) -> (n, e h w)."""
        y: paddle.Tensor = self.conv(x).flatten(1)
        return y


class FC(nn.Layer):
    """A linear layer, as head or as neck. Obeys autocast, unlike the margin heads."""

    def __init__(self, section: schema_arch.FC | schema_arch.FCNeck, class_num: int) -> None:
        super().__init__()
        weight = param_attr(section.weight_attr, nn.initializer.XavierNormal())
        bias = param_attr(section.bias_attr)
        self.fc = nn.Linear(section.embedding_size, class_num, weight_attr=weight, bias_attr=bias)

    def forward(self, features: paddle.Tensor, labels: paddle.Tensor | None = None) -> paddle.Tensor:
        """(n, d) -> (n, C); the labels are there because other heads want them."""
        y: paddle.Tensor = self.fc(features)
        return y


class MarginHead(nn.Layer):
    """Cosines of features (n, d) and one weight vector per class; in training the true class's are made smaller."""

    def __init__(self, section: Any, class_num: int) -> None:
        super().__init__()
        self.section = section
        xavier = nn.initializer.XavierNormal()
        self.weight = self.create_parameter([section.embedding_size, class_num], default_initializer=xavier)

    def forward(self, features: paddle.Tensor, labels: paddle.Tensor | None = None) -> paddle.Tensor:
        """(n, d), (n,) int64 -> (n, C) logits, at least float32; unscaled cosines in eval mode or without labels."""
        with paddle.amp.auto_cast(enable=False):
            cosine = unit_vectors(full_precision(features)) @ unit_vectors(full_precision(self.weight), axis=0)
            if labels is None or not self.training:
                return cosine
            scale: float = self.section.scale
            return scale * self.with_margin(cosine, labels.reshape([-1, 1]))

    def with_margin(self, cosine: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        """(n, C) cosines, (n, 1) labels -> (n, C)."""
        raise NotImplementedError


class ArcMargin(MarginHead):
    """Deng et al. 2019, ArcFace: cos(angle + margin) in the true class's place."""

    def with_margin(self, cosine: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        true = paddle.take_along_axis(cosine, labels, 1)
        sine = paddle.sqrt((1.0 - true * true).clip(min=0.0) + 1e-6)
        margin = self.section.margin
        moved = true * math.cos(margin) - sine * math.sin(margin)
        # Where angle + margin would pass 180 degrees its cosine rises again: a line takes over.
        limit, line = -math.cos(margin), true - math.sin(margin) * margin
        moved = (
            paddle.where(true > 0, moved, true) if self.section.easy_margin else paddle.where(true > limit, moved, line)
        )
        return paddle.put_along_axis(cosine, labels, moved, 1)


class CosMargin(MarginHead):
    """Wang et al. 2018, CosFace: cos(angle) - margin in the true class's place."""

    def with_margin(self, cosine: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        return paddle.put_along_axis(cosine, labels, paddle.take_along_axis(cosine, labels, 1) - self.section.margin, 1)


class CircleMargin(MarginHead):
    """Sun et al. 2020, Circle loss: each cosine is weighted by how far it is from where it should be."""

    def with_margin(self, cosine: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        true, margin = paddle.take_along_axis(cosine, labels, 1), self.section.margin
        # The weights are constants to the gradient.
        true = F.relu(1.0 + margin - true.detach()) * (true - (1.0 - margin))
        others = F.relu(cosine.detach() + margin) * (cosine - margin)
        return paddle.put_along_axis(others, labels, true, 1)
