"""First of all: the bundled recogniser learns the labels that are new, and keeps what it tells of everything else.

Its batch norms are in its convolutions. Each kernel is therefore learnt as a kernel of usual size times a fixed number
a channel, so that a step of AdamW moves every channel by a like share.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from research.common.autocast import autocast
from research.gpu_job.job.losses import cosine_softmax, distillation, triplet_angular_margin
from research.gpu_job.job.recogniser import LabelledHalf
from research.gpu_job.job.state import Learner
from research.gpu_job.job.teacher import SameConv, Teacher, load_teacher

SIDE, SMOKE_SIDE = 224, 64
RATE = 0.25  # of the student's learning rate
RELATIONS, ENTROPY, TRIPLET = 0.5, 0.3, 0.3


class Scaled(SameConv):
    """A convolution whose kernel is `weight * size`, `size` fixed."""

    @classmethod
    def of(cls, conv: SameConv) -> Scaled:
        """The same convolution, its kernels near 1 / sqrt(inputs)."""
        made = cls(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, groups=conv.groups)
        with torch.no_grad():
            size = conv.weight.square().sum((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-6)
            made.weight.copy_(conv.weight / size)
            made.bias.copy_(conv.bias)
        made.register_buffer("size", size)
        return made

    def kernel(self) -> Tensor:
        return self.weight * self.size


class Refined(nn.Module):
    """The teacher, learning, and class weights."""

    def __init__(self, teacher: Teacher, classes: int):
        super().__init__()
        self.backbone = Teacher()
        self.backbone.convs = nn.ModuleList(Scaled.of(conv) for conv in teacher.convs)
        self.backbone.linear.load_state_dict(teacher.linear.state_dict())
        self.head = nn.Parameter(torch.randn(teacher.linear.out_features, classes) * 0.05)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, h, w), RGB, 0 to 255 -> (n, 512)."""
        return self.backbone(x)


class Refine(LabelledHalf):
    """Half of a batch P x K with labels, the other half held to what the bundled recogniser says."""

    name = "teacher"
    warmup, max_norm, measure_every = 100, 5.0, 0.25

    def make(self, lr: float, seed: int) -> Learner:
        self.prepare(seed)
        self.teacher = load_teacher(self.pack.start("teacher")).to(self.device, memory_format=torch.channels_last)
        network = Refined(self.teacher, self.pack.about["classes"]).to(self.device).train()
        self.side = SMOKE_SIDE if self.smoke else SIDE
        network.to(memory_format=torch.channels_last)
        learner = Learner(self.name, network, lr=lr * RATE, decay=0.0, ema=0.998)
        self.learner = learner
        self.begin_head([learner.network, learner.average])
        return learner

    def losses(self) -> tuple[Tensor, dict[str, Tensor]]:
        rows, labels = self.classes(self.batch // 2)
        others = self.views.pick(self.photos, self.batch - len(rows))
        whole = self.views(self.pack.images[rows], self.side, smallest=0.35, blend=False)
        seen = self.views(self.pack.images[others], self.side, smallest=0.2, blend=True)
        x = torch.cat([whole, seen])
        with torch.no_grad(), autocast(self.device):
            wanted = self.teacher(seen.contiguous(memory_format=torch.channels_last))
        with autocast(self.device):
            found = self.learner.network(x)
        cosine, pairs = distillation(found[len(rows) :], wanted)
        unit = functional.normalize(found[: len(rows)].float())
        entropy = cosine_softmax(unit, self.learner.network.head, labels)
        triplet = triplet_angular_margin(unit, labels)
        loss = cosine + RELATIONS * pairs + ENTROPY * entropy + TRIPLET * triplet
        return loss, {"cosine": cosine, "pairs": pairs, "CE": entropy, "triplet": triplet}
