"""The sections of a training configuration: PaddleClas's keys, typed and closed; ours are marked so.

Defaults are those of PaddleClas's engine where a file says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from shitu.config.keys import Choice, FilePath, Flag, Maybe, Number, Several, Text, Whole
from shitu.config.load import load_sections
from shitu.config.values import BadValueError, Section, not_a_key, within
from shitu.config.variants import ByKey
from shitu.training.base.schema import AMP
from shitu.training.rec.schema_arch import Arch, RecModel
from shitu.training.rec.schema_data import DataLoader
from shitu.training.rec.schema_loss import Loss
from shitu.training.rec.schema_optimizer import Momentum, Optimizer, one_of_several


@dataclass(frozen=True)
class Global(Section):
    no_effect = frozenset(
        {
            "use_dali",
            "to_static",
            "class_num",
            "eval_before_train",
            "profiler_options",
            "use_mlu",
            "infer_imgs",
            "iter_per_epoch",
        }
    )

    checkpoints: Maybe[FilePath] = None  # path without suffix, such as output/RecModel/latest
    pretrained_model: Maybe[FilePath] = None
    output_dir: FilePath = "./output"
    device: Text = "gpu"  # gpu, cpu; where there is no such device, a warning and the CPU
    save_interval: Whole = within(1, 1)  # epochs between epoch_N checkpoints; latest is written every epoch
    eval_during_train: Flag = True
    eval_interval: Whole = within(1, 1)
    start_eval_epoch: Whole = within(0, 0)
    epochs: Whole = within(100, 1)
    print_batch_step: Whole = within(10, 1)
    use_visualdl: Flag = False
    use_tensorboard: Flag = False  # ours
    eval_mode: Choice[Literal["retrieval", "classification"]] = "retrieval"  # Eval's own keys decide
    retrieval_feature_from: Choice[Literal["features", "backbone"]] = "features"
    re_ranking: Flag = False
    feature_normalize: Flag = True
    feature_binarize: Maybe[Choice[Literal["sign", "round"]]] = None
    sim_block_size: Whole = within(64, 1)  # queries compared with the whole gallery at once
    image_shape: Several[Whole] = within((3, 224, 224), 1)
    save_inference_dir: FilePath = "./inference"
    update_freq: Whole = within(1, 1)  # batches whose gradients are averaged before a step
    seed: Whole = within(0, 0)
    max_iters: Maybe[Whole] = within(None, 1)  # ours: stop after so many steps, whatever the epochs
    save_steps: Maybe[Whole] = within(None, 1)  # ours: write `latest` inside an epoch too, every so many steps

    early_stop: Maybe[Whole] = within(None, 1)  # ours: end after so many evaluations without gain
    max_minutes: Maybe[Number] = within(None, 0)  # ours: end with the epoch in which they pass; over all resumes
    keep_checkpoints: Maybe[Whole] = within(None, 1)  # ours: of epoch_N only the latest so many stay

    def check(self) -> None:
        if len(self.image_shape) != 3 or self.image_shape[0] != 3:
            raise BadValueError("image_shape", list(self.image_shape), "[3, height, width] is wanted")
        if self.re_ranking:
            raise BadValueError("re_ranking", True, "false is wanted: re-ranking is not built in")


@dataclass(frozen=True)
class EMA(Section):
    """Plain moving average of the weights, as PaddleClas's; evaluated and saved in their place."""

    decay: Number = within(0.9999, 0, 1)


# --- metrics and the whole -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MetricKind(ByKey):
    pass


@dataclass(frozen=True)
class Recallk(MetricKind):
    topk: Several[Whole] = within((1, 5), 1)
    descending: Maybe[Flag] = None  # PaddleClas's, for hamming; worked out from feature_binarize here


@dataclass(frozen=True)
class MeanAP(MetricKind):
    yaml_name = "mAP"
    descending: Maybe[Flag] = None


@dataclass(frozen=True)
class MeanINP(MetricKind):
    yaml_name = "mINP"
    descending: Maybe[Flag] = None


@dataclass(frozen=True)
class Precisionk(MetricKind):
    topk: Several[Whole] = within((1, 5), 1)
    descending: Maybe[Flag] = None


@dataclass(frozen=True)
class TopkAcc(MetricKind):
    """Of DataLoader.Eval.dataset, whose classes are those that are trained."""

    topk: Several[Whole] = within((1, 5), 1)


@dataclass(frozen=True)
class Metric(Section):
    no_effect = frozenset({"Train"})

    Eval: Several[MetricKind] = (Recallk(), MeanAP())


@dataclass(frozen=True)
class Losses(Section):
    Train: Several[Loss] = ()
    Eval: Several[Loss] = ()  # PaddleClas must have one to evaluate; here it has no effect


@dataclass(frozen=True)
class Prune(Section):
    """The inner channels of inverted bottlenecks that matter least are taken out before training."""

    name: Choice[Literal["fpgm", "l1_norm"]] = "fpgm"
    pruned_ratio: Number = within(0.3, 0, 0.9)


@dataclass(frozen=True)
class Quant(Section):
    """Training sees the rounding of int8, with ranges that learn; `shitu quantize` makes the program afterwards."""

    name: Choice[Literal["pact"]] = "pact"


_Prune = Prune
_Quant = Quant


@dataclass(frozen=True)
class Slim(Section):
    prune: Maybe[_Prune] = None
    quant: Maybe[_Quant] = None


_Global = Global
_AMP = AMP
_EMA = EMA
_Arch = Arch
_Optimizer = Optimizer
_DataLoader = DataLoader
_Metric = Metric
_Slim = Slim


@dataclass(frozen=True)
class TrainConfig(Section):
    """A whole training configuration."""

    no_effect = frozenset({"Infer", "IndexProcess"})

    Global: _Global = field(default_factory=_Global)
    AMP: Maybe[_AMP] = None
    EMA: Maybe[_EMA] = None
    Arch: _Arch = field(default_factory=RecModel)
    Loss: Losses = field(default_factory=Losses)
    Optimizer: _Optimizer = field(default_factory=Momentum)
    DataLoader: _DataLoader = field(default_factory=_DataLoader)
    Metric: _Metric = field(default_factory=_Metric)
    Slim: Maybe[_Slim] = None
    source: str = not_a_key("built-in defaults")

    @classmethod
    def keys_in(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("Optimizer"), list):
            value["Optimizer"] = one_of_several(value["Optimizer"])  # in place: a message then finds its way
        return super().keys_in(value)

    @classmethod
    def in_editors(cls, schema: dict[str, Any]) -> dict[str, Any]:
        one = schema["properties"]["Optimizer"]
        schema["properties"]["Optimizer"] = {"anyOf": [one, {"type": "array", "items": {"type": "object"}}]}
        return schema


def load_train_config(path: str | Path, overrides: tuple[str, ...] = ()) -> TrainConfig:
    """Read a training configuration. Raises ConfigError."""
    return load_sections(TrainConfig, Path(path).expanduser(), overrides, source=str(path))
