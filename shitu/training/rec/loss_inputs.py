"""What a loss takes from a network's outputs, refused in words where it is not there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import paddle

from shitu.errors import ConfigError
from shitu.training.base.precision import full_precision

Outputs = Mapping[str, Any]  # name -> tensor, or model -> name -> tensor for DistillationModel


def output_of(outputs: Outputs, key: str, loss: str) -> paddle.Tensor:
    """`outputs[key]`, at least float32. Raises ConfigError where a plain network has no such output."""
    value = outputs.get(key)
    if isinstance(value, paddle.Tensor):
        return full_precision(value)
    if any(isinstance(each, Mapping) for each in outputs.values()):
        raise ConfigError(
            f"{loss} is for one network, and DistillationModel has several ({', '.join(outputs)}); "
            "use DistillationGTCELoss, DistillationDMLLoss or DistillationDistanceLoss"
        )
    given = [name for name, each in outputs.items() if each is not None]
    advice = "; add Arch.Head" if key == "logits" else ""
    raise ConfigError(f"{loss} needs the output {key}, but the network gives {', '.join(given)}{advice}")


def output_of_model(outputs: Outputs, model: str, key: str, loss: str) -> paddle.Tensor:
    """`outputs[model][key]`, at least float32. Raises ConfigError that lists the models."""
    models = [name for name, each in outputs.items() if isinstance(each, Mapping)]
    if not models:
        raise ConfigError(f"{loss} compares several networks: it needs Arch.name: DistillationModel")
    if model not in models:
        raise ConfigError(f"{loss} names the model {model}, but the models are {', '.join(models)}")
    return output_of(outputs[model], key, f"{loss} for {model}")
