"""Neck and head against what comes before them: a config for another network is refused before data is read."""

from __future__ import annotations

import math
from collections.abc import Sequence

import paddle
from paddle import nn

from shitu.errors import ConfigError
from shitu.training.rec import schema_arch as schema


def check_sizes(backbone: nn.Layer, arch: schema.RecModel, key: str, image_shape: Sequence[int]) -> None:
    """Run one image of zeros of `image_shape` (3, h, w) through the backbone. `key` is where `arch` stands.

    Raises ConfigError that names the key, what it is, and what the layer before it gives.
    """
    name = arch.Backbone.name
    given = _output_shape(backbone, name, key, image_shape)
    if isinstance(arch.Neck, schema.BNNeck) and arch.Neck.num_features != math.prod(given):
        raise _misfit(f"{key}.Neck.num_features", arch.Neck.num_features, f"the backbone {name} gives {_told(given)}")
    if isinstance(arch.Neck, schema.FCNeck) and arch.Neck.embedding_size != given[-1]:
        raise _misfit(
            f"{key}.Neck.embedding_size", arch.Neck.embedding_size, f"the backbone {name} gives {_told(given)}"
        )
    from_neck = arch.head_feature_from == "neck"
    whose, width = f"the backbone {name}", given
    if from_neck and isinstance(arch.Neck, schema.BNNeck):
        whose, width = "the neck", (arch.Neck.num_features,)
    elif from_neck and isinstance(arch.Neck, schema.FCNeck):
        whose, width = "the neck", (arch.Neck.class_num,)
    if arch.Head and (arch.Head.embedding_size,) != width:
        raise _misfit(f"{key}.Head.embedding_size", arch.Head.embedding_size, f"{whose} gives {_told(width)}")


def _output_shape(backbone: nn.Layer, name: str, key: str, image_shape: Sequence[int]) -> tuple[int, ...]:
    """What the backbone makes of one image, without the batch."""
    backbone.eval()
    try:
        with paddle.no_grad():
            output = backbone(paddle.zeros([1, *image_shape]))
    except (ValueError, RuntimeError, AssertionError, IndexError) as error:
        size = "x".join(map(str, image_shape[1:]))
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"{key}.Backbone: {name} cannot take images of {size} (Global.image_shape): {reason[:200]}; set another"
        ) from error
    finally:
        backbone.train()
    if not isinstance(output, paddle.Tensor):
        raise ConfigError(
            f"{key}.Backbone: {name} gives a {type(output).__name__}, not one vector per image; name a "
            "BackboneStopLayer or another backbone"
        )
    return tuple(output.shape[1:])


def _misfit(key: str, value: int, given: str) -> ConfigError:
    return ConfigError(f"{key} is {value}, but {given}; is this configuration for another network?")


def _told(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} values" if len(shape) == 1 else f"a map of {'x'.join(map(str, shape))}"
