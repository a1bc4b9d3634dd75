"""What a loss takes from a network's outputs, refused in words where it is not there; and cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import paddle
from paddle import nn

from shitu.errors import ConfigError
from shitu.training.base.precision import full_precision
from shitu.training.rec import schema_loss

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


class CELoss(nn.Layer):
    """Cross-entropy of outputs["logits"] with the labels."""

    def __init__(self, section: schema_loss.CELoss) -> None:
        super().__init__()
        self.epsilon = section.epsilon or 0.0

    def forward(self, outputs: Outputs, labels: paddle.Tensor) -> paddle.Tensor:
        """(n, C) logits, (n,) int64 -> scalar."""
        return cross_entropy(output_of(outputs, "logits", "CELoss"), labels, self.epsilon)


def cross_entropy(logits: paddle.Tensor, labels: paddle.Tensor, epsilon: float = 0.0) -> paddle.Tensor:
    """(n, C), (n,) int64 -> mean over the rows, scalar; each class weighs epsilon / C, the true one 1 - epsilon more.

    Written so that no (n, C) array of soft labels is needed (192,612 classes times 256 images are 197 MB), and not with
    F.cross_entropy, which on the CPU reports 64 for all that is more; a margin head's 160 should be seen as such.
    """
    logits = logits - paddle.amax(logits.detach(), axis=[1], keepdim=True)
    true = paddle.take_along_axis(logits, labels.reshape([-1, 1]), 1)
    loss = (paddle.logsumexp(logits, axis=[1], keepdim=True) - true).mean()
    return loss + epsilon * (true.mean() - logits.mean()) if epsilon else loss
