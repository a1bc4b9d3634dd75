"""The sections of a configuration: every key, its type, its default and its limits; a key not named here is refused.

Field names are the YAML's own, PaddleClas's spelling included; defaults are those of its inference_general.yaml.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from shitu.config.keys import Choice, FilePath, Flag, Maybe, Number, Operators, Several, Text, Whole
from shitu.config.layers import PADDLECLAS, names
from shitu.config.reader import Reader
from shitu.config.values import BadValueError, Section, not_a_key, within


@dataclass(frozen=True)
class Global(Section):
    no_effect = frozenset({"enable_benchmark", "benchmark", "android_demo", "save_log_path", "model_name"})

    infer_imgs: Maybe[FilePath] = None
    det_inference_model_dir: Maybe[FilePath] = None  # None: no detector, whole images only
    rec_inference_model_dir: Maybe[FilePath] = None
    rec_nms_thresold: Number = within(0.05, 0, 1)
    rec_nms_within_labels: Flag = False  # regions compete only with those of the same name; PaddleClas: with all
    batch_size: Whole = within(1, 1, 1024)  # images at a time; more take memory and gain nothing
    image_shape: Several[Whole] = within((3, 640, 640), 1)  # PaddleClas needs it; here the model says it
    threshold: Number = within(0.2, 0, 1)
    max_det_results: Whole = within(5, 1)
    label_list: Several[Text] = ("foreground",)
    engine: Choice[Literal["paddle", "onnxruntime", "openvino", "auto"]] = "paddle"
    precision: Choice[Literal["fp32", "bf16", "int8", "auto"]] = "fp32"
    use_gpu: Flag = True
    use_npu: Flag = False
    use_xpu: Flag = False
    use_mlu: Flag = False
    gpu_mem: Whole = within(8000, 1)
    enable_mkldnn: Flag = True
    cpu_num_threads: Whole = within(10, 1)
    ir_optim: Flag = True
    use_tensorrt: Flag = False
    use_fp16: Flag = False
    use_int8: Flag = False
    enable_profile: Flag = False
    use_onnx: Flag = False
    output_dir: FilePath = "./output"
    whole_image: Choice[Literal["always", "compete", "fallback", "never"]] = "always"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.image_shape) != 3:
            raise BadValueError("image_shape", list(self.image_shape), "[channels, height, width] is wanted")
        if not self.label_list:
            raise BadValueError("label_list", [], "at least one name is wanted, such as [foreground]")


@dataclass(frozen=True)
class DetPreProcess(Section):
    transform_ops: Maybe[Operators] = None  # None: as the model's own model.yaml says, else PaddleClas's


@dataclass(frozen=True)
class RecPreProcess(Section):
    transform_ops: Maybe[Operators] = None  # None: as for DetPreProcess
    # Shares of height and width: the unit vectors of these middle crops are averaged. PaddleClas: the whole alone.
    multi_crop: Several[Number] = within((1.0,), 0.05, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.multi_crop:
            raise BadValueError("multi_crop", [], "at least one share is wanted, such as [1.0]")


@dataclass(frozen=True)
class DetPostProcess(Section):
    """No keys: the exported detectors contain their own."""


@dataclass(frozen=True)
class Binarize(Section):
    method: Choice[Literal["sign", "round"]] = "round"


_Binarize = Binarize  # inside a class body, a field that is named like its type would hide the type


@dataclass(frozen=True)
class RecPostProcess(Section):
    main_indicator: Maybe[Choice[Literal["Binarize"]]] = None
    Binarize: Maybe[_Binarize] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.Binarize and not self.main_indicator:
            wanted = "Binarize is wanted, since RecPostProcess.Binarize is given"
            raise BadValueError("main_indicator", None, wanted)
        if self.main_indicator and not self.Binarize:
            object.__setattr__(self, "Binarize", _Binarize())


@dataclass(frozen=True)
class IndexProcess(Section):
    no_effect = frozenset({"binary_index"})

    index_method: Text = "HNSW32"
    image_root: Maybe[FilePath] = None
    index_dir: Maybe[FilePath] = None
    data_file: Maybe[FilePath] = None
    index_operation: Choice[Literal["new", "append", "remove"]] = "new"
    delimiter: Text = "\t"
    dist_type: Choice[Literal["IP", "L2", "hamming"]] = "IP"
    embedding_size: Whole = within(512, 1)
    batch_size: Whole = within(32, 1, 1024)
    return_k: Whole = within(5, 1)
    vote_k: Whole = within(1, 1)  # so many nearest entries vote on the label; 1, as in PaddleClas: the nearest has it
    score_thres: Number = 0.5
    hamming_radius: Whole = within(100, 0)
    crop: Choice[Literal["none", "largest", "both", "all"]] = "none"
    memory_limit: Maybe[Number] = within(None, 0.001)  # GB that the index of index_method auto may take; null: 2
    efSearch: Maybe[Whole] = within(None, 1)
    nprobe: Maybe[Whole] = within(None, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.delimiter or set(self.delimiter) & set("\r\n"):
            wanted = r'what stands between image and label in a line is wanted, such as "\t"'
            raise BadValueError("delimiter", self.delimiter, wanted)
        if not self.index_method.strip():
            raise BadValueError("index_method", self.index_method, "auto, HNSW32, IVF or Flat is wanted")
        if self.dist_type == "hamming" and self.embedding_size % 8:
            wanted = "a multiple of 8 is wanted, since dist_type hamming packs 8 bits into a byte"
            raise BadValueError("embedding_size", self.embedding_size, wanted)
        limits = {"IP": (-1.0, 1.0, "a cosine (-1 to 1)"), "L2": (0.0, math.inf, "a squared distance (0 or more)")}
        low, high, what = limits.get(self.dist_type, (-math.inf, math.inf, "a number"))
        if not low <= self.score_thres <= high:
            wanted = f"{what} is wanted with dist_type {self.dist_type}"
            raise BadValueError("score_thres", self.score_thres, wanted)


@dataclass(frozen=True)
class Eval(Section):
    name: Maybe[Text] = None
    image_root: Maybe[FilePath] = None
    cls_label_path: Maybe[FilePath] = None
    output_dir: Maybe[FilePath] = None


_Global = Global
_DetPreProcess = DetPreProcess
_DetPostProcess = DetPostProcess
_RecPreProcess = RecPreProcess
_RecPostProcess = RecPostProcess
_IndexProcess = IndexProcess
_Eval = Eval


@dataclass(frozen=True)
class Config(Section):
    """A whole configuration; a section that is missing or null has its defaults (`Eval`: None)."""

    layered = True

    Global: _Global = field(default_factory=_Global)
    DetPreProcess: _DetPreProcess = field(default_factory=_DetPreProcess)
    DetPostProcess: _DetPostProcess = field(default_factory=_DetPostProcess)
    RecPreProcess: _RecPreProcess = field(default_factory=_RecPreProcess)
    RecPostProcess: _RecPostProcess = field(default_factory=_RecPostProcess)
    IndexProcess: _IndexProcess = field(default_factory=_IndexProcess)
    Eval: Maybe[_Eval] = None
    source: str = not_a_key("built-in defaults")

    @classmethod
    def in_editors(cls, schema: dict[str, Any]) -> dict[str, Any]:
        about = "the bundled config that has the keys which this file lacks; paddleclas: PaddleClas's defaults"
        base = {"enum": [*names(), PADDLECLAS], "description": about}
        return {**schema, "properties": {"base": base, **schema["properties"]}}

    def replace(self, section: str, /, **values: Any) -> Config:
        """A copy with keys of one section set, checked as a file's are: how a command's own options come in.

        `config.replace("Global", output_dir="out", threshold=0.3)`; None is a value, not "unchanged".
        """
        old = getattr(self, section)
        kind, kept = (type(old), vars(old)) if old is not None else (_Eval, {})
        new = Reader(Config, "the command's options").section(kind, {**kept, **values}, section)
        return dataclasses.replace(self, **{section: new})
