"""The Optimizer section of a training configuration: what moves the weights, and the learning rate at each step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from shitu.config.keys import Choice, Flag, Maybe, Number, Several, Text, Whole
from shitu.config.values import BadValueError, Section, within
from shitu.config.variants import ByName
from shitu.training.base.schema import ScaledRate


@dataclass(frozen=True)
class LearningRate(ScaledRate, ByName):
    """The `lr` of an optimizer. The keys are shared by all kinds."""

    no_effect = frozenset({"verbose"})

    learning_rate: Number = within(0.001, 0)
    warmup_epoch: Number = within(0, 0)
    warmup_start_lr: Number = within(0.0, 0)
    by_epoch: Flag = False  # it moves between epochs only, not at each step
    last_epoch: Whole = within(-1, -1)  # PaddleClas's: begin so many epochs (steps, without by_epoch) and one later
    scale_iters: Flag = False  # ours: Global.max_iters is scaled by the inverse too


@dataclass(frozen=True)
class Cosine(LearningRate):
    eta_min: Number = within(0.0, 0)


@dataclass(frozen=True)
class Linear(LearningRate):
    end_lr: Number = within(0.0, 0)
    power: Number = within(1.0, 0)


@dataclass(frozen=True)
class Constant(LearningRate):
    pass


@dataclass(frozen=True)
class Step(LearningRate):
    step_size: Number = within(30, 0)  # epochs
    gamma: Number = within(0.1, 0, 1)


@dataclass(frozen=True)
class Piecewise(LearningRate):
    decay_epochs: Several[Number] = ()
    values: Several[Number] = ()  # as many as decay_epochs and one more; replace learning_rate

    def check(self) -> None:
        if len(self.values) != len(self.decay_epochs) + 1:
            raise BadValueError("values", list(self.values), "one number more than in decay_epochs is wanted")


@dataclass(frozen=True)
class MultiStepDecay(LearningRate):
    milestones: Several[Number] = ()  # epochs
    gamma: Number = within(0.1, 0, 1)


@dataclass(frozen=True)
class ReduceOnPlateau(LearningRate):
    """Times `factor` where more than `patience` evaluations have not bettered the first of Metric.Eval, by more than
    `threshold` (a share, or abs); then `cooldown` evaluations do not count. It goes down to `min_lr`.
    """

    no_effect = LearningRate.no_effect | {"epsilon"}

    mode: Choice[Literal["max"]] = "max"  # a metric here is better the greater it is
    factor: Number = within(0.1, 0, 1)
    patience: Whole = within(10, 0)
    threshold: Number = within(1e-4, 0)
    threshold_mode: Choice[Literal["rel", "abs"]] = "rel"
    cooldown: Whole = within(0, 0)
    min_lr: Number = within(0.0, 0)

    def reductions(self, scores: list[float]) -> int:
        """How often the rate has been reduced after evaluations of these scores."""
        best, bad, cooling, count = None, 0, 0, 0
        for score in scores:
            if cooling:
                cooling -= 1
                continue
            more = self.threshold * (1 if self.threshold_mode == "abs" or best is None else best)
            better = best is None or score > best + more
            best, bad = (score, 0) if better else (best, bad + 1)
            if bad > self.patience:
                bad, cooling, count = 0, self.cooldown, count + 1
        return count


@dataclass(frozen=True)
class L2(ByName):
    coeff: Number = within(0.0, 0)


@dataclass(frozen=True)
class LossOptimizer(ByName):
    """Moves what a loss itself learns, such as CenterLoss's centres."""

    scope: Text = "CenterLoss"
    lr: LearningRate = field(default_factory=Constant)


@dataclass(frozen=True)
class LossSGD(LossOptimizer):
    """At a constant rate."""

    yaml_name = "SGD"

    def check(self) -> None:
        if not self.scope.endswith("Loss"):
            wanted = "a loss is wanted, such as CenterLoss: one optimizer, the first, moves the whole network"
            raise BadValueError("scope", self.scope, wanted)
        if not isinstance(self.lr, Constant) or self.lr.warmup_epoch:
            raise BadValueError("lr", self.lr.called(), "Constant without warm-up is wanted: the only one for a loss")


@dataclass(frozen=True)
class Group(Section):
    """Ours: parameters with a learning rate of their own."""

    names: Several[Text] = ()  # of parameters, or of layers with all in them, as in Arch.freeze_layers
    lr_mult: Number = within(1.0, 0)  # times the learning rate of the rest

    def check(self) -> None:
        if not self.names:
            raise BadValueError("names", [], "names of layers are wanted, such as backbone.stem or head")


@dataclass(frozen=True)
class Optimizer(ByName):
    """Weight decay reaches what PaddleClas's does: all but what a backbone exempts, as most do their batch norms."""

    no_effect = frozenset({"use_master_param"})

    lr: LearningRate = field(default_factory=Cosine)
    regularizer: Maybe[L2] = None
    clip_norm: Maybe[Number] = within(None, 0)  # limit of the norm of each parameter's gradient, as PaddleClas has it
    clip_global_norm: Maybe[Number] = within(None, 0)  # ours: limit of the norm of all gradients together
    no_weight_decay_name: Maybe[Text] = None  # parts of parameters' names, with blanks between them
    one_dim_param_no_weight_decay: Flag = False
    decay_bn_and_bias: Flag = True  # ours: false leaves them out
    groups: Several[Group] = ()  # ours; of several that name a parameter, the last
    layer_decay: Number = within(1.0, 0, 1)  # ours: each block of the backbone learns so much slower than the next
    scope: Choice[Literal["all", "RecModel"]] = "all"  # PaddleClas's, in a list: the whole network
    of_losses: Several[LossOptimizer] = ()  # ours: the rest of a list of PaddleClas's, each of one loss

    def check(self) -> None:
        if self.clip_norm and self.clip_global_norm:
            raise BadValueError("clip_norm", self.clip_norm, "either it or clip_global_norm is wanted")


@dataclass(frozen=True)
class Momentum(Optimizer):
    momentum: Number = within(0.9, 0, 1)
    use_nesterov: Flag = False


@dataclass(frozen=True)
class SGD(Optimizer):
    pass


@dataclass(frozen=True)
class Adam(Optimizer):
    beta1: Number = within(0.9, 0, 1)
    beta2: Number = within(0.999, 0, 1)
    epsilon: Number = within(1e-8, 0)


@dataclass(frozen=True)
class AdamW(Optimizer):
    beta1: Number = within(0.9, 0, 1)
    beta2: Number = within(0.999, 0, 1)
    epsilon: Number = within(1e-8, 0)
    weight_decay: Number = within(0.01, 0)


def one_of_several(value: list[Any]) -> Any:
    """PaddleClas's [{Adam: {scope: RecModel, ...}}, {SGD: {scope: CenterLoss, ...}}] as {name: Adam, of_losses: ...}.

    What is no such list comes back as it is, for the schema to refuse.
    """
    if not value or not all(isinstance(each, dict) and len(each) == 1 for each in value):
        return value
    first, *others = ({"name": name, **(keys or {})} for each in value for name, keys in each.items())
    return {**first, "of_losses": others}
