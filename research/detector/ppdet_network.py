"""The detector as ppdet's network in Paddle, over LCNet x1.0 or EfficientNet-Lite0: what export.py writes."""

from __future__ import annotations

from typing import NamedTuple

import paddle
from paddle import Tensor, nn
from ppdet.modeling.architectures.picodet import PicoDet
from ppdet.modeling.assigners.simota_assigner import SimOTAAssigner
from ppdet.modeling.backbones.lcnet import LCNet
from ppdet.modeling.heads.pico_head import PicoFeat, PicoHead
from ppdet.modeling.losses.gfocal_loss import DistributionFocalLoss
from ppdet.modeling.losses.iou_loss import GIoULoss
from ppdet.modeling.losses.varifocal_loss import VarifocalLoss
from ppdet.modeling.necks.csp_pan import CSPPAN

from research.detector import network as trained
from research.detector.efficientnet_lite import EPSILON, TAPS, EfficientNetLite0
from shitu.training.rec.efficientnet_lite import EfficientNetLite

NMS = {"score_threshold": 0.025, "nms_top_k": 1000, "keep_top_k": 100, "nms_threshold": 0.5}


class Kind(NamedTuple):
    """A bundled detector by its backbone."""

    name: str
    version: int
    architecture: str
    lite: bool


KINDS = {
    "lcnet": Kind("picodet_lcnet_x1_0_mainbody", 4, "PicoDet, LCNet x1.0, 4 levels, one class", False),
    "lite0": Kind("picodet_efficientnet_lite0_mainbody", 1, "PicoDet, EfficientNet-Lite0, 4 levels, one class", True),
}


def kind_of(checkpoint: dict) -> Kind:
    return KINDS["lite0" if trained.is_lite(checkpoint["ema"]) else "lcnet"]


class LiteFeatures(EfficientNetLite):
    """Features of stride 8, 16 and 32 in place of the pooled ones."""

    def __init__(self) -> None:
        super().__init__("lite0")
        del self.head, self.pool

    def forward(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        x, taps = self.stem(inputs["image"]), []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in TAPS:
                taps.append(x)
        return taps


def build_ppdet(size: int, lite: bool) -> PicoDet:
    """ppdet's PicoDet as in its mainbody configuration, but with LCNet x1.0 or EfficientNet-Lite0."""
    feature = PicoFeat(feat_in=128, feat_out=128, num_fpn_stride=4, num_convs=4, share_cls_reg=True)
    head = PicoHead(
        conv_feat=feature,
        num_classes=1,
        fpn_stride=[8, 16, 32, 64],
        reg_max=7,
        feat_in_chan=128,
        loss_class=VarifocalLoss(use_sigmoid=True),
        loss_dfl=DistributionFocalLoss(),
        loss_bbox=GIoULoss(),
        assigner=SimOTAAssigner(num_classes=1),
        cell_offset=0.5,
        eval_size=[size, size],
    )
    neck = CSPPAN(
        in_channels=list(EfficientNetLite0.channels if lite else trained.LCNet.channels),
        out_channels=128,
        kernel_size=5,
        num_features=4,
        num_csp_blocks=1,
        use_depthwise=True,
        act="hard_swish",
        spatial_scales=[0.125, 0.0625, 0.03125],
    )
    return PicoDet(LiteFeatures() if lite else LCNet(scale=1.0, feature_maps=[3, 4, 5]), neck, head)


class Mainbody(nn.Layer):
    """From image and scale factor (y, x) to boxes in the photo's pixels, with or without the NMS."""

    def __init__(self, network: PicoDet, with_nms: bool):
        super().__init__()
        self.network, self.with_nms = network, with_nms

    def forward(self, image: Tensor, scale_factor: Tensor) -> tuple[Tensor, Tensor]:
        network = self.network
        scores, boxes = network.head(network.neck(network.backbone({"image": image})))
        y, x = paddle.split(scale_factor, 2, axis=-1)
        boxes = boxes / paddle.concat([x, y, x, y], axis=-1).reshape([-1, 1, 4])
        if not self.with_nms:
            return boxes, scores
        rows, _, counts = paddle._C_ops.multiclass_nms3(
            boxes,
            scores,
            None,
            NMS["score_threshold"],
            NMS["nms_top_k"],
            NMS["keep_top_k"],
            NMS["nms_threshold"],
            True,
            1.0,
            -1,
        )
        return rows, counts


def load_weights(network: PicoDet, checkpoint: dict) -> None:
    lite = kind_of(checkpoint).lite
    if lite:
        keep_folded(network.backbone)
    state = network.state_dict()
    for name, value in checkpoint["ema"].items():
        if name.endswith("num_batches_tracked"):
            continue
        if lite and name.startswith("backbone."):
            layer, what = name.rsplit(".", 1)
            state[f"{layer}.conv.weight" if what == "weight" else f"{layer}.bn.bias"].set_value(value.numpy())
        else:
            state[trained.to_ppdet_name(name)].set_value(value.numpy())


def keep_folded(backbone: nn.Layer) -> None:
    """Batch norms that only add their bias: training has folded the rest into the kernels."""
    for layer in backbone.sublayers():
        if isinstance(layer, nn.BatchNorm2D):
            layer.weight.set_value(paddle.ones_like(layer.weight))
            layer._mean.set_value(paddle.zeros_like(layer._mean))
            layer._variance.set_value(paddle.full_like(layer._variance, 1 - EPSILON))
