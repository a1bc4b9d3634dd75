"""Backbones by the names that PaddleClas's configurations use: Arch.Backbone -> a network, cut after its stop layer."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from difflib import get_close_matches
from functools import cache
from types import ModuleType
from typing import Any

from paddle import nn
from paddle.base import unique_name

from shitu.errors import ConfigError
from shitu.training.base.toolkits import paddleclas
from shitu.training.rec.efficientnet_lite import VARIANTS, EfficientNetLite
from shitu.training.rec.schema_arch import Backbone

OURS = {f"EfficientNet{variant.capitalize()}": variant for variant in VARIANTS}
# option -> what leaves it to the network
_OPTIONS: dict[str, Any] = {
    **{"class_expand": None, "class_num": None, "dropout_prob": None, "lr_mult_list": None},
    **{"stem_act": "relu", "return_embed": False, "return_mean_embed": False},
}
# PaddleClas once counted layers where it now has names; its files still say so
_STOP_LAYERS = {"flatten_0": "flatten", "adaptive_avg_pool2d_0": "avg_pool"}


def build_backbone(section: Backbone, stop_after: str | None = None) -> nn.Layer:
    """The network that `section` names, with fresh weights: `pretrained` is for pretrained.py.

    Raises ConfigError on a name, option or stop layer that there is not.
    """
    options = {key: getattr(section, key) for key, usual in _OPTIONS.items() if getattr(section, key) != usual}
    if section.name in OURS:
        if options:
            raise ConfigError(f"Arch.Backbone.{next(iter(options))}: {section.name} has no such option; leave it out")
        if stop_after not in (None, "flatten"):
            raise ConfigError(
                f"Arch.BackboneStopLayer.name is {stop_after}; {section.name} ends at flatten: write that"
            )
        return EfficientNetLite(OURS[section.name])
    network = _built(_function(section.name), section.name, options)
    if stop_after is not None:
        _cut(network, section.name, stop_after)
    return network


def model_url(section: Backbone) -> str | None:
    """Where PaddleClas keeps its ImageNet weights of this backbone; None where no address is known."""
    if section.name in OURS:
        return None
    _function(section.name)
    urls: dict[str, str] = {}
    for function in _networks().values():
        urls |= getattr(inspect.getmodule(function), "MODEL_URLS", {})
    # a variant such as PPLCNetV2_base_ShiTu begins with the weights of the network that it varies
    base = max((name for name in urls if section.name.startswith(name)), key=len, default=None)
    if base is None:
        return None
    return urls[base].replace("_pretrained", "_ssld_pretrained") if section.use_ssld else urls[base]


def known_names() -> list[str]:
    """All names that Arch.Backbone.name can have."""
    return [*_networks(), *OURS]


@cache
def _networks() -> dict[str, Callable[..., nn.Layer]]:
    module: ModuleType = paddleclas("ppcls.arch.backbone")
    # It writes to stdout, where results go, that an option is old or a layer unknown; the errors here say the latter.
    logging.getLogger("ppcls").addFilter(lambda record: False)
    functions = {name: getattr(module, name, None) for name in module.__all__}
    functions["ResNet50_adaptive_max_pool2d"] = paddleclas(
        "ppcls.arch.backbone.variant_models.resnet_variant"
    ).ResNet50_adaptive_max_pool2d  # which PaddleClas forgets to name
    # what builds a network takes `pretrained`; get_apis and its like do not
    return {
        name: function
        for name, function in functions.items()
        if inspect.isfunction(function) and "pretrained" in inspect.signature(function).parameters
    }


def _function(name: str) -> Callable[..., nn.Layer]:
    known = _networks()
    if name not in known:
        by_folded = {each.casefold(): each for each in (*known, *OURS)}
        near = get_close_matches(name.casefold(), by_folded, n=1)
        names = f"{len(known)} networks of PaddleClas and {', '.join(OURS)} are known"
        hint = f"did you mean {by_folded[near[0]]}?" if near else names
        raise ConfigError(f"Arch.Backbone.name is {name}; {hint}")
    return known[name]


def _built(function: Callable[..., nn.Layer], name: str, options: dict[str, Any]) -> nn.Layer:
    try:
        # AlexNet's parameters have names of their own, which Paddle takes once in a process, unless told to forget them
        with unique_name.guard(unique_name.generator):
            network = function(pretrained=False, **options)
    except (TypeError, ValueError, AttributeError, AssertionError) as error:
        for option in options:  # the network has no such option, or sets it itself
            if option in str(error):
                raise ConfigError(f"Arch.Backbone.{option}: {name} does not take it ({error}); leave it out") from error
        raise ConfigError(
            f"Arch.Backbone: PaddleClas cannot build {name} here: {str(error)[:200]}; name another"
        ) from error
    # PaddleClas's base class swallows what nobody takes: class_expand of a ResNet50 would be dropped in silence
    taken = inspect.signature(type(network).__init__).parameters
    for option, value in options.items():
        if option not in taken and getattr(network, option, None) != value:
            raise ConfigError(f"Arch.Backbone.{option}: {name} has no such option; leave it out")
    return network


def _cut(network: nn.Layer, name: str, stop_after: str) -> None:
    """Make every layer after `stop_after` the identity; a network that returns an embedding ends with that."""
    if getattr(network, "return_embed", False):
        return
    children = [child for child, _ in network.named_children()]
    stop_after = stop_after if stop_after in children else _STOP_LAYERS.get(stop_after, stop_after)
    first = stop_after.replace("[", ".").split(".")[0]
    known = first in children and hasattr(network, "stop_after")
    try:
        done = known and network.stop_after(stop_after)
    except (ValueError, TypeError, LookupError, AttributeError):  # such as blocks[x]
        done = False
    if not done:
        near = get_close_matches(first, children, n=1)
        hint = f"did you mean {near[0]}?" if near and near[0] != stop_after else f"its layers are {', '.join(children)}"
        raise ConfigError(
            f"Arch.BackboneStopLayer.name is {stop_after}; {name} has no such layer to stop after: {hint}"
        )
