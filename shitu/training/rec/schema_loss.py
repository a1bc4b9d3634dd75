"""The entries of Loss.Train in a training configuration, with PaddleClas's names and defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shitu.config.keys import Choice, Flag, Maybe, Number, Several, Text, Whole
from shitu.config.values import BadValueError, Section, within
from shitu.config.variants import ByKey


@dataclass(frozen=True)
class Loss(ByKey):
    """`weight` is the loss's share in the sum."""

    weight: Number = within(1.0, 0)


@dataclass(frozen=True)
class CELoss(Loss):
    epsilon: Maybe[Number] = within(None, 0, 1)  # label smoothing


@dataclass(frozen=True)
class AngularMargin(Section):
    """What TripletAngularMarginLoss has with and without a memory."""

    feature_from: Choice[Literal["features", "backbone"]] = "features"
    margin: Number = within(0.5, 0)
    normalize_feature: Flag = True
    reduction: Choice[Literal["mean", "sum"]] = "mean"
    add_absolute: Flag = False
    absolute_loss_weight: Number = within(1.0, 0)
    ap_value: Number = within(0.9, -1, 1)
    an_value: Number = within(0.5, -1, 1)


@dataclass(frozen=True)
class TripletAngularMarginLoss(AngularMargin, Loss):
    pass


@dataclass(frozen=True)
class TripletAngularMarginLoss_XBM(AngularMargin, Loss):  # noqa: N801 - PaddleClas's name
    """The same against a memory of the last `xbm_size` embeddings, from step `start_iter` on."""

    no_effect = frozenset({"feat_dim"})  # the first batch says it

    start_iter: Whole = within(1000, 0)
    xbm_size: Whole = within(10000, 1)
    xbm_weight: Number = within(1.0, 0)


@dataclass(frozen=True)
class DistillationGTCELoss(Loss):
    """Cross-entropy of each named model with the labels."""

    key: Text = "logits"
    model_names: Several[Text] = ()
    epsilon: Maybe[Number] = within(None, 0, 1)


@dataclass(frozen=True)
class Pairs(Section):
    model_name_pairs: Several[Several[Text]] = ()

    def check(self) -> None:
        for pair in self.model_name_pairs:
            if len(pair) != 2:
                raise BadValueError("model_name_pairs", list(pair), "two names of models are wanted")


@dataclass(frozen=True)
class DistillationDMLLoss(Pairs, Loss):
    """Deep mutual learning: symmetric KL between the two models of each pair."""

    key: Text = "logits"
    act: Choice[Literal["softmax", "sigmoid"]] = "softmax"


@dataclass(frozen=True)
class DistillationDistanceLoss(Pairs, Loss):
    key: Text = "backbone"
    mode: Choice[Literal["l2", "l1", "smooth_l1"]] = "l2"
