"""Configuration -> PicoDet of ppdet's parts, under the names that official weights use; and weights into it."""

from __future__ import annotations

import dataclasses
import logging
import math
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import paddle
from paddle import Tensor, nn

from shitu.config.values import Section
from shitu.errors import ConfigError, ModelError, UsageError
from shitu.training.base.read_weights import SUFFIX, LoadReport, fetched, load_fitting, read_arrays, some
from shitu.training.base.toolkits import ppdet
from shitu.training.det.schema import DetConfig
from shitu.training.det.schema_net import MultiClassNMS

_log = logging.getLogger("shitu")


class PicoDet(nn.Layer):
    """ppdet's three parts; in evaluation mode scores (n, c, a) and boxes (n, a, 4), xyxy in the network's pixels."""

    def __init__(self, backbone: nn.Layer, neck: nn.Layer, head: nn.Layer, nms: MultiClassNMS) -> None:
        super().__init__()
        self.backbone, self.neck, self.head, self.nms = backbone, neck, head, nms

    def forward(self, images: Tensor) -> tuple[Any, Any]:
        outputs: tuple[Any, Any] = self.head(self.neck(self.backbone({"image": images})))
        return outputs

    def losses(
        self, images: Tensor, boxes: list[Tensor], classes: list[Tensor], cast: AbstractContextManager[Any]
    ) -> dict[str, Tensor]:
        """`loss`, the sum, and its parts loss_vfl, loss_bbox, loss_dfl; in training mode.

        `images` (n, 3, h, w); of each, `boxes` (k, 4) xyxy in its pixels and `classes` (k, 1). `cast` is for the
        forward pass; the losses remain in float32, since ppdet's assigner works with numpy. `loss` alone, not a
        number, where outputs are none.
        """
        with cast:
            scores, sides = self(images)
        levels = [each.astype("float32") for each in scores], [each.astype("float32") for each in sides]
        if not all(bool(paddle.isfinite(each).all()) for each in (*levels[0], *levels[1])):
            return {"loss": paddle.to_tensor(math.nan)}  # ppdet's assigner fails on such numbers
        truth = {"im_id": paddle.arange(len(boxes)), "gt_bbox": boxes, "gt_class": classes}
        parts = self.head.get_loss(levels, truth)
        return {"loss": sum(parts.values()), **parts}

    def suppressed(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (k, 6) of class, score, xyxy of all images, best first, and how many of them each image has."""
        nms = self.nms
        limits = (nms.score_threshold, nms.nms_top_k, nms.keep_top_k, nms.nms_threshold)
        # ppdet's own helper fails in Paddle 3's new IR
        operator: Any = paddle._C_ops.multiclass_nms3
        rows, _, counts = operator(boxes, scores, None, *limits, True, 1.0, -1)
        return rows, counts


def build_detector(config: DetConfig) -> PicoDet:
    """The network with its initial weights. Raises ConfigError where the parts do not fit together."""
    backbone = ppdet("modeling.backbones.lcnet").LCNet(**_options(config.LCNet))
    levels = backbone.out_shape
    if len(levels) != 3:
        raise ConfigError(f"LCNet.feature_maps is {list(config.LCNet.feature_maps)}; three levels are wanted")
    neck = ppdet("modeling.necks.csp_pan").CSPPAN(
        in_channels=[level.channels for level in levels],
        spatial_scales=[0.5**stage for stage in config.LCNet.feature_maps],
        **_options(config.CSPPAN),
    )
    return PicoDet(backbone, neck, _head(config), config.PicoHead.nms)


def _head(config: DetConfig) -> nn.Layer:
    section = config.PicoHead
    _check(config)
    heads, losses = ppdet("modeling.heads.pico_head"), "modeling.losses"
    assigner = ppdet("modeling.assigners.simota_assigner").SimOTAAssigner
    head: nn.Layer = heads.PicoHead(
        conv_feat=heads.PicoFeat(**_options(section.conv_feat)),
        num_classes=config.num_classes,
        fpn_stride=list(section.fpn_stride),
        prior_prob=section.prior_prob,
        reg_max=section.reg_max,
        feat_in_chan=section.feat_in_chan,
        cell_offset=section.cell_offset,
        loss_class=ppdet(f"{losses}.varifocal_loss").VarifocalLoss(**_options(section.loss_class)),
        loss_dfl=ppdet(f"{losses}.gfocal_loss").DistributionFocalLoss(**_options(section.loss_dfl)),
        loss_bbox=ppdet(f"{losses}.iou_loss").GIoULoss(**_options(section.loss_bbox)),
        assigner=assigner(num_classes=config.num_classes, **_options(section.assigner)),
    )
    return head


def _check(config: DetConfig) -> None:
    """Numbers that stand in two places and must agree."""
    head, features, levels = config.PicoHead, config.PicoHead.conv_feat, config.CSPPAN.num_features
    pairs = (
        ("PicoHead.feat_in_chan", head.feat_in_chan, "PicoHead.conv_feat.feat_out", features.feat_out),
        ("PicoHead.conv_feat.feat_in", features.feat_in, "CSPPAN.out_channels", config.CSPPAN.out_channels),
        ("the number of PicoHead.fpn_stride", len(head.fpn_stride), "CSPPAN.num_features", levels),
        ("PicoHead.conv_feat.num_fpn_stride", features.num_fpn_stride, "CSPPAN.num_features", levels),
    )
    for first, value, second, other in pairs:
        if value != other:
            raise ConfigError(f"{first} is {value} and {second} is {other} in {config.source}; they must be equal")
    if features.feat_in != features.feat_out:
        raise ConfigError(f"PicoHead.conv_feat in {config.source}: feat_in and feat_out must be equal")


def _options(section: Section) -> dict[str, Any]:
    """A section as keyword arguments of the class that it is named after."""
    values = {each.name: getattr(section, each.name) for each in dataclasses.fields(section)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


# --- weights -------------------------------------------------------------------------------------------------------


def load_pretrained(network: nn.Layer, source: str) -> LoadReport:
    """What fits of a start: a whole detector's weights, or a backbone's such as LCNet's from ImageNet.

    Its outputs may be of another number of classes: they then keep their initial values. `source` is a path, or an
    address, which is downloaded once. Raises ModelError where anything else is of another shape.
    """
    path = fetched(source) if "://" in source else _found(source, "pretrain_weights")
    state = _arrays(path)
    if not any(name.startswith("backbone.") for name in state):
        state = {f"backbone.{name}": value for name, value in state.items()}

    def check(report: LoadReport) -> None:
        _refuse(report, tuple(each for each in report.other_shape if not each.startswith("head.head_cls")))
        if not report.loaded:
            raise ModelError(f"{path}: nothing in it fits this detector, name another; it has {some(tuple(state))}")

    report = load_fitting(network, path, state, check)
    _log.info("%s", report)
    return report


def load_trained(network: nn.Layer, source: str | None) -> Path:
    """All weights of a detector of this configuration. Raises ModelError where one is missing or of another shape."""
    if source is None:
        raise UsageError("no weights are named; give those to use: -o weights=output/NAME/best_model.pdparams")
    path = _found(source, "weights")

    def check(report: LoadReport) -> None:
        if missing := report.missing:
            raise ModelError(
                f"{path} lacks {len(missing)} tensors of this detector, such as {some(missing)}; "
                "was it trained with this config?"
            )
        _refuse(report, report.other_shape)

    load_fitting(network, path, _arrays(path), check)
    return path


def _refuse(report: LoadReport, wrong: tuple[str, ...]) -> None:
    if wrong:
        advice = "Use the config it was trained with (LCNet.scale, num_classes)"
        raise ModelError(f"{report.source} is of another network: {some(wrong)}. {advice}")


def _found(source: str, key: str) -> Path:
    path = Path(source).expanduser()
    if not path.is_file():
        path = path.with_name(path.name + SUFFIX)
    if not path.is_file():
        raise ConfigError(
            f"no file {source} (nor with {SUFFIX}), which {key} names. Nothing is downloaded: check the path"
        )
    return path


def _arrays(path: Path) -> dict[str, Any]:
    state = read_arrays(path)
    if not state:
        raise ModelError(f"{path} holds no weights; a .pdparams is wanted, not a .pdopt")
    return state
