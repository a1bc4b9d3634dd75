"""The sections of a detector's configuration: PaddleDetection's keys, typed and closed; ours are marked so."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from shitu.config.keys import Choice, FilePath, Flag, Maybe, Number, Operators, Several, Text, Whole
from shitu.config.load import load_sections
from shitu.config.values import BadValueError, Section, not_a_key, within
from shitu.config.variants import ByName
from shitu.training.base.schema import ScaledRate
from shitu.training.det import schema_net as net

_STRIDE = 32  # of LCNet's last level: what divides a picture's sides, so that the levels of the neck fit together


@dataclass(frozen=True)
class COCODataSet(ByName):
    """Images with boxes, in COCO's format. `dataset_dir` goes before the other two."""

    no_effect = frozenset({"data_fields", "load_crowd", "repeat", "use_default_label"})

    dataset_dir: Maybe[FilePath] = None
    image_dir: Maybe[FilePath] = None
    anno_path: Maybe[FilePath] = None
    sample_num: Whole = -1  # so many images at most; -1: all
    allow_empty: Flag = False  # train on images without boxes, too
    empty_ratio: Number = within(1.0, 0, 1)  # their largest share, drawn with the seed; 1: all of them
    any_category: Flag = False  # ours: whatever the category, a box is foreground


@dataclass(frozen=True)
class Scheduler(ByName):
    pass


@dataclass(frozen=True)
class CosineDecay(Scheduler):
    max_epochs: Maybe[Whole] = within(None, 1)  # when the lowest is reached; None, ours: when the run ends
    use_warmup: Flag = True
    min_lr_ratio: Number = within(0.0, 0, 1)


@dataclass(frozen=True)
class PiecewiseDecay(Scheduler):
    milestones: Several[Whole] = within((8, 11), 0)  # epochs
    gamma: Several[Number] = within((0.1, 0.01), 0)  # of base_lr, after each milestone
    use_warmup: Flag = True

    def check(self) -> None:
        if len(self.gamma) != len(self.milestones):
            raise BadValueError("gamma", list(self.gamma), "as many numbers as milestones are wanted")


@dataclass(frozen=True)
class LinearWarmup(Scheduler):
    steps: Whole = within(500, 0)
    start_factor: Number = within(1 / 3, 0, 1)
    epochs: Maybe[Whole] = within(None, 0)  # goes before steps


@dataclass(frozen=True)
class LearningRate(ScaledRate):
    base_lr: Number = within(0.01, 0)
    schedulers: Several[Scheduler] = (CosineDecay(), LinearWarmup())

    def check(self) -> None:
        kinds = [isinstance(each, LinearWarmup) for each in self.schedulers]
        if kinds not in ([False], [False, True]):
            names = [type(each).__name__ for each in self.schedulers]
            wanted = "CosineDecay or PiecewiseDecay is wanted, and after it LinearWarmup if there is to be one"
            raise BadValueError("schedulers", names, wanted)


@dataclass(frozen=True)
class Optimizer(Section):
    type: Choice[Literal["Momentum", "AdamW"]] = "Momentum"
    momentum: Number = within(0.9, 0, 1)
    use_nesterov: Flag = False
    weight_decay: Number = within(0.01, 0)  # AdamW's


@dataclass(frozen=True)
class Regularizer(Section):
    type: Choice[Literal["L2"]] = "L2"
    factor: Number = within(0.0001, 0)  # batch norms are left out, as ppdet's layers ask


@dataclass(frozen=True)
class OptimizerBuilder(Section):
    clip_grad_by_norm: Maybe[Number] = within(None, 0)
    optimizer: Optimizer = field(default_factory=Optimizer)
    regularizer: Maybe[Regularizer] = field(default_factory=Regularizer)


@dataclass(frozen=True)
class Reader(Section):
    no_effect = frozenset({"collate_batch", "inputs_def"})

    sample_transforms: Operators = ()
    batch_transforms: Operators = ()
    batch_size: Whole = within(1, 1)  # a card
    use_shared_memory: Flag = True


@dataclass(frozen=True)
class TrainReader(Reader):
    shuffle: Flag = True
    drop_last: Flag = True

    def check(self) -> None:
        if not self.drop_last:
            raise BadValueError("drop_last", False, "true is wanted: every step has a full batch")


@dataclass(frozen=True)
class EvalReader(Reader):
    no_effect = Reader.no_effect | {"shuffle", "drop_last"}


_LearningRate = LearningRate  # inside a class body, a field that is named like its type would hide the type
_OptimizerBuilder = OptimizerBuilder
_TrainReader = TrainReader
_EvalReader = EvalReader


@dataclass(frozen=True)
class DetConfig(Section):
    """A whole configuration; the keys of PaddleDetection's runtime.yml stand beside the sections, as there."""

    no_effect = frozenset(
        {"TestDataset", "TestReader", "InferDataset", "eval_height", "eval_width", "export", "export_onnx"}
        | {"print_flops", "print_params", "vdl_log_dir", "use_npu", "use_xpu", "use_mlu", "to_static"}
    )
    based = True
    tags = frozenset(
        {"COCODataSet", "ImageFolder", "CosineDecay", "PiecewiseDecay", "LinearWarmup"}
    )  # its newer files spell them so

    architecture: Choice[Literal["PicoDet"]] = "PicoDet"
    metric: Choice[Literal["COCO"]] = "COCO"
    num_classes: Whole = within(1, 1)
    epoch: Whole = within(100, 1)
    snapshot_epoch: Whole = within(1, 1)  # so many epochs between evaluations and checkpoints
    save_dir: FilePath = "output"  # the run's folder is save_dir/NAME-OF-THE-CONFIG
    pretrain_weights: Maybe[Text] = None  # path or address of a .pdparams: a backbone's or a whole detector's
    weights: Maybe[FilePath] = None  # what eval-det and export-det take, with or without .pdparams
    use_gpu: Flag = True
    use_ema: Flag = False
    ema_decay: Number = within(0.9998, 0, 1)
    ema_decay_type: Choice[Literal["threshold", "normal", "exponential"]] = "threshold"
    cycle_epoch: Whole = -1  # the average begins anew after so many snapshots (not epochs: as in ppdet); -1: never
    use_amp: Flag = False
    use_vdl: Flag = False  # VisualDL, in the run's folder
    use_tensorboard: Flag = False  # ours
    norm_type: Choice[Literal["bn", "sync_bn"]] = "bn"
    find_unused_parameters: Flag = False  # no matter here: gradients are averaged after the backward pass
    log_iter: Whole = within(20, 1)
    worker_num: Whole = within(4, 0)
    eval_size: Maybe[Several[Whole]] = within(None, _STRIDE)
    seed: Whole = within(0, 0)  # ours
    max_iters: Maybe[Whole] = within(None, 1)  # ours: stop after so many steps, whatever the epochs
    save_steps: Maybe[Whole] = within(None, 1)  # ours: write `latest` inside an epoch too, every so many steps
    cpu_threads: Maybe[Whole] = within(None, 1)  # ours: threads of Paddle on the CPU; None: Paddle's own choice
    LearningRate: _LearningRate = field(default_factory=_LearningRate)
    OptimizerBuilder: _OptimizerBuilder = field(default_factory=_OptimizerBuilder)
    PicoDet: net.PicoDet = field(default_factory=net.PicoDet)
    LCNet: net.LCNet = field(default_factory=net.LCNet)
    CSPPAN: net.CSPPAN = field(default_factory=net.CSPPAN)
    PicoHead: net.PicoHead = field(default_factory=net.PicoHead)
    TrainDataset: Maybe[COCODataSet] = None
    EvalDataset: Maybe[COCODataSet] = None
    TrainReader: _TrainReader = field(default_factory=_TrainReader)
    EvalReader: _EvalReader = field(default_factory=_EvalReader)
    _BASE_: Several[Text] = ()  # files that this one is laid over, the later over the earlier; paths from this file on
    source: str = not_a_key("built-in defaults")

    def check(self) -> None:
        if self.eval_size is not None and self.eval_size != self.size:
            wanted = f"the target_size of EvalReader's Resize is wanted, {list(self.size)}"
            raise BadValueError("eval_size", list(self.eval_size), wanted)

    @property
    def name(self) -> str:
        return Path(self.source).stem

    @property
    def run_dir(self) -> Path:
        return Path(self.save_dir) / self.name

    @property
    def size(self) -> tuple[int, int]:
        """Height and width that the network sees in evaluation and in the exported program. Raises BadValueError."""
        key = "EvalReader.sample_transforms"
        for operator in self.EvalReader.sample_transforms:
            resize = operator.get("Resize")
            if isinstance(resize, dict):
                return checked_size(resize.get("target_size"), f"{key}, Resize.target_size")
        wanted = "a Resize is wanted, such as {Resize: {target_size: [640, 640], keep_ratio: false, interp: 2}}"
        raise BadValueError(key, [next(iter(each)) for each in self.EvalReader.sample_transforms], wanted)


def checked_size(value: Any, key: str) -> tuple[int, int]:
    """[height, width], or one number for both. Raises BadValueError."""
    pair = [value, value] if isinstance(value, int) else value
    whole = isinstance(pair, (list, tuple)) and len(pair) == 2 and all(isinstance(each, int) for each in pair)
    if not whole or not all(_STRIDE <= each <= 4096 and each % _STRIDE == 0 for each in pair):
        raise BadValueError(key, value, f"[height, width] is wanted, multiples of {_STRIDE}")
    return pair[0], pair[1]


def load_det_config(path: str | Path, overrides: tuple[str, ...] = ()) -> DetConfig:
    """Read a detector's configuration. Raises ConfigError."""
    return load_sections(DetConfig, Path(path).expanduser(), overrides, source=str(path))
