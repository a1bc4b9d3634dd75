"""The Arch section of a training configuration: backbone, neck and head, or several such models for distillation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from shitu.config.values import BadValueError, FilePath, Section, within
from shitu.config.variants import ByName


@dataclass(frozen=True)
class Initializer(ByName):
    pass


@dataclass(frozen=True)
class Constant(Initializer):
    value: float = 0.0


@dataclass(frozen=True)
class Normal(Initializer):
    mean: float = 0.0
    std: float = within(1.0, 0)


@dataclass(frozen=True)
class XavierNormal(Initializer):
    pass


@dataclass(frozen=True)
class KaimingNormal(Initializer):
    pass


@dataclass(frozen=True)
class ParamAttr(Section):
    """How a weight or bias begins and learns; `bias_attr: False` means none at all."""

    initializer: Initializer | None = None
    learning_rate: float = within(1.0, 0)  # below 1e-10 is taken for frozen
    present: bool = True

    @classmethod
    def read_as(cls, value: Any) -> tuple[type[Section], Any]:
        return cls, {"present": value} if isinstance(value, bool) else value


@dataclass(frozen=True)
class Backbone(Section):
    """A network of paddleclas by its name (PPLCNetV2_base_ShiTu, PPLCNet_x2_5 ...), or EfficientNetLite0 to 2."""

    name: str = "PPLCNetV2_base_ShiTu"
    # True: paddleclas's own ImageNet weights, downloaded once; or a path, or a known name
    pretrained: str | None = None
    use_ssld: bool = False
    class_expand: int | None = within(None, 1)
    class_num: int | None = within(None, 1)
    dropout_prob: float | None = within(None, 0, 1)
    freeze_befor: str | None = None  # sic: this layer of the backbone and all before it do not learn

    @classmethod
    def read_as(cls, value: Any) -> tuple[type[Section], Any]:
        if isinstance(value, dict) and isinstance(value.get("pretrained"), bool):
            value = {**value, "pretrained": "True" if value["pretrained"] else None}
        return cls, value


@dataclass(frozen=True)
class BackboneStopLayer(Section):
    name: str = "flatten"


@dataclass(frozen=True)
class Neck(ByName):
    pass


@dataclass(frozen=True)
class BNNeck(Neck):
    num_features: int = within(512, 1)
    weight_attr: ParamAttr = field(default_factory=lambda: ParamAttr(Constant(1.0)))
    bias_attr: ParamAttr = field(default_factory=lambda: ParamAttr(Constant(0.0), learning_rate=0.0))


@dataclass(frozen=True)
class FCNeck(Neck):
    yaml_name = "FC"
    embedding_size: int = within(1280, 1)
    class_num: int = within(512, 1)
    weight_attr: ParamAttr = field(default_factory=ParamAttr)
    bias_attr: ParamAttr = field(default_factory=ParamAttr)


@dataclass(frozen=True)
class Head(ByName):
    embedding_size: int = within(512, 1)
    class_num: int | None = within(None, 1)  # None (ours): as many as the train list has


@dataclass(frozen=True)
class FC(Head):
    weight_attr: ParamAttr = field(default_factory=ParamAttr)
    bias_attr: ParamAttr = field(default_factory=ParamAttr)


@dataclass(frozen=True)
class ArcMargin(Head):
    margin: float = within(0.5, 0)
    scale: float = within(80.0, 0)
    easy_margin: bool = False


@dataclass(frozen=True)
class CosMargin(Head):
    margin: float = within(0.35, 0)
    scale: float = within(64.0, 0)


@dataclass(frozen=True)
class CircleMargin(Head):
    margin: float = within(0.25, 0)
    scale: float = within(64.0, 0)


@dataclass(frozen=True)
class Arch(ByName):
    """RecModel, or DistillationModel."""

    infer_output_key: Literal["features", "backbone", "neck"] = "features"
    infer_add_softmax: bool = False
    use_sync_bn: bool = False
    is_rec: bool = True
    freeze_layers: tuple[str, ...] = ()  # ours: parameters whose names begin so do not learn; their norms stand still


_Backbone = Backbone
_BackboneStopLayer = BackboneStopLayer
_Neck = Neck
_Head = Head


@dataclass(frozen=True)
class RecModel(Arch):
    Backbone: _Backbone = field(default_factory=_Backbone)
    BackboneStopLayer: _BackboneStopLayer | None = None
    Neck: _Neck | None = None
    Head: _Head | None = None
    head_feature_from: Literal["neck", "backbone"] = "neck"


@dataclass(frozen=True)
class NamedModel(Section):
    """`{Student: {name: RecModel, ...}}`, one entry of DistillationModel.models."""

    key: str = ""
    model: RecModel = field(default_factory=RecModel)

    @classmethod
    def read_as(cls, value: Any) -> tuple[type[Section], Any]:
        if not isinstance(value, dict) or len(value) != 1 or not isinstance(next(iter(value.values())), dict):
            raise ValueError("a mapping with one key is wanted, such as {Student: {name: RecModel, ...}}")
        ((key, model),) = value.items()
        if model.get("name") != "RecModel":
            raise ValueError(f"{key}.name must be RecModel")
        return cls, {"key": str(key), "model": {name: each for name, each in model.items() if name != "name"}}


@dataclass(frozen=True)
class DistillationModel(Arch):
    models: tuple[NamedModel, ...] = ()
    infer_model_name: str = "Student"
    pretrained_list: tuple[FilePath | None, ...] | None = None
    freeze_params_list: tuple[bool, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [each.key for each in self.models]
        if self.models and self.infer_model_name not in names:
            wanted = f"one of the models is wanted: {', '.join(names)}"
            raise BadValueError("Arch.infer_model_name", self.infer_model_name, wanted)
        for key, values in (("pretrained_list", self.pretrained_list), ("freeze_params_list", self.freeze_params_list)):
            if values and len(values) != len(self.models):
                raise BadValueError(
                    f"Arch.{key}", list(values), f"{len(self.models)} entries, one per model, are wanted"
                )
