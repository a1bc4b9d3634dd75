"""The sections of a detector's network, PaddleDetection's keys: typed, closed, and passed on to ppdet's classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from shitu.config.keys import Choice, Flag, Number, Several, Whole
from shitu.config.values import Section, within
from shitu.config.variants import ByName


@dataclass(frozen=True)
class PicoDet(Section):
    backbone: Choice[Literal["LCNet"]] = "LCNet"
    neck: Choice[Literal["CSPPAN"]] = "CSPPAN"
    head: Choice[Literal["PicoHead"]] = "PicoHead"


@dataclass(frozen=True)
class LCNet(Section):
    scale: Number = within(1.0, 0.25)
    feature_maps: Several[Whole] = within((3, 4, 5), 2, 5)
    act: Choice[Literal["hard_swish", "relu6"]] = "hard_swish"


@dataclass(frozen=True)
class CSPPAN(Section):
    out_channels: Whole = within(128, 8)
    kernel_size: Whole = within(5, 1)
    num_features: Whole = within(4, 3, 4)
    num_csp_blocks: Whole = within(1, 1)
    use_depthwise: Flag = True
    act: Choice[Literal["hard_swish", "leaky_relu"]] = "hard_swish"


@dataclass(frozen=True)
class PicoFeat(ByName):
    feat_in: Whole = within(128, 1)
    feat_out: Whole = within(128, 1)
    num_fpn_stride: Whole = within(4, 1)
    num_convs: Whole = within(4, 1)
    norm_type: Choice[Literal["bn", "sync_bn", "gn"]] = "bn"
    share_cls_reg: Flag = True
    act: Choice[Literal["hard_swish", "leaky_relu", "relu6"]] = "hard_swish"
    use_se: Flag = False


@dataclass(frozen=True)
class VarifocalLoss(ByName):
    use_sigmoid: Flag = True
    alpha: Number = within(0.75, 0)
    gamma: Number = within(2.0, 0)
    iou_weighted: Flag = True
    loss_weight: Number = within(1.0, 0)


@dataclass(frozen=True)
class DistributionFocalLoss(ByName):
    loss_weight: Number = within(0.25, 0)


@dataclass(frozen=True)
class GIoULoss(ByName):
    loss_weight: Number = within(2.0, 0)


@dataclass(frozen=True)
class SimOTAAssigner(ByName):
    candidate_topk: Whole = within(10, 1)
    iou_weight: Number = within(6.0, 0)
    center_radius: Number = within(2.5, 0)
    cls_weight: Number = within(1.0, 0)
    use_vfl: Flag = True


@dataclass(frozen=True)
class MultiClassNMS(ByName):
    nms_top_k: Whole = within(1000, -1)
    keep_top_k: Whole = within(100, -1)
    score_threshold: Number = within(0.025, 0, 1)
    nms_threshold: Number = within(0.6, 0, 1)


@dataclass(frozen=True)
class PicoHead(Section):
    """Defaults are those of PaddleDetection's configs/picodet for LCNet, not of the class."""

    conv_feat: PicoFeat = field(default_factory=PicoFeat)
    fpn_stride: Several[Whole] = within((8, 16, 32, 64), 1)
    feat_in_chan: Whole = within(128, 1)
    prior_prob: Number = within(0.01, 0, 1)
    reg_max: Whole = within(7, 1)
    cell_offset: Number = within(0.5, 0, 1)
    loss_class: VarifocalLoss = field(default_factory=VarifocalLoss)
    loss_dfl: DistributionFocalLoss = field(default_factory=DistributionFocalLoss)
    loss_bbox: GIoULoss = field(default_factory=GIoULoss)
    assigner: SimOTAAssigner = field(default_factory=SimOTAAssigner)
    nms: MultiClassNMS = field(default_factory=MultiClassNMS)
