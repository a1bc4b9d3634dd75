"""The sections of a configuration: every key, its type, its default and its limits; a key not named here is refused.

Field names are the YAML's own, PaddleClas's spelling included; defaults are those of its inference_general.yaml.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from shitu.config.values import BadValueError, FilePath, Operators, Reader, Section, not_a_key, within


@dataclass(frozen=True)
class Global(Section):
    no_effect = frozenset({"enable_benchmark", "benchmark", "android_demo", "save_log_path", "model_name"})

    infer_imgs: FilePath | None = None
    det_inference_model_dir: FilePath | None = None  # None: no detector, whole images only
    rec_inference_model_dir: FilePath | None = None
    rec_nms_thresold: float = within(0.05, 0, 1)
    rec_nms_within_labels: bool = False  # regions compete only with those of the same name; PaddleClas: with all
    batch_size: int = within(1, 1)
    image_shape: tuple[int, ...] = within((3, 640, 640), 1)  # PaddleClas needs it; here the model says it
    threshold: float = within(0.2, 0, 1)
    max_det_results: int = within(5, 1)
    label_list: tuple[str, ...] = ("foreground",)
    use_gpu: bool = True
    use_npu: bool = False
    use_xpu: bool = False
    use_mlu: bool = False
    gpu_mem: int = within(8000, 1)
    enable_mkldnn: bool = True
    cpu_num_threads: int = within(10, 1)
    ir_optim: bool = True
    use_tensorrt: bool = False
    use_fp16: bool = False
    use_int8: bool = False
    enable_profile: bool = False
    use_onnx: bool = False
    output_dir: FilePath = "./output"
    whole_image: Literal["always", "fallback", "never"] = "always"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.image_shape) != 3:
            raise BadValueError("Global.image_shape", list(self.image_shape), "[channels, height, width] is wanted")
        if not self.label_list:
            raise BadValueError("Global.label_list", [], "at least one name is wanted, such as [foreground]")


@dataclass(frozen=True)
class DetPreProcess(Section):
    transform_ops: Operators | None = None  # None: as the model's own model.yaml says, else PaddleClas's


@dataclass(frozen=True)
class RecPreProcess(Section):
    transform_ops: Operators | None = None  # None: as for DetPreProcess
    # Shares of height and width: the unit vectors of these middle crops are averaged. PaddleClas: the whole alone.
    multi_crop: tuple[float, ...] = within((1.0,), 0.05, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.multi_crop:
            raise BadValueError("RecPreProcess.multi_crop", [], "at least one share is wanted, such as [1.0]")


@dataclass(frozen=True)
class DetPostProcess(Section):
    """No keys: the exported detectors contain their own."""


@dataclass(frozen=True)
class Binarize(Section):
    method: Literal["sign", "round"] = "round"


_Binarize = Binarize  # inside a class body, a field that is named like its type would hide the type


@dataclass(frozen=True)
class RecPostProcess(Section):
    main_indicator: Literal["Binarize"] | None = None
    Binarize: _Binarize | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.Binarize and not self.main_indicator:
            wanted = "Binarize is wanted, since RecPostProcess.Binarize is given"
            raise BadValueError("RecPostProcess.main_indicator", None, wanted)
        if self.main_indicator and not self.Binarize:
            object.__setattr__(self, "Binarize", _Binarize())


@dataclass(frozen=True)
class IndexProcess(Section):
    no_effect = frozenset({"binary_index"})

    index_method: str = "HNSW32"
    image_root: FilePath | None = None
    index_dir: FilePath | None = None
    data_file: FilePath | None = None
    index_operation: Literal["new", "append", "remove"] = "new"
    delimiter: str = "\t"
    dist_type: Literal["IP", "L2", "hamming"] = "IP"
    embedding_size: int = within(512, 1)
    batch_size: int = within(32, 1)
    return_k: int = within(5, 1)
    vote_k: int = within(1, 1)  # so many nearest entries vote on the label; 1, as in PaddleClas: the nearest has it
    score_thres: float = 0.5
    hamming_radius: int = within(100, 0)
    crop: Literal["none", "largest", "all"] = "none"
    efSearch: int | None = within(None, 1)
    nprobe: int | None = within(None, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.delimiter or set(self.delimiter) & set("\r\n"):
            wanted = r'what stands between image and label in a line is wanted, such as "\t"'
            raise BadValueError("IndexProcess.delimiter", self.delimiter, wanted)
        if not self.index_method.strip():
            raise BadValueError("IndexProcess.index_method", self.index_method, "HNSW32, IVF or Flat is wanted")
        if self.dist_type == "hamming" and self.embedding_size % 8:
            wanted = "a multiple of 8 is wanted, since dist_type hamming packs 8 bits into a byte"
            raise BadValueError("IndexProcess.embedding_size", self.embedding_size, wanted)
        limits = {"IP": (-1.0, 1.0, "a cosine (-1 to 1)"), "L2": (0.0, math.inf, "a squared distance (0 or more)")}
        low, high, what = limits.get(self.dist_type, (-math.inf, math.inf, "a number"))
        if not low <= self.score_thres <= high:
            wanted = f"{what} is wanted with dist_type {self.dist_type}"
            raise BadValueError("IndexProcess.score_thres", self.score_thres, wanted)


@dataclass(frozen=True)
class Eval(Section):
    name: str | None = None
    image_root: FilePath | None = None
    cls_label_path: FilePath | None = None
    output_dir: FilePath | None = None


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

    Global: _Global = field(default_factory=_Global)
    DetPreProcess: _DetPreProcess = field(default_factory=_DetPreProcess)
    DetPostProcess: _DetPostProcess = field(default_factory=_DetPostProcess)
    RecPreProcess: _RecPreProcess = field(default_factory=_RecPreProcess)
    RecPostProcess: _RecPostProcess = field(default_factory=_RecPostProcess)
    IndexProcess: _IndexProcess = field(default_factory=_IndexProcess)
    Eval: _Eval | None = None
    source: str = not_a_key("built-in defaults")

    def replace(self, section: str, /, **values: Any) -> Config:
        """A copy with keys of one section set, checked as a file's are: how a command's own options come in.

        `config.replace("Global", output_dir="out", threshold=0.3)`; None is a value, not "unchanged".
        """
        old = getattr(self, section)
        kind, kept = (type(old), vars(old)) if old is not None else (_Eval, {})
        new = Reader(Config, "the command's options").section(kind, {**kept, **values}, section)
        return dataclasses.replace(self, **{section: new})
