"""The weighted sum of the losses that a training configuration lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import paddle
from paddle import nn

from shitu.errors import ConfigError
from shitu.training.rec import distillation, schema_loss
from shitu.training.rec.cross_entropy import CELoss, Outputs
from shitu.training.rec.triplet import EmbeddingMemory, TripletAngularMarginLoss, TripletAngularMarginLossXBM

KINDS: dict[type[schema_loss.Loss], Callable[..., nn.Layer]] = {
    schema_loss.CELoss: CELoss,
    schema_loss.TripletAngularMarginLoss: TripletAngularMarginLoss,
    schema_loss.TripletAngularMarginLoss_XBM: TripletAngularMarginLossXBM,
    schema_loss.DistillationGTCELoss: distillation.DistillationGTCELoss,
    schema_loss.DistillationDMLLoss: distillation.DistillationDMLLoss,
    schema_loss.DistillationDistanceLoss: distillation.DistillationDistanceLoss,
}


def build_losses(sections: Sequence[schema_loss.Loss]) -> TotalLoss:
    """The losses of Loss.Train. Raises ConfigError where there are none."""
    if not sections:
        raise ConfigError("Loss.Train lists no loss; there is nothing to learn from: add one, such as - CELoss: {}")
    names = [type(section).__name__ for section in sections]
    again = [names[:place].count(name) for place, name in enumerate(names)]
    names = [f"{name}_{number}" if number else name for name, number in zip(names, again, strict=True)]
    losses = [(KINDS[type(section)](section), section.weight) for section in sections]
    return TotalLoss(dict(zip(names, losses, strict=True)))


class TotalLoss(nn.Layer):
    """Losses by name; the second and third of a kind are name_1, name_2.

    Its state_dict is empty but for the memory of an XBM loss, which is each process's own.
    """

    def __init__(self, losses: dict[str, tuple[nn.Layer, float]]) -> None:
        super().__init__()
        self.weights = {name: weight for name, (_, weight) in losses.items()}
        for name, (loss, _) in losses.items():
            self.add_sublayer(name, loss)

    def forward(self, outputs: Outputs, labels: paddle.Tensor) -> dict[str, paddle.Tensor]:
        """A network's outputs and (n,) int64 labels -> each weighted loss by its name, and their sum as "loss".

        All are scalars of at least float32, under autocast too. Raises ConfigError for an output that is not there.
        """
        with paddle.amp.auto_cast(enable=False):
            losses = {name: weight * self._sub_layers[name](outputs, labels) for name, weight in self.weights.items()}
            return {**losses, "loss": paddle.stack(list(losses.values())).sum()}

    def set_state_dict(self, state_dict: dict[str, paddle.Tensor], *args: Any, **options: Any) -> Any:
        """As in Paddle. Raises ConfigError where a memory of another size was saved."""
        for name, layer in self.named_sublayers():
            saved = state_dict.get(f"{name}.embeddings")
            if isinstance(layer, EmbeddingMemory) and saved is not None:
                if saved.shape[0] != layer.size:
                    raise ConfigError(
                        f"The checkpoint remembers {saved.shape[0]} embeddings, the configuration wants {layer.size}; "
                        f"set xbm_size to {saved.shape[0]}, or start anew from its weights"
                    )
                layer.reserve(saved.shape[1])
        return super().set_state_dict(state_dict, *args, **options)
