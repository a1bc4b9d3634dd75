"""What a network goes through before its export, and what its folder gets for other engines."""

from __future__ import annotations

import logging
from pathlib import Path

import paddle
from paddle import nn

from shitu.errors import EngineError

log = logging.getLogger("shitu")


def fuse_batch_norms(network: nn.Layer) -> int:
    """Fold every batch norm that follows a convolution in its layer, in place; for inference only. Returns how many.

    Paddle would do the same at every loading of the program, operator by operator.
    """
    count = 0
    for layer in network.sublayers(include_self=True):
        conv = None
        for name, child in list(layer.named_children()):
            if isinstance(child, nn.Conv2D):
                conv = child
            elif conv is not None and isinstance(child, nn.BatchNorm | nn.BatchNorm2D):
                _fold(conv, child)
                layer._sub_layers[name] = nn.Identity()
                conv, count = None, count + 1
    return count


def _fold(conv: nn.Conv2D, norm: nn.BatchNorm | nn.BatchNorm2D) -> None:
    assert norm.weight is not None
    assert norm.bias is not None
    factor = norm.weight / paddle.sqrt(norm._variance + norm._epsilon)
    shift = norm.bias - norm._mean * factor
    if conv.bias is None:
        conv.bias = conv.create_parameter([len(factor)], is_bias=True)
    else:
        shift = shift + conv.bias * factor
    conv.weight.set_value(conv.weight * factor.reshape([-1, 1, 1, 1]))
    conv.bias.set_value(shift)


def re_parameterise(network: nn.Layer) -> int:
    """Make one convolution of each set of parallel branches (PaddleClas's), in place, for inference only.

    Returns how many sets there were.
    """
    count = 0
    for layer in network.sublayers():
        if hasattr(layer, "re_parameterize") and getattr(layer, "use_rep", True) and not layer.is_repped:
            layer.re_parameterize()
            for branches in ("dw_conv_list", "rbr_dense", "rbr_1x1", "rbr_identity"):
                layer._sub_layers.pop(branches, None)  # else they would be exported, too
            count += 1
    return count


def add_onnx(folder: Path, wanted: bool | None) -> bool:
    """Give a model folder an ONNX program, checked against Paddle's, as `shitu models convert` does; say whether.

    Where that cannot be: None: said in a line, and the folder stays as it was; True: raises EngineError.
    """
    if wanted is False:
        return False
    from shitu.convert.folder import convert_model

    try:
        convert_model(str(folder), tell=log.debug)
    except EngineError as error:
        if wanted:
            raise
        log.warning("%s. The model runs on Paddle alone; `shitu models convert` adds what the other engines run", error)
        return False
    return True
