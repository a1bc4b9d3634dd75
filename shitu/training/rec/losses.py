"""The losses that a training configuration lists, and their weighted sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle
import paddle.nn.functional as F  # noqa: N812
from paddle import nn

from shitu.errors import ConfigError
from shitu.training.rec import schema_loss
from shitu.training.rec.loss_parts import (
    AgainstMemory,
    EmbeddingMemory,
    FeatureLoss,
    OneLoss,
    Outputs,
    output_of,
    output_of_model,
)
from shitu.training.rec.losses_hash import DCHLoss, DSHSDLoss, LCDSHLoss
from shitu.training.rec.losses_pairs import (
    CenterLoss,
    ContrastiveLoss,
    ContrastiveLoss_XBM,
    EmlLoss,
    MSMLoss,
    PairwiseCosface,
    SupConLoss,
    TriHardLoss,
    TripletLossV2,
)


def build_losses(sections: Sequence[schema_loss.Loss]) -> TotalLoss:
    """The losses of Loss.Train. Raises ConfigError where there are none."""
    if not sections:
        raise ConfigError("Loss.Train lists no loss; there is nothing to learn from: add one, such as - CELoss: {}")
    kinds = [type(section).__name__ for section in sections]
    again = [kinds[:place].count(kind) for place, kind in enumerate(kinds)]
    names = [f"{kind}_{number}" if number else kind for kind, number in zip(kinds, again, strict=True)]
    return TotalLoss({name: (_loss(section), section.weight) for name, section in zip(names, sections, strict=True)})


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


# --- of one network ------------------------------------------------------------------------------------------


class CELoss(OneLoss):
    def forward(self, outputs: Outputs, labels: paddle.Tensor) -> paddle.Tensor:
        """Logits (n, C), (n,) int64 -> scalar."""
        return cross_entropy(output_of(outputs, "logits", self.name), labels, self.section.epsilon or 0.0)


def cross_entropy(logits: paddle.Tensor, labels: paddle.Tensor, epsilon: float = 0.0) -> paddle.Tensor:
    """(n, C), (n,) int64 -> mean over the rows, scalar; each class weighs epsilon / C, the true one 1 - epsilon more.

    Written so that no (n, C) array of soft labels is needed (192,612 classes times 256 images are 197 MB), and not with
    F.cross_entropy, which on the CPU reports 64 for all that is more; a margin head's 160 should be seen as such.
    """
    logits = logits - paddle.amax(logits.detach(), axis=[1], keepdim=True)
    true = paddle.take_along_axis(logits, labels.reshape([-1, 1]), 1)
    loss = (paddle.logsumexp(logits, axis=[1], keepdim=True) - true).mean()
    return loss + epsilon * (true.mean() - logits.mean()) if epsilon else loss


class TripletAngularMarginLoss(FeatureLoss):
    """mean(relu(margin - (s_ap - s_an))), where s_ap is a row's least similarity to its own class and s_an the
    greatest to another, both in the batch, and the image itself counted with its class, as in PaddleClas.

    With `add_absolute`: + absolute_loss_weight * (mean(relu(ap_value - s_ap)) + mean(relu(s_an - an_value))).
    PaddleClas logs 1 instead of 0 for each satisfied row of the last term (`ones_like`); gradients are the same.
    Classes may have unequal numbers of images. A row without a negative adds nothing to the terms that want one.
    """

    def compare(
        self, anchors: paddle.Tensor, labels: paddle.Tensor, others: paddle.Tensor, other_labels: paddle.Tensor
    ) -> paddle.Tensor:
        """(n, d), (n,), (m, d), (m,) -> scalar: the loss of the anchors against the others."""
        own = self.section
        similarity = anchors @ others.t()
        same = labels.unsqueeze(1) == other_labels.unsqueeze(0)
        # A row that has none is infinitely well off: every relu below makes 0 of it, in value and gradient.
        infinity = paddle.full_like(similarity, float("inf"))
        s_ap = paddle.where(same, similarity, infinity).amin(axis=1)
        s_an = paddle.where(same, -infinity, similarity).amax(axis=1)
        ranking: paddle.Tensor = F.relu(own.margin - (s_ap - s_an))
        loss = ranking.sum() if own.reduction == "sum" else ranking.mean()
        if own.add_absolute:
            absolute = F.relu(own.ap_value - s_ap).mean() + F.relu(s_an - own.an_value).mean()
            loss = loss + own.absolute_loss_weight * absolute
        return loss


class TripletAngularMarginLoss_XBM(AgainstMemory, TripletAngularMarginLoss):  # noqa: N801 - PaddleClas's name
    """The same, plus `xbm_weight` times the loss of the batch against a memory of the last `xbm_size` embeddings."""


# --- between the networks of a DistillationModel, as PaddleClas's _dml and _udml recipes use them ------------------
# Each is the sum over its models or pairs. Whether a teacher learns too is for Arch.freeze_params_list to say.


class DistillationGTCELoss(OneLoss):
    """Cross-entropy of every named model's `key` output with the labels."""

    def forward(self, outputs: Outputs, labels: paddle.Tensor) -> paddle.Tensor:
        """model -> key -> (n, C) logits, (n,) int64 -> scalar."""
        own = self.section
        taken = [output_of_model(outputs, model, own.key, self.name) for model in own.model_names]
        return paddle.stack([cross_entropy(logits, labels, own.epsilon or 0.0) for logits in taken]).sum()


class PairLoss(OneLoss):
    """A loss between the `key` outputs of the two models of every pair."""

    def forward(self, outputs: Outputs, labels: paddle.Tensor) -> paddle.Tensor:
        """model -> key -> (n, C) -> scalar; the labels have no part in it."""
        pairs, key = self.section.model_name_pairs, self.section.key
        taken = [[output_of_model(outputs, model, key, self.name) for model in pair] for pair in pairs]
        for pair, (a, b) in zip(pairs, taken, strict=True):
            if a.shape != b.shape:
                shapes = f"{pair[0]} has {list(a.shape)}, {pair[1]} {list(b.shape)}"
                raise ConfigError(f"{self.name} compares {key} of equal shapes, but {shapes}; make them equal")
        return paddle.stack([self.between(a, b) for a, b in taken]).sum()

    def between(self, a: paddle.Tensor, b: paddle.Tensor) -> paddle.Tensor:
        """(n, C), (n, C) -> scalar."""
        raise NotImplementedError


class DistillationDMLLoss(PairLoss):
    """Deep mutual learning: (KL(p||q) + KL(q||p)) / 2, summed over the classes, mean over the rows.

    The 1e-12 within the logarithms is PaddleClas's and matters: with ArcMargin's scale of 30, probabilities reach
    1e-26, and the loss would grow with logarithms of these.
    """

    def between(self, a: paddle.Tensor, b: paddle.Tensor) -> paddle.Tensor:
        p, q = (F.softmax(x) if self.section.act == "softmax" else F.sigmoid(x) for x in (a, b))
        return ((p - q) * (paddle.log(p + 1e-12) - paddle.log(q + 1e-12))).sum(axis=-1).mean() / 2


_DISTANCES: dict[str, Any] = {"l2": F.mse_loss, "l1": F.l1_loss, "smooth_l1": F.smooth_l1_loss}


class DistillationDistanceLoss(PairLoss):
    """Mean over all elements of d * d (l2), |d| (l1), or d * d / 2 up to |d| = 1 and |d| - 1/2 beyond (smooth_l1)."""

    def between(self, a: paddle.Tensor, b: paddle.Tensor) -> paddle.Tensor:
        distance: paddle.Tensor = _DISTANCES[self.section.mode](a, b)
        return distance


def _loss(section: schema_loss.Loss) -> OneLoss:
    """The class that is called as the section."""
    kinds: tuple[type[OneLoss], ...] = (
        *(CELoss, TripletAngularMarginLoss, TripletAngularMarginLoss_XBM),
        *(SupConLoss, TripletLossV2, PairwiseCosface, CenterLoss, ContrastiveLoss, ContrastiveLoss_XBM),
        *(EmlLoss, MSMLoss, TriHardLoss, DSHSDLoss, LCDSHLoss, DCHLoss),
        *(DistillationGTCELoss, DistillationDMLLoss, DistillationDistanceLoss),
    )
    for key, wanted in (("model_names", "models"), ("model_name_pairs", "pairs")):
        if getattr(section, key, None) == ():
            example = "[Student, Teacher]" if wanted == "models" else "[[Student, Teacher]]"
            raise ConfigError(f"{type(section).__name__}.{key} is empty; name {wanted}, such as {example}")
    return next(kind for kind in kinds if kind.__name__ == type(section).__name__)(section)
