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
class OfFeatures(Section):
    """What several losses between images have."""

    feature_from: Choice[Literal["features", "backbone"]] = "features"
    normalize_feature: Flag = True


@dataclass(frozen=True)
class SupConLoss(OfFeatures, Loss):
    no_effect = frozenset({"views", "contrast_mode"})  # labels say which images belong together; all are anchors

    temperature: Number = within(0.07, 1e-6)
    base_temperature: Number = within(0.07, 1e-6)


@dataclass(frozen=True)
class TripletLossV2(OfFeatures, Loss):
    margin: Number = within(0.5, 0)


@dataclass(frozen=True)
class PairwiseCosface(Loss):
    margin: Number = within(0.35, 0)
    gamma: Number = within(64.0, 0)


@dataclass(frozen=True)
class CenterLoss(Loss):
    num_classes: Whole = within(1000, 1)
    feat_dim: Whole = within(512, 1)
    feature_from: Choice[Literal["features", "backbone"]] = "features"


@dataclass(frozen=True)
class ContrastiveLoss(OfFeatures, Loss):
    no_effect = frozenset({"embedding_size"})  # the first batch says it

    margin: Number = within(0.5, -1, 1)
    epsilon: Number = within(1e-5, 0)


@dataclass(frozen=True)
class ContrastiveLoss_XBM(OfFeatures, Loss):  # noqa: N801 - PaddleClas's name
    no_effect = frozenset({"embedding_size"})

    margin: Number = within(0.5, -1, 1)
    epsilon: Number = within(1e-5, 0)
    start_iter: Whole = within(1000, 0)
    xbm_size: Whole = within(10000, 1)
    xbm_weight: Number = within(1.0, 0)


@dataclass(frozen=True)
class EmlLoss(Loss):
    no_effect = frozenset({"batch_size", "samples_each_class"})  # labels say it


@dataclass(frozen=True)
class TriHardLoss(Loss):
    no_effect = EmlLoss.no_effect

    margin: Number = within(0.1, 0)


@dataclass(frozen=True)
class MSMLoss(Loss):
    no_effect = EmlLoss.no_effect

    margin: Number = within(0.1, 0)


@dataclass(frozen=True)
class DSHSDLoss(Loss):
    alpha: Number = within(0.05, 0)


@dataclass(frozen=True)
class LCDSHLoss(Loss):
    no_effect = frozenset({"n_class"})

    _lambda: Number = within(3.0, 0)


@dataclass(frozen=True)
class DCHLoss(Loss):
    no_effect = frozenset({"n_class"})

    gamma: Number = within(20.0, 1e-6)
    _lambda: Number = within(0.1, 0)


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
