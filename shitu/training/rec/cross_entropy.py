"""Cross-entropy with label smoothing."""

from __future__ import annotations

import paddle
from paddle import nn

from shitu.training.rec import schema_loss
from shitu.training.rec.loss_inputs import Outputs, output_of


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
