"""Losses of the recogniser: distillation, then cosine softmax and triplet angular margin."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SCALE, MARGIN = 20.0, 0.1  # cosine softmax, as the bundled recogniser's (docs/models.md)
# TripletAngularMarginLoss of configs/train/GeneralRecognitionV2_PPLCNetV2_base.yaml
TRIPLET_MARGIN, POSITIVE, NEGATIVE, ABSOLUTE_WEIGHT = 0.5, 0.8, 0.4, 0.1


def distillation(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """1 - cosine, and how far the cosines within the batch are from the teacher's; means over the batch."""
    student, teacher = functional.normalize(student.float()), functional.normalize(teacher.float())
    relations = (student @ student.T - teacher @ teacher.T).square().sum(dim=1).mean()
    return 1 - (student * teacher).sum(dim=1).mean(), relations


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine, mean over the batch."""
    return 1 - functional.cosine_similarity(student, teacher).mean()


def cosine_softmax(features: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of unit features (n, d) against class weights (d, classes), the true cosine less a margin."""
    cosines = features @ functional.normalize(head, dim=0)
    true = functional.one_hot(labels, cosines.shape[1])
    return functional.cross_entropy(SCALE * (cosines - MARGIN * true), labels)


def triplet_angular_margin(features: Tensor, labels: Tensor) -> Tensor:
    """Hardest positive and negative of each row, as shitu's triplet.py."""
    similarity = features @ features.T
    same = labels[:, None] == labels[None]
    s_ap = similarity.masked_fill(~same, 2).amin(1)
    s_an = similarity.masked_fill(same, -2).amax(1)
    ranking = (TRIPLET_MARGIN - (s_ap - s_an)).relu().mean()
    absolute = (POSITIVE - s_ap).relu().mean() + (s_an - NEGATIVE).relu().mean()
    return ranking + ABSOLUTE_WEIGHT * absolute


def class_means(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """(d, classes): what the class weights begin as."""
    sums = torch.zeros(classes, features.shape[1], device=features.device)
    return functional.normalize(
        sums.index_add_(0, labels, functional.normalize(features.float())), dim=1
    ).T.contiguous()
