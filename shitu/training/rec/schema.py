"""The sections of a training configuration: PaddleClas's keys, typed and closed; ours are marked so.

Defaults are those of PaddleClas's engine where a file says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from shitu.config.load import load_sections
from shitu.config.values import BadValueError, FilePath, Section, not_a_key, within
from shitu.config.variants import ByKey, ByName
from shitu.training.base.amp import AMP
from shitu.training.rec.schema_arch import Arch, RecModel
from shitu.training.rec.schema_data import DataLoader
from shitu.training.rec.schema_loss import Loss


@dataclass(frozen=True)
class Global(Section):
    no_effect = frozenset({"use_dali", "to_static", "class_num", "eval_before_train", "profiler_options", "use_mlu"})

    checkpoints: FilePath | None = None  # path without suffix, such as output/RecModel/latest
    pretrained_model: FilePath | None = None
    output_dir: FilePath = "./output"
    device: str = "gpu"  # gpu, cpu; where there is no such device, a warning and the CPU
    save_interval: int = within(1, 1)  # epochs between epoch_N checkpoints; latest is written every epoch
    eval_during_train: bool = True
    eval_interval: int = within(1, 1)
    start_eval_epoch: int = within(0, 0)
    epochs: int = within(100, 1)
    print_batch_step: int = within(10, 1)
    use_visualdl: bool = False
    eval_mode: Literal["retrieval"] = "retrieval"
    retrieval_feature_from: Literal["features", "backbone"] = "features"
    re_ranking: bool = False
    feature_normalize: bool = True
    feature_binarize: Literal["sign", "round"] | None = None
    sim_block_size: int = within(64, 1)  # queries compared with the whole gallery at once
    image_shape: tuple[int, ...] = within((3, 224, 224), 1)
    save_inference_dir: FilePath = "./inference"
    update_freq: int = within(1, 1)  # batches whose gradients are averaged before a step
    seed: int = within(0, 0)
    max_iters: int | None = within(None, 1)  # ours: stop after so many steps, whatever the epochs
    save_steps: int | None = within(None, 1)  # ours: write `latest` inside an epoch too, every so many steps

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.image_shape) != 3 or self.image_shape[0] != 3:
            raise BadValueError("Global.image_shape", list(self.image_shape), "[3, height, width] is wanted")
        if self.re_ranking:
            raise BadValueError("Global.re_ranking", True, "false is wanted: re-ranking is not built in")


@dataclass(frozen=True)
class EMA(Section):
    """Plain moving average of the weights, as PaddleClas's; evaluated and saved in their place."""

    decay: float = within(0.9999, 0, 1)


@dataclass(frozen=True)
class LearningRate(ByName):
    """The `lr` of an optimizer; steps, not epochs, move it. The keys are shared by all kinds."""

    learning_rate: float = within(0.001, 0)
    warmup_epoch: float = within(0, 0)
    warmup_start_lr: float = within(0.0, 0)
    by_epoch: bool = False
    for_batch_size: int | None = within(None, 1)  # ours: the total batch (all cards) that learning_rate is made for
    scaling: Literal["linear", "none"] = "linear"  # ours: what another total batch does to it (FAQ Q5.3)
    scale_iters: bool = False  # ours: Global.max_iters is scaled by the inverse too

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.by_epoch:
            raise BadValueError("lr.by_epoch", True, "false is wanted: the learning rate moves by steps")


@dataclass(frozen=True)
class Cosine(LearningRate):
    eta_min: float = within(0.0, 0)


@dataclass(frozen=True)
class Linear(LearningRate):
    end_lr: float = within(0.0, 0)
    power: float = within(1.0, 0)


@dataclass(frozen=True)
class Constant(LearningRate):
    pass


@dataclass(frozen=True)
class Step(LearningRate):
    step_size: float = within(30, 0)  # epochs
    gamma: float = within(0.1, 0, 1)


@dataclass(frozen=True)
class Piecewise(LearningRate):
    decay_epochs: tuple[float, ...] = ()
    values: tuple[float, ...] = ()  # as many as decay_epochs and one more; replace learning_rate

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.values) != len(self.decay_epochs) + 1:
            raise BadValueError("lr.values", list(self.values), "one number more than in decay_epochs is wanted")


@dataclass(frozen=True)
class Regularizer(ByName):
    coeff: float = within(0.0, 0)


@dataclass(frozen=True)
class L2(Regularizer):
    pass


@dataclass(frozen=True)
class Optimizer(ByName):
    """No weight decay reaches batch norms and biases, whatever the kind (`decay_bn_and_bias` says otherwise)."""

    no_effect = frozenset({"no_weight_decay_name", "one_dim_param_no_weight_decay", "use_master_param"})

    lr: LearningRate = field(default_factory=Cosine)
    regularizer: Regularizer | None = None
    clip_norm: float | None = within(None, 0)  # limit of the global norm of the gradient
    decay_bn_and_bias: bool = False  # ours


@dataclass(frozen=True)
class Momentum(Optimizer):
    momentum: float = within(0.9, 0, 1)
    use_nesterov: bool = False


@dataclass(frozen=True)
class SGD(Optimizer):
    pass


@dataclass(frozen=True)
class Adam(Optimizer):
    beta1: float = within(0.9, 0, 1)
    beta2: float = within(0.999, 0, 1)
    epsilon: float = within(1e-8, 0)


@dataclass(frozen=True)
class AdamW(Optimizer):
    beta1: float = within(0.9, 0, 1)
    beta2: float = within(0.999, 0, 1)
    epsilon: float = within(1e-8, 0)
    weight_decay: float = within(0.01, 0)


# --- metrics and the whole -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MetricKind(ByKey):
    pass


@dataclass(frozen=True)
class Recallk(MetricKind):
    topk: tuple[int, ...] = within((1, 5), 1)
    descending: bool | None = None  # PaddleClas's, for hamming; worked out from feature_binarize here


@dataclass(frozen=True)
class MeanAP(MetricKind):
    yaml_name = "mAP"
    descending: bool | None = None


@dataclass(frozen=True)
class MeanINP(MetricKind):
    yaml_name = "mINP"
    descending: bool | None = None


@dataclass(frozen=True)
class Metric(Section):
    no_effect = frozenset({"Train"})

    Eval: tuple[MetricKind, ...] = (Recallk(), MeanAP())


@dataclass(frozen=True)
class Losses(Section):
    Train: tuple[Loss, ...] = ()
    Eval: tuple[Loss, ...] = ()  # PaddleClas must have one to evaluate; here it has no effect


_Global = Global
_AMP = AMP
_EMA = EMA
_Arch = Arch
_Optimizer = Optimizer
_DataLoader = DataLoader
_Metric = Metric


@dataclass(frozen=True)
class TrainConfig(Section):
    """A whole training configuration."""

    no_effect = frozenset({"Infer", "Slim"})

    Global: _Global = field(default_factory=_Global)
    AMP: _AMP | None = None
    EMA: _EMA | None = None
    Arch: _Arch = field(default_factory=RecModel)
    Loss: Losses = field(default_factory=Losses)
    Optimizer: _Optimizer = field(default_factory=Momentum)
    DataLoader: _DataLoader = field(default_factory=_DataLoader)
    Metric: _Metric = field(default_factory=_Metric)
    source: str = not_a_key("built-in defaults")


def load_train_config(path: str | Path, overrides: tuple[str, ...] = ()) -> TrainConfig:
    """Read a training configuration. Raises ConfigError."""
    return load_sections(TrainConfig, Path(path).expanduser(), overrides, source=str(path))
