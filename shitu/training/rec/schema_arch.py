"""The Arch section of a training configuration: backbone, neck and head, or several such models for distillation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from shitu.config.keys import Choice, FilePath, Flag, Maybe, Number, Several, Text, UnwantedError, Whole
from shitu.config.values import BadValueError, Section, within
from shitu.config.variants import ByName


@dataclass(frozen=True)
class Initializer(ByName):
    pass


@dataclass(frozen=True)
class Constant(Initializer):
    value: Number = 0.0


@dataclass(frozen=True)
class Normal(Initializer):
    mean: Number = 0.0
    std: Number = within(1.0, 0)


@dataclass(frozen=True)
class XavierNormal(Initializer):
    pass


@dataclass(frozen=True)
class KaimingNormal(Initializer):
    fan_in: Maybe[Whole] = within(None, 1)  # None: that of the weight
    negative_slope: Number = 0.0
    nonlinearity: Choice[Literal["relu", "leaky_relu"]] = "relu"


@dataclass(frozen=True)
class KaimingUniform(Initializer):
    fan_in: Maybe[Whole] = within(None, 1)
    negative_slope: Number = 0.0
    nonlinearity: Choice[Literal["relu", "leaky_relu"]] = "relu"


@dataclass(frozen=True)
class ParamAttr(Section):
    """How a weight or bias begins and learns; `bias_attr: False` means none at all."""

    initializer: Maybe[Initializer] = None
    learning_rate: Number = within(1.0, 0)  # below 1e-10 is taken for frozen
    present: Flag = True

    @classmethod
    def keys_in(cls, value: Any) -> Any:
        return {"present": value} if isinstance(value, bool) else super().keys_in(value)

    @classmethod
    def in_editors(cls, schema: dict[str, Any]) -> dict[str, Any]:
        return {"anyOf": [schema, {"type": "boolean"}]}


@dataclass(frozen=True)
class Backbone(Section):
    """A network of paddleclas by its name (PPLCNetV2_base_ShiTu, PPLCNet_x2_5 ...), or EfficientNetLite0 to 2."""

    name: Text = "PPLCNetV2_base_ShiTu"
    # True: paddleclas's own ImageNet weights, downloaded once; or a path, or a known name
    pretrained: Maybe[Text] = None
    use_ssld: Flag = False
    class_expand: Maybe[Whole] = within(None, 1)
    class_num: Maybe[Whole] = within(None, 1)
    dropout_prob: Maybe[Number] = within(None, 0, 1)
    stem_act: Maybe[Text] = "relu"  # of a ResNet; null: none
    return_embed: Flag = False  # of a vision transformer: its projected tokens and no logits
    return_mean_embed: Flag = False  # with return_embed: their mean
    lr_mult_list: Maybe[Several[Number]] = None  # PP-LCNet, ResNet, PP-HGNetV2: their stages' learning rates
    freeze_befor: Maybe[Text] = None  # sic: this layer of the backbone and all before it do not learn

    @classmethod
    def keys_in(cls, value: Any) -> Any:
        keys = super().keys_in(value)
        if isinstance(keys, dict) and isinstance(keys.get("pretrained"), bool):
            keys["pretrained"] = "True" if keys["pretrained"] else None
        return keys

    @classmethod
    def in_editors(cls, schema: dict[str, Any]) -> dict[str, Any]:
        schema["properties"]["pretrained"]["anyOf"].append({"type": "boolean"})
        return schema


@dataclass(frozen=True)
class BackboneStopLayer(Section):
    no_effect = frozenset({"output_dim"})

    name: Text = "flatten"


@dataclass(frozen=True)
class Neck(ByName):
    pass


@dataclass(frozen=True)
class BNNeck(Neck):
    num_features: Whole = within(512, 1)
    weight_attr: ParamAttr = field(default_factory=lambda: ParamAttr(Constant(1.0)))
    bias_attr: ParamAttr = field(default_factory=lambda: ParamAttr(Constant(0.0)))


@dataclass(frozen=True)
class FCNeck(Neck):
    yaml_name = "FC"
    embedding_size: Whole = within(1280, 1)
    class_num: Whole = within(512, 1)
    weight_attr: ParamAttr = field(default_factory=ParamAttr)
    bias_attr: ParamAttr = field(default_factory=ParamAttr)


@dataclass(frozen=True)
class VehicleNeck(Neck):
    """A 1 x 1 convolution of a map, flattened."""

    in_channels: Whole = within(2048, 1)
    out_channels: Whole = within(512, 1)


@dataclass(frozen=True)
class Tanh(Neck):
    pass


@dataclass(frozen=True)
class Head(ByName):
    embedding_size: Whole = within(512, 1)
    class_num: Maybe[Whole] = within(None, 1)  # None (ours): as many as the train list has


@dataclass(frozen=True)
class FC(Head):
    weight_attr: ParamAttr = field(default_factory=ParamAttr)
    bias_attr: ParamAttr = field(default_factory=ParamAttr)


@dataclass(frozen=True)
class ArcMargin(Head):
    margin: Number = within(0.5, 0)
    scale: Number = within(80.0, 0)
    easy_margin: Flag = False


@dataclass(frozen=True)
class CosMargin(Head):
    margin: Number = within(0.35, 0)
    scale: Number = within(64.0, 0)


@dataclass(frozen=True)
class CircleMargin(Head):
    margin: Number = within(0.25, 0)
    scale: Number = within(64.0, 0)


@dataclass(frozen=True)
class Arch(ByName):
    """RecModel, or DistillationModel."""

    infer_output_key: Choice[Literal["features", "backbone", "neck"]] = "features"
    infer_add_softmax: Flag = False
    use_sync_bn: Flag = False
    is_rec: Flag = True
    freeze_norms: Flag = False  # ours: batch norms go by their running statistics, which stand still
    recompute: Flag = False  # ours: the backbone's blocks are computed twice instead of kept: less memory, same result
    freeze_layers: Several[Text] = ()  # ours: parameters whose names begin so do not learn; their norms stand still

    def parts(self) -> dict[str, RecModel]:
        """Its models by their names; where there is one, it is called ""."""
        raise NotImplementedError

    @property
    def inferring(self) -> str:
        """The name of the one that is evaluated and exported."""
        return ""

    def without_heads(self) -> Arch:
        """For evaluation and export, which need no logits."""
        raise NotImplementedError


_Backbone = Backbone
_BackboneStopLayer = BackboneStopLayer
_Neck = Neck
_Head = Head


@dataclass(frozen=True)
class RecModel(Arch):
    Backbone: _Backbone = field(default_factory=_Backbone)
    BackboneStopLayer: Maybe[_BackboneStopLayer] = None
    Neck: Maybe[_Neck] = None
    Head: Maybe[_Head] = None
    head_feature_from: Choice[Literal["neck", "backbone"]] = "neck"

    def parts(self) -> dict[str, RecModel]:
        return {"": self}

    def without_heads(self) -> RecModel:
        return replace(self, Head=None)


@dataclass(frozen=True)
class NamedModel(Section):
    """`{Student: {name: RecModel, ...}}`, one entry of DistillationModel.models."""

    key: Text = ""
    model: RecModel = field(default_factory=RecModel)

    @classmethod
    def keys_in(cls, value: Any) -> Any:
        if isinstance(value, cls):
            return value
        if not isinstance(value, dict) or len(value) != 1 or not isinstance(next(iter(value.values())), dict):
            raise UnwantedError("a mapping with one key is wanted, such as {Student: {name: RecModel, ...}}")
        ((key, model),) = value.items()
        if model.get("name") != "RecModel":
            raise UnwantedError(f"{key}.name must be RecModel")
        return {"key": str(key), "model": model}

    def in_yaml(self) -> Iterator[tuple[str, Any]]:
        yield self.key, self.model

    @classmethod
    def in_editors(cls, schema: dict[str, Any]) -> dict[str, Any]:
        one = {"type": "object", "minProperties": 1, "maxProperties": 1}
        return {**one, "additionalProperties": schema["properties"]["model"]}


@dataclass(frozen=True)
class DistillationModel(Arch):
    models: Several[NamedModel] = ()
    infer_model_name: Text = "Student"
    pretrained_list: Maybe[Several[Maybe[FilePath]]] = None
    freeze_params_list: Maybe[Several[Flag]] = None

    def parts(self) -> dict[str, RecModel]:
        return {each.key: each.model for each in self.models}

    @property
    def inferring(self) -> str:
        return self.infer_model_name

    def without_heads(self) -> DistillationModel:
        return replace(self, models=tuple(replace(each, model=each.model.without_heads()) for each in self.models))

    def check(self) -> None:
        names = [each.key for each in self.models]
        if self.models and self.infer_model_name not in names:
            wanted = f"one of the models is wanted: {', '.join(names)}"
            raise BadValueError("infer_model_name", self.infer_model_name, wanted)
        for key, values in (("pretrained_list", self.pretrained_list), ("freeze_params_list", self.freeze_params_list)):
            if values and len(values) != len(self.models):
                raise BadValueError(key, list(values), f"{len(self.models)} entries, one per model, are wanted")
