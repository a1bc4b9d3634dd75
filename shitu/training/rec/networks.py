"""The Arch section -> the network that is trained: backbone, neck and head, or several such models side by side."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

import paddle
from paddle import nn

from shitu.errors import ConfigError
from shitu.training.rec import schema_arch as schema
from shitu.training.rec.backbones import build_backbone
from shitu.training.rec.heads import build_head, build_neck

Outputs = dict[str, paddle.Tensor]
NORMS = (nn.layer.norm._BatchNormBase, nn.BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.layer.norm._InstanceNormBase)
log = logging.getLogger("shitu")


class RecModel(nn.Layer):
    """Backbone, neck and head with PaddleClas's parameter names: backbone.*, neck.*, head.*."""

    def __init__(self, arch: schema.RecModel, class_count: int) -> None:
        super().__init__()
        stop = arch.BackboneStopLayer
        self.backbone = build_backbone(arch.Backbone, stop.name if stop else None)
        self.neck = build_neck(arch.Neck) if arch.Neck else None
        self.head = build_head(arch.Head, class_count) if arch.Head else None
        self.head_takes_backbone = arch.head_feature_from == "backbone"

    def forward(self, images: paddle.Tensor, labels: paddle.Tensor | None = None) -> Outputs:
        """(n, 3, h, w) float32, (n,) int64 -> backbone, neck and features (n, d), logits (n, classes), as there are."""
        outputs = self.embed(images)
        if self.head is not None:
            seen = outputs["backbone" if self.head_takes_backbone else "features"]
            outputs["logits"] = self.head(seen, labels)
        return outputs

    def embed(self, images: paddle.Tensor) -> Outputs:
        """The same without the logits: what evaluation and export want."""
        outputs: Outputs = {"backbone": self.backbone(images)}
        if self.neck is not None:
            outputs["neck"] = self.neck(outputs["backbone"])
        outputs["features"] = outputs.get("neck", outputs["backbone"])
        return outputs


class DistillationModel(nn.Layer):
    """Several RecModels that see the same images; parameters are named Teacher.*, Student.* ..."""

    def __init__(self, arch: schema.DistillationModel, class_count: int) -> None:
        super().__init__()
        if not arch.models:
            raise ConfigError("Arch.models is empty; entries such as {Student: {name: RecModel, ...}} are wanted")
        for each in arch.models:
            self.add_sublayer(each.key, RecModel(each.model, class_count))

    def forward(self, images: paddle.Tensor, labels: paddle.Tensor | None = None) -> dict[str, Outputs]:
        """As RecModel, by the models' names."""
        return {name: model(images, labels) for name, model in self.named_children()}

    def embed(self, images: paddle.Tensor) -> dict[str, Outputs]:
        return {name: model.embed(images) for name, model in self.named_children()}


def build_network(
    arch: schema.Arch, class_count: int, *, image_shape: Sequence[int] = (3, 224, 224), device: str | None = None
) -> RecModel | DistillationModel:
    """The network of a configuration with fresh weights, every layer free to learn. Raises ConfigError.

    `device`: "gpu", "gpu:0", "cpu"; None: the current one; it only decides whether use_sync_bn can be obeyed.
    One image of zeros goes through it, so that sizes that do not fit show here and not after the data is read.
    """
    kind: Any = DistillationModel if isinstance(arch, schema.DistillationModel) else RecModel
    network: RecModel | DistillationModel = kind(arch, class_count)
    for key, section, model in _models(network, arch):
        _check_sizes(model.backbone, section, key, image_shape)
    _rest_unused(network)
    if arch.use_sync_bn:
        if (device or paddle.device.get_device()).startswith("gpu"):
            nn.SyncBatchNorm.convert_sync_batchnorm(network)  # in place, below the top
        else:
            log.warning("Arch.use_sync_bn: batch norms are synchronised on GPUs only; going on with plain ones")
    return network


def part(network: nn.Layer, name: str) -> Any:
    """The RecModel that Arch.parts has under that name."""
    return getattr(network, name) if name else network


def _models(network: nn.Layer, arch: schema.Arch) -> Iterator[tuple[str, schema.RecModel, RecModel]]:
    """Each RecModel with its section and the section's key."""
    for number, (name, section) in enumerate(arch.parts().items()):
        yield f"Arch.models.{number}.{name}" if name else "Arch", section, part(network, name)


def _rest_unused(network: nn.Layer) -> None:
    """PaddleClas's re-parameterisable layers hold the fused convolution, too, which only an export uses.

    Left free, it would have gradients of zero where several processes average theirs, and decay.
    """
    for layer in network.sublayers():
        if getattr(layer, "use_rep", False) and hasattr(layer, "dw_conv_list"):
            for parameter in layer.dw_conv.parameters():
                parameter.stop_gradient = True
                parameter.unused_in_training = True


# --- freezing --------------------------------------------------------------------------------------------------


def freeze(network: RecModel | DistillationModel, arch: schema.Arch) -> int:
    """Stop what the Arch section wants frozen from learning; returns how many parameters (tensors) that are.

    Arch.freeze_layers: names of parameters, or of layers with all in them (backbone.blocks.1, not backbone.blocks.10);
    Backbone.freeze_befor: that layer of the backbone and all defined before it; DistillationModel.freeze_params_list:
    whole models. Batch norms in all these keep their running statistics: train with `set_train_mode`.
    Raises ConfigError where a name matches nothing.
    """
    for layer in network.sublayers() if arch.freeze_norms else ():
        layer.stands_still = isinstance(layer, NORMS)
    for prefix in arch.freeze_layers:
        _freeze_named(network, prefix, "Arch.freeze_layers")
    for key, section, model in _models(network, arch):
        if section.Backbone.freeze_befor:
            _freeze_before(model.backbone, section.Backbone.freeze_befor, f"{key}.Backbone.freeze_befor")
    if isinstance(arch, schema.DistillationModel):
        for each, frozen in zip(arch.models, arch.freeze_params_list or (), strict=False):
            if frozen:
                _freeze_named(network, each.key, "Arch.freeze_params_list")
    _refuse_half_norms(network)
    return sum(hasattr(each, "frozen_by_config") for each in network.parameters())


def steady(model: RecModel, *, norms: bool) -> None:
    """For a network that is to stay what it is: no block is dropped; `norms` keep their statistics, and still learn."""
    for layer in model.backbone.sublayers():
        if norms and isinstance(layer, NORMS):
            layer.frozen_by_config = True
        if hasattr(layer, "drop_rate"):
            layer.drop_rate = 0.0


def set_train_mode(network: nn.Layer) -> None:
    """`network.train()`, but norms that stand still go on using, and do not change, their running statistics."""
    network.train()
    for layer in network.sublayers(include_self=True):
        if getattr(layer, "stands_still", False):
            layer.eval()


def _freeze_named(network: nn.Layer, prefix: str, key: str) -> None:
    layers = dict(network.named_sublayers())
    inside = [layer for name, layer in layers.items() if is_below(name, prefix)]
    parameters = [parameter for name, parameter in network.named_parameters() if is_below(name, prefix)]
    if not inside and not parameters:
        raise not_there(key, prefix, list(layers))
    for layer in inside:
        _freeze_layer(layer)
    for parameter in parameters:
        _freeze_parameter(parameter)


def _freeze_before(backbone: nn.Layer, wanted: str, key: str) -> None:
    target = wanted.replace("[", ".").replace("]", "")
    layers = dict(backbone.named_sublayers())
    if target not in layers:
        raise not_there(key, wanted, list(layers))
    reached = False
    for name, layer in layers.items():
        inside = is_below(name, target)
        if reached and not inside:
            return
        reached = inside
        if not target.startswith(f"{name}."):  # what holds the target holds later layers, too
            _freeze_layer(layer)


def _freeze_layer(layer: nn.Layer) -> None:
    """This layer without those inside it."""
    if isinstance(layer, NORMS):
        layer.stands_still = True
    for parameter in layer.parameters(include_sublayers=False):
        _freeze_parameter(parameter)


def _freeze_parameter(parameter: paddle.Tensor) -> None:
    parameter.stop_gradient = True
    parameter.frozen_by_config = True


def _refuse_half_norms(network: nn.Layer) -> None:
    """Paddle 3.2 gives a norm's weight no gradient where its bias wants none, and the other way round."""
    for name, layer in network.named_sublayers():
        parameters = layer.parameters(include_sublayers=False) if isinstance(layer, NORMS) else []
        mixed = len({each.stop_gradient for each in parameters}) > 1
        if mixed and any(hasattr(each, "frozen_by_config") for each in parameters):
            raise ConfigError(f"Arch.freeze_layers freezes half of the norm {name}, which Paddle cannot; write {name}")


def is_below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix.rstrip('.')}.")


def not_there(key: str, wanted: str, names: list[str]) -> ConfigError:
    near = get_close_matches(wanted, names, n=1, cutoff=0.5)
    top = ", ".join(name for name in names if "." not in name)
    hint = f"did you mean {near[0]}?" if near else f"the layers begin with {top}"
    return ConfigError(f"{key} names {wanted}, and the network has no such layer; {hint}")


# --- neck and head against what comes before them ----------------------------------------------------------------


def _check_sizes(backbone: nn.Layer, arch: schema.RecModel, key: str, image_shape: Sequence[int]) -> None:
    """Run one image of zeros of `image_shape` (3, h, w) through the backbone. `key` is where `arch` stands.

    Raises ConfigError that names the key, what it is, and what the layer before it gives.
    """
    before, gives = f"the backbone {arch.Backbone.name}", _output_shape(backbone, arch.Backbone.name, key, image_shape)
    after_neck = None
    if isinstance(arch.Neck, schema.BNNeck):
        _check_width(f"{key}.Neck.num_features", arch.Neck.num_features, before, gives, math.prod(gives))
        after_neck = arch.Neck.num_features
    elif isinstance(arch.Neck, schema.FCNeck):
        _check_width(f"{key}.Neck.embedding_size", arch.Neck.embedding_size, before, gives, gives[-1])
        after_neck = arch.Neck.class_num
    elif isinstance(arch.Neck, schema.VehicleNeck):
        _check_width(f"{key}.Neck.in_channels", arch.Neck.in_channels, before, gives, gives[0] if gives[1:] else None)
        after_neck = arch.Neck.out_channels * math.prod(gives[1:])
    if arch.head_feature_from == "neck" and after_neck:
        before, gives = "the neck", (after_neck,)
    if arch.Head:
        wanted = gives[0] if len(gives) == 1 else None
        _check_width(f"{key}.Head.embedding_size", arch.Head.embedding_size, before, gives, wanted)


def _check_width(key: str, value: int, before: str, gives: tuple[int, ...], wanted: int | None) -> None:
    if value != wanted:
        told = f"{gives[0]} values" if len(gives) == 1 else f"a map of {'x'.join(map(str, gives))}"
        raise ConfigError(f"{key} is {value}, but {before} gives {told}; is this configuration for another network?")


def _output_shape(backbone: nn.Layer, name: str, key: str, image_shape: Sequence[int]) -> tuple[int, ...]:
    """What the backbone makes of one image, without the batch."""
    backbone.eval()
    try:
        with paddle.no_grad():
            output = backbone(paddle.zeros([1, *image_shape]))
    except (ValueError, RuntimeError, AssertionError, IndexError) as error:
        size = "x".join(map(str, image_shape[1:]))
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"{key}.Backbone: {name} cannot take images of {size} (Global.image_shape): {reason[:200]}; set another"
        ) from error
    finally:
        backbone.train()
    if not isinstance(output, paddle.Tensor):
        raise ConfigError(
            f"{key}.Backbone: {name} gives a {type(output).__name__}, not one vector per image; name a "
            "BackboneStopLayer or another backbone"
        )
    return tuple(output.shape[1:])
