"""What PaddleClas's recognition configs say, file by file (ppcls/configs of its develop branch), for the tests.

Facts alone: keys and values as they stand there, put together from parts since the files repeat each other.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

Keys = dict[str, Any]

ADDRESS = "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/"
TORCH = f"{ADDRESS}others/resnet50-19c8e357_torch2paddle.pdparams"
MEAN_STD: Keys = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
CIFAR_MEAN_STD: Keys = {"mean": [0.4914, 0.4822, 0.4465], "std": [0.2023, 0.1994, 0.2010]}
DECODE: Keys = {"DecodeImage": {"to_rgb": True, "channel_first": False}}
FLIP: Keys = {"RandFlipImage": {"flip_code": 1}}
ERASE: Keys = {"RandomErasing": {"EPSILON": 0.5, "sl": 0.02, "sh": 0.4, "r1": 0.3, "mean": [0.0, 0.0, 0.0]}}
MIX: Keys = {"AugMix": {"prob": 0.5}}
LOADER: Keys = {"num_workers": 4, "use_shared_memory": True}
RECALL: list[Any] = [{"Recallk": {"topk": [1, 5]}}]
RECALL_AND_MAP: list[Any] = [*RECALL, {"mAP": {}}]
TOP: list[Any] = [{"TopkAcc": {"topk": [1, 5]}}]


def normalise(scale: Any = 0.00392157, **values: Any) -> Keys:
    return {"NormalizeImage": {"scale": scale, **(values or MEAN_STD), "order": ""}}


def settings(epochs: int, **more: Any) -> Keys:
    usual: Keys = {
        **{"checkpoints": None, "pretrained_model": None, "output_dir": "./output/", "device": "gpu"},
        **{"save_interval": 1, "eval_during_train": True, "eval_interval": 1, "epochs": epochs, "print_batch_step": 10},
        **{"use_visualdl": False, "image_shape": [3, 224, 224], "save_inference_dir": "./inference"},
        **{"eval_mode": "retrieval"},
    }
    return {key: value for key, value in {**usual, **more}.items() if value != "absent"}


def model(backbone: Keys, stop: str | None = None, neck: Keys | None = None, head: Keys | None = None) -> Keys:
    arch: Keys = {"name": "RecModel", "infer_output_key": "features", "infer_add_softmax": False}
    arch["Backbone"] = backbone
    arch |= {"BackboneStopLayer": {"name": stop}} if stop else {}
    return arch | ({"Neck": neck} if neck else {}) | ({"Head": head} if head else {})


def fc_neck(width: int, out: int = 512, **more: Any) -> Keys:
    return {"name": "FC", "embedding_size": width, "class_num": out, **more}


def arc(classes: int, margin: float = 0.15, scale: float = 30) -> Keys:
    return {"name": "ArcMargin", "embedding_size": 512, "class_num": classes, "margin": margin, "scale": scale}


def losses(*more: Keys, epsilon: float | None = None) -> Keys:
    ce: Keys = {"CELoss": {"weight": 1.0, **({"epsilon": epsilon} if epsilon else {})}}
    return {"Train": [ce, *more], "Eval": [{"CELoss": {"weight": 1.0}}]}


def momentum(lr: Keys, coeff: float | None = None) -> Keys:
    decay = {"regularizer": {"name": "L2", "coeff": coeff}} if coeff else {}
    return {"name": "Momentum", "momentum": 0.9, "lr": lr, **decay}


def multi_step(rate: float, *milestones: int) -> Keys:
    extras: Keys = {"verbose": False, "last_epoch": -1}
    return {"name": "MultiStepDecay", "learning_rate": rate, "milestones": [*milestones], "gamma": 0.5, **extras}


def cosine(rate: float, **more: Any) -> Keys:
    return {"name": "Cosine", "learning_rate": rate, **more}


def data(name: str, root: str, path: str, ops: list[Keys], sampler: Keys, **more: Any) -> Keys:
    dataset: Keys = {"name": name, "image_root": root, "cls_label_path": path, **more, "transform_ops": ops}
    return {"dataset": dataset, "sampler": sampler, "loader": LOADER}


def whole(batch: int, *, shuffle: bool = False) -> Keys:
    return {"name": "DistributedBatchSampler", "batch_size": batch, "drop_last": False, "shuffle": shuffle}


def pk(batch: int, k: int = 2, *, drop_last: bool = True) -> Keys:
    return {"name": "PKSampler", "batch_size": batch, "sample_per_id": k, "drop_last": drop_last, "shuffle": True}


def identities(batch: int, k: int, **more: Any) -> Keys:
    sampler: Keys = {"name": "DistributedRandomIdentitySampler", "batch_size": batch, "num_instances": k}
    return {**sampler, "drop_last": False, "shuffle": True, **more}


def config(  # noqa: PLR0917 - in the order of the files
    arch: Keys, loss: Keys, optimizer: Any, train: Keys, evaluation: Keys, metrics: list[Any], **more: Any
) -> Keys:
    parts: Keys = {"Global": more.pop("Global"), "Arch": arch, "Loss": loss, "Optimizer": optimizer}
    return {**parts, "DataLoader": {"Train": train, "Eval": evaluation}, "Metric": {"Eval": metrics}, **more}


def both(query: Keys, gallery: Keys | None = None) -> Keys:
    return {"Query": query, "Gallery": gallery or query}


def resized(batch: int = 64, scale: Any = 0.00392157, *, decode: bool = True, **resize: Any) -> tuple[list[Keys], Keys]:
    ops = [*[DECODE] * decode, {"ResizeImage": {"size": 224, **resize}}, normalise(scale)]
    return ops, whole(batch)


# --- products, cartoon faces, the quick start ----------------------------------------------------------------------

TRIPLET: Keys = {"TripletLossV2": {"weight": 1.0, "margin": 0.5}}
STILL_ERASED = [DECODE, {"ResizeImage": {"size": 224}}, FLIP, normalise(), ERASE]
ALIPRODUCT = f"{ADDRESS}rec/models/pretrain/product_ResNet50_vd_Aliproduct_v1.0_pretrained.pdparams"


def _products(  # noqa: PLR0917
    name: str, folder: str, classes: int, rate: float, train: Keys, lists: tuple[str, str], metrics: Any
) -> Keys:
    root = f"./dataset/{folder}/"
    eval_data = [data(name, root, f"{root}{each}.txt", *resized(32)) for each in lists]
    return config(
        model({"name": "ResNet50_vd", "pretrained": False}, "flatten", fc_neck(2048), arc(classes)),
        losses(TRIPLET),
        momentum(multi_step(rate, 30, 60, 70, 80, 90, 100), 0.0005),
        data(name, root, f"{root}train_list.txt", STILL_ERASED, train),
        both(*eval_data),
        metrics,
        Global=settings(120, pretrained_model=ALIPRODUCT, save_interval=10, eval_interval=10),
    )


def _products_of_classes() -> dict[str, Keys]:
    root = "./dataset/Aliproduct/"
    lists = [f"{root}{each}_list.txt" for each in ("train", "val")]
    train = [DECODE, {"RandCropImage": {"size": 224}}, FLIP, normalise()]
    val = [DECODE, {"ResizeImage": {"resize_short": 256}}, {"CropImage": {"size": 224}}, normalise()]
    resnet = config(
        model({"name": "ResNet50_vd", "pretrained": True}, "flatten", fc_neck(2048),
              {"name": "FC", "embedding_size": 512, "class_num": 50030}),
        losses(), momentum(cosine(0.05), 0.00007),
        data("ImageNetDataset", root, lists[0], train, whole(64, shuffle=True)),
        data("ImageNetDataset", root, lists[1], val, whole(64)),
        TOP, Global=settings(120, eval_mode="classification", eval_interval=10),
    )  # fmt: skip
    resnet["Metric"]["Train"] = TOP
    cifar = normalise("1.0/255.0", **CIFAR_MEAN_STD)
    binary = config(
        model({"name": "MobileNetV3_large_x1_0", "pretrained": True, "class_num": 512},
              head={"name": "FC", "class_num": 50030, "embedding_size": 512}) | {"infer_add_softmax": "false"},
        losses(epsilon=0.1),
        momentum({"name": "Piecewise", "learning_rate": 0.1, "decay_epochs": [50, 150], "values": [0.1, 0.01, 0.001]}),
        data("ImageNetDataset", root, lists[0],
             [DECODE, {"ResizeImage": {"size": 256}}, {"RandCropImage": {"size": 227}}, FLIP, cifar],
             whole(128, shuffle=True)),
        data("ImageNetDataset", root, lists[1], [DECODE, {"ResizeImage": {"size": 227}}, cifar], whole(256)),
        TOP, Global=settings(100, eval_mode="absent", feature_normalize=False, feature_binarize="round"),
        Infer={"infer_imgs": "docs/images/inference_deployment/whl_demo.jpg"},
    )  # fmt: skip
    return {
        "Products/ResNet50_vd_Aliproduct.yaml": resnet,
        "Products/MV3_Large_1x_Aliproduct_DLBHC.yaml": binary,
    }


def _cartoon() -> Keys:
    root = "./dataset/iCartoonFace"
    ops = [DECODE, {"ResizeImage": {"resize_short": 256}}, {"CropImage": {"size": 224}}, normalise()]
    arch = model({"name": "ResNet50", "pretrained": True}, "flatten", None,
                 {"name": "FC", "class_num": 5013, "embedding_size": 2048})  # fmt: skip
    arch["BackboneStopLayer"]["output_dim"] = 2048
    rates: Keys = {"learning_rate": 0.1, "decay_epochs": [30, 60, 90], "values": [0.1, 0.01, 0.001, 0.0001]}
    return config(
        arch | {"infer_add_softmax": "false"}, losses(), momentum({"name": "Piecewise", **rates}, 0.0001),
        data("ICartoonDataset", root, f"{root}/train_list.txt",
             [DECODE, {"RandCropImage": {"size": 224}}, FLIP, normalise()], whole(256, shuffle=True)),
        both(*(data("ICartoonDataset", root, f"{root}/{each}.txt", ops, whole(64)) for each in ("query", "gallery"))),
        [{"Recallk": {"topk": [1]}}], Global=settings(120, infer_imgs=None, feature_normalize=True),
    )  # fmt: skip


def _birds() -> Keys:
    root = "./dataset/CUB_200_2011/"
    test = [data("VeriWild", root, f"{root}test_list.txt", *resized(64, scale)) for scale in (0.00392157, "1.0/255.0")]
    return config(
        model({"name": "MobileNetV1", "pretrained": False}, "flatten_0", fc_neck(1024), arc(101)),
        losses(TRIPLET), momentum(multi_step(0.01, 20, 30, 40), 0.0005),
        data("VeriWild", root, f"{root}train_list.txt", STILL_ERASED, identities(64, 2)),
        both(*test), RECALL_AND_MAP, Global=settings(50, save_interval=5),
    )  # fmt: skip


def _products_and_more() -> dict[str, Keys]:
    sop, inshop = ("test_list", "test_list"), ("query_list", "gallery_list")
    return {
        "Products/ResNet50_vd_SOP.yaml": _products(
            "VeriWild", "SOP", 11319, 0.01, pk(64, drop_last=False), sop, RECALL_AND_MAP
        ),
        "Products/ResNet50_vd_Inshop.yaml": _products("ImageNetDataset", "Inshop", 3997, 0.04, pk(64), inshop, RECALL),
        **_products_of_classes(),
        "Cartoonface/ResNet50_icartoon.yaml": _cartoon(),
        "quick_start/MobileNetV1_retrieval.yaml": _birds(),
    }


# --- vehicles and logos --------------------------------------------------------------------------------------------

SUPCON: Keys = {"SupConLoss": {"weight": 1.0, "views": 2}}
MIXED_ERASED = [DECODE, {"ResizeImage": {"size": 224}}, FLIP, MIX, normalise(), ERASE]
STRIDE_1: Keys = {"name": "ResNet50_last_stage_stride1", "pretrained": True}
VEHICLE_NECK: Keys = {"name": "VehicleNeck", "in_channels": 2048, "out_channels": 512}
WILD = "./dataset/VeRI-Wild/"


def _vehicles(arch: Keys, rate: float, sampler: Keys, epochs: int = 160, **more: Any) -> Keys:
    split = f"{WILD}train_test_split/"
    eval_data = [
        data("VeriWild", f"{WILD}images", f"{split}test_3000_id{each}.txt", *resized(64)) for each in ("_query", "")
    ]
    return config(
        arch, losses(SUPCON), momentum(cosine(rate), 0.0005),
        data("VeriWild", f"{WILD}images/", f"{split}train_list_start0.txt", MIXED_ERASED, sampler),
        both(*eval_data), RECALL_AND_MAP, Global=settings(epochs, **more.pop("Global", {})), **more,
    )  # fmt: skip


def _compcars(stop: str, lr: Keys, sampler: Keys, epochs: int = 160, **more: Any) -> Keys:
    home = "./dataset/CompCars/"
    boxes: Keys = {"label_root": f"{home}label/", "bbox_crop": True}
    lists = [f"{home}train_test_split/classification/{each}_label.txt" for each in ("train", "test")]
    made = config(
        model(STRIDE_1, stop, VEHICLE_NECK, arc(431, scale=32)), losses(SUPCON), momentum(lr, 0.0005),
        data("CompCars", f"{home}image/", lists[0], MIXED_ERASED[1:], sampler, **boxes),
        data("CompCars", f"{home}image/", lists[1], [{"ResizeImage": {"size": 224}}, normalise()], whole(128), **boxes),
        TOP, Global=settings(epochs, eval_mode="absent", **more.pop("Global", {})), **more,
    )  # fmt: skip
    made["Metric"]["Train"] = TOP
    return made


def _logos() -> Keys:
    root = "dataset/LogoDet-3K-crop/"
    parts = (("val/", "query"), ("train/", "train"))
    sampler = {key: value for key, value in pk(128).items() if key != "shuffle"}
    head: Keys = {"name": "CircleMargin", "margin": 0.35, "scale": 64, "embedding_size": 512, "class_num": 3000}
    return config(
        model(STRIDE_1, "avg_pool", VEHICLE_NECK, head),
        losses({"PairwiseCosface": {"margin": 0.35, "gamma": 64, "weight": 1.0}}), momentum(cosine(0.04), 0.0001),
        data("ImageNetDataset", f"{root}train/", f"{root}train_list.txt",
             [*MIXED_ERASED[:-1], {"RandomErasing": {"EPSILON": 0.5}}], sampler),
        both(*(data("ImageNetDataset", root + part, f"{root}{each}_list.txt", *resized(128)) for part, each in parts)),
        RECALL_AND_MAP, Global=settings(120),
    )  # fmt: skip


def _vehicles_and_logos() -> dict[str, Keys]:
    arch = model(STRIDE_1, "avg_pool", VEHICLE_NECK, arc(30671, scale=32))
    small = model({"name": "PPLCNet_x2_5", "pretrained": True, "use_ssld": True}, "flatten", fc_neck(1280),
                  arc(30671, scale=32))  # fmt: skip
    prune, quant = ({"prune": {"name": "fpgm", "pruned_ratio": 0.3}}, {"quant": {"name": "pact"}})
    wild, cars = ({"pretrained_model": f"{ADDRESS}rec/models/pretrain/vehicle_{each}_pretrained.pdparams"}
                  for each in ("reid_ResNet50_VERIWild_v1.1", "cls_ResNet50_CompCars_v1.2"))  # fmt: skip
    pairs = pk(64, drop_last=False)
    many = {**pairs, "batch_size": 128}
    milestones = multi_step(0.01, 30, 60, 70, 80, 90, 100, 120, 140)
    return {
        "Vehicle/ResNet50_ReID.yaml": _vehicles(arch, 0.04, pk(128)),
        "Vehicle/PPLCNet_2.5x_ReID.yaml": _vehicles(small, 0.04, pk(128)),
        "Vehicle/ResNet50.yaml": _compcars("adaptive_avg_pool2d_0", milestones, identities(128, 2)),
        "Logo/ResNet50_ReID.yaml": _logos(),
        "slim/ResNet50_vehicle_reid_prune.yaml": _vehicles(arch, 0.01, many, Slim=prune, Global=wild),
        "slim/ResNet50_vehicle_reid_quantization.yaml": _vehicles(arch, 0.001, pairs, 40, Slim=quant, Global=wild),
        "slim/ResNet50_vehicle_cls_prune.yaml": _compcars("avg_pool", cosine(0.01), many, Slim=prune, Global=cars),
        "slim/ResNet50_vehicle_cls_quantization.yaml": _compcars(
            "avg_pool", cosine(0.001), pairs, 80, Slim=quant, Global=cars
        ),
    }


# --- persons -------------------------------------------------------------------------------------------------------


def _persons(
    arch: Keys, loss: list[Keys], optimizer: Any, *, erase: bool, feature: str, epsilon: float | None = None
) -> Keys:
    resize: Keys = {
        "ResizeImage": {"size": [128, 256], "return_numpy": False, "interpolation": "bilinear", "backend": "pil"}
    }
    last: list[Any] = [{"ToTensor": None}, {"Normalize": MEAN_STD}]
    erasing = [{"RandomErasing": {**ERASE["RandomErasing"], "mean": MEAN_STD["mean"]}}]
    train = [resize, FLIP, {"Pad": {"padding": 10}}, {"RandCropImageV2": {"size": [128, 256]}}, *last, *erasing * erase]

    def part(folder: str, ops: list[Keys], sampler: Keys) -> Keys:
        return data("Market1501", "./dataset/", folder, ops, sampler, backend="pil")

    own = settings(120, save_interval=40, eval_interval=10, print_batch_step=20, image_shape=[3, 256, 128])
    return config(
        arch, losses(*loss, epsilon=epsilon), optimizer, part("bounding_box_train", train, identities(64, 4)),
        both(*(part(each, [resize, *last], whole(128)) for each in ("query", "bounding_box_test"))), RECALL_AND_MAP,
        Global=own | {"retrieval_feature_from": feature, "re_ranking": False},
    )  # fmt: skip


def _persons_all() -> dict[str, Keys]:
    triplet: Keys = {
        "TripletLossV2": {"weight": 1.0, "margin": 0.3, "normalize_feature": False, "feature_from": "backbone"}
    }
    center: Keys = {"CenterLoss": {"weight": 0.0005, "num_classes": 751, "feat_dim": 2048, "feature_from": "backbone"}}
    uniform: Keys = {"initializer": {"name": "KaimingUniform", "fan_in": 12288}}
    head: Keys = {"name": "FC", "embedding_size": 2048, "class_num": 751}
    plain = model({"name": "ResNet50", "pretrained": TORCH, "stem_act": None}, "flatten", None,
                  {**head, "weight_attr": uniform, "bias_attr": uniform})  # fmt: skip
    constant = lambda value: {"initializer": {"name": "Constant", "value": value}}  # noqa: E731
    neck: Keys = {"name": "BNNeck", "num_features": 2048, "weight_attr": constant(1.0)}
    neck["bias_attr"] = {**constant(0.0), "learning_rate": 1.0e-20}
    normal: Keys = {**head, "weight_attr": {"initializer": {"name": "Normal", "std": 0.001}}, "bias_attr": False}
    strong = model({**STRIDE_1, "pretrained": TORCH, "stem_act": None}, "flatten", neck, normal)

    def adam(*decay: int, **warmup: Any) -> Keys:
        lr: Keys = {"name": "Piecewise", "decay_epochs": [*decay], "values": [0.00035, 0.000035, 0.0000035], **warmup}
        return {
            "name": "Adam",
            "lr": {**lr, "by_epoch": True, "last_epoch": 0},
            "regularizer": {"name": "L2", "coeff": 0.0005},
        }

    warm = adam(30, 60, warmup_epoch=10, warmup_start_lr=0.0000035)
    apart = {key: value for key, value in warm.items() if key != "name"}
    sgd: Keys = {"SGD": {"scope": "CenterLoss", "lr": {"name": "Constant", "learning_rate": 1000.0}}}
    home = "reid/strong_baseline/"
    return {
        f"{home}baseline.yaml": _persons(plain, [triplet], adam(40, 70), erase=False, feature="backbone"),
        f"{home}softmax_triplet.yaml": _persons(strong, [triplet], warm, erase=True, feature="features", epsilon=0.1),
        f"{home}softmax_triplet_with_center.yaml": _persons(
            strong, [triplet, center], [{"Adam": {"scope": "RecModel", **apart}}, sgd], erase=True, feature="features",
            epsilon=0.1,
        ),
    }  # fmt: skip


# --- codes ---------------------------------------------------------------------------------------------------------


def _hashing(loss: Keys, optimizer: Keys, neck: Keys | None = None, head: Keys | None = None) -> Keys:
    root = "./dataset/CIFAR10/"
    ops, unnamed = resized(128, "1.0/255.0")[0], {"batch_size": 128, "drop_last": False}
    train, test = (data("ImageNetDataset", root, f"{root}{each}_list.txt", ops, {**unnamed, "shuffle": each == "train"})
                   for each in ("train", "test"))  # fmt: skip
    own = settings(150, save_interval=15, eval_interval=15, use_dali=False, to_static=False)
    return config(
        model({"name": "AlexNet", "pretrained": True, "class_num": 48}, None, neck, head),
        {"Train": [loss], "Eval": [loss]}, optimizer, train, both(test, train), RECALL_AND_MAP[::-1],
        Global=own | {"feature_normalize": False, "feature_binarize": "sign"},
    )  # fmt: skip


def _codes() -> dict[str, Keys]:
    slow: Keys = {"name": "Piecewise", "learning_rate": 0.00001, "decay_epochs": [200], "values": [0.00001, 0.000001]}
    fast: Keys = {"name": "Piecewise", "learning_rate": 0.005, "decay_epochs": [200], "values": [0.005, 0.0005]}
    adam: Keys = {"name": "Adam", "beta1": 0.9, "beta2": 0.999, "lr": slow}
    sgd: Keys = {"name": "SGD", "lr": fast, "regularizer": {"name": "L2", "coeff": 0.00001}}
    root, cifar = "./dataset/cifar10/", normalise("1.0/255.0", **CIFAR_MEAN_STD)
    lists = {each: f"{root}cifar10-2/{each}.txt" for each in ("train", "test", "database")}
    still = [DECODE, {"ResizeImage": {"size": 224}}, cifar]
    train = [DECODE, {"ResizeImage": {"size": 256}}, {"RandCropImage": {"size": 224}}, FLIP, cifar]
    vgg = config(
        model({"name": "VGG19Sigmoid", "pretrained": True, "class_num": 48},
              head={"name": "FC", "class_num": 10, "embedding_size": 48}) | {"infer_add_softmax": "false"},
        losses(epsilon=0.1), momentum({**fast, "learning_rate": 0.01, "values": [0.01, 0.001]}),
        data("ImageNetDataset", root, lists["train"], train, whole(128, shuffle=True)),
        both(*(data("ImageNetDataset", root, lists[each], still, whole(512)) for each in ("test", "database"))),
        [{"mAP": None}, {"Precisionk": {"topk": [1, 5]}}],
        Global=settings(128, feature_normalize=False, feature_binarize="round"),
    )  # fmt: skip
    return {
        "DeepHash/DCH.yaml": _hashing({"DCHLoss": {"weight": 1.0, "gamma": 20.0, "_lambda": 0.1, "n_class": 10}}, sgd),
        "DeepHash/DSHSD.yaml": _hashing(
            {"DSHSDLoss": {"weight": 1.0, "alpha": 0.05}}, adam, {"name": "Tanh"},
            {"name": "FC", "class_num": 10, "embedding_size": 48},
        ),
        "DeepHash/LCDSH.yaml": _hashing({"LCDSHLoss": {"weight": 1.0, "_lambda": 3, "n_class": 10}}, adam),
        "quick_start/professional/VGG19_CIFAR10_DeepHash.yaml": vgg,
    }  # fmt: skip


# --- general -------------------------------------------------------------------------------------------------------


def _general(  # noqa: PLR0917
    arch: Keys, rate: float, coeff: float, warmup: int, ops: list[Keys], batch: int, epochs: int, **more: Any
) -> Keys:
    root, eval_ops = "./dataset/Aliproduct/", more.pop("eval_ops", resized()[0])
    return config(
        arch, losses(), momentum(cosine(rate, warmup_epoch=warmup), coeff),
        data("ImageNetDataset", "./dataset/", "./dataset/train_reg_all_data.txt", ops, whole(batch, shuffle=True)),
        both(data("VeriWild", root, f"{root}val_list.txt", eval_ops, whole(64))),
        more.pop("metrics", RECALL),
        Global=settings(epochs, use_dali=False, to_static=False, **more.pop("Global", {})), **more,
    )  # fmt: skip


def _mutual(*distance: str) -> Keys:
    names, pairs = {"model_names": ["Student", "Teacher"]}, {"model_name_pairs": [["Student", "Teacher"]]}
    train: list[Keys] = [
        {"DistillationGTCELoss": {"weight": 1.0, "key": "logits", **names}},
        {"DistillationDMLLoss": {"weight": 1.0, "key": "logits", **pairs}},
        *({"DistillationDistanceLoss": {"weight": 1.0, "key": key, **pairs}} for key in distance),
    ]
    return {"Train": train, "Eval": [{"DistillationGTCELoss": {"weight": 1.0, "model_names": ["Student"]}}]}


def _general_all() -> dict[str, Keys]:
    lcnet: Keys = {"name": "PPLCNet_x2_5", "pretrained": True, "use_ssld": True}
    v1 = model(lcnet, "flatten", fc_neck(1280), arc(185341, 0.2))
    slim = model({**lcnet, "pretrained": False}, "flatten", fc_neck(1280), arc(185341, 0.2))
    code = model({**lcnet, "name": "PPLCNet_x2_5_Tanh", "class_num": 512}, None, None,
                 {"name": "FC", "embedding_size": 512, "class_num": 185341})  # fmt: skip
    crop = [DECODE, {"RandCropImage": {"size": 224}}, FLIP, normalise("1.0/255.0")]
    timm: Keys = {
        "TimmAutoAugment": {"config_str": "rand-m7-mstd0.5-inc1", "interpolation": "bicubic", "img_size": 224}
    }
    turn: Keys = {"RandomRotation": {"prob": 0.3, "degrees": 90, "interpolation": "bicubic"}}
    strong = [*crop[:-1], timm, turn, crop[-1]]
    amp: Keys = {"scale_loss": 128, "use_dynamic_loss_scaling": True, "level": "O1"}
    clip: dict[str, Keys] = {
        size: model({"name": f"CLIP_vit_{size}", "pretrained": True, "return_embed": True, "return_mean_embed": True},
                    "flatten", fc_neck(512), arc(192613, 0.2)) for size in ("base_patch16_224", "large_patch14_224")
    }  # fmt: skip
    bicubic: Keys = {"eval_ops": resized(interpolation="bicubic")[0], "metrics": RECALL_AND_MAP}
    base = _general(clip["base_patch16_224"], 0.02, 0.00002, 1, strong, 64, 20, AMP=amp, **bicubic)
    off: Keys = {**amp, "use_amp": False, "use_fp16_test": False, "use_promote": False}
    large = _general(clip["large_patch14_224"], 0.0025, 0.00002, 1, strong, 32, 10, AMP=off, **bicubic)
    twins: Keys = {
        "name": "DistillationModel", "infer_output_key": "features", "infer_add_softmax": False, "is_rec": True,
        "infer_model_name": "Student", "pretrained_list": None, "freeze_params_list": [False, False],
        "models": [{"Teacher": v1}, {"Student": v1}],
    }  # fmt: skip
    start: Keys = {"pretrained_model": f"{ADDRESS}rec/models/pretrain/general_PPLCNet_x2_5_pretrained_v1.0.pdparams"}
    codes: Keys = {"Global": {"feature_normalize": False, "feature_binarize": "sign"}}
    home = "GeneralRecognition/GeneralRecognition_PPLCNet_x2_5"
    return {
        f"{home}.yaml": _general(v1, 0.04, 0.00001, 5, crop, 256, 100),
        f"{home}_binary.yaml": _general(code, 0.04, 0.00001, 5, crop, 256, 100, **codes),
        "slim/GeneralRecognition_PPLCNet_x2_5_quantization.yaml": _general(
            slim, 0.002, 0.00001, 5, crop, 128, 30, Slim={"quant": {"name": "pact"}}, Global=start
        ),
        f"{home}_dml.yaml": _general(twins, 0.02, 0.00001, 5, crop, 64, 100, Loss=_mutual()),
        f"{home}_udml.yaml": _general(twins, 0.02, 0.00001, 5, crop, 64, 100, Loss=_mutual("backbone")),
        "GeneralRecognitionV2/GeneralRecognitionV2_CLIP_vit_base.yaml": base,
        "GeneralRecognitionV2/GeneralRecognitionV2_CLIP_vit_large.yaml": large,
    }


def _memory() -> Keys:
    backbone: Keys = {"name": "ResNet50_adaptive_max_pool2d", "pretrained": TORCH, "stem_act": None}
    kaiming: Keys = {"name": "KaimingNormal", "fan_in": 128, "negative_slope": 0.0, "nonlinearity": "leaky_relu"}
    zero: Keys = {"initializer": {"name": "Constant", "value": 0.0}}
    neck = fc_neck(2048, 128, weight_attr={"initializer": kaiming}, bias_attr=zero)
    own: Keys = {"margin": 0.5, "embedding_size": 128, "epsilon": 1.0e-5, "normalize_feature": True}
    own["feature_from"] = "features"
    memory: Keys = {"weight": 1.0, "xbm_size": 55000, "xbm_weight": 1.0, "start_iter": 1000, **own}
    plateau: Keys = {
        **{"name": "ReduceOnPlateau", "learning_rate": 0.0001, "mode": "max", "factor": 0.1, "patience": 4},
        **{"threshold": 0.001, "threshold_mode": "rel", "cooldown": 2, "min_lr": 0.000005, "epsilon": "1e-8"},
    }
    last: list[Any] = [{"ToTensor": None}, {"Normalize": MEAN_STD}]
    crop: Keys = {"RandomResizedCrop": {"scale": [0.2, 1], "size": 224}}
    train = [{"Resize": {"size": 256}}, crop, {"RandomHorizontalFlip": {"prob": 0.5}}, *last]
    test = [{"Resize": {"size": 256}}, {"CenterCrop": {"size": 224}}, *last]
    home, name = "./dataset/SOP", "VeriWild"
    return config(
        model(backbone, "flatten", neck),
        {"Train": [{"ContrastiveLoss_XBM": memory}], "Eval": [{"ContrastiveLoss": {"weight": 1.0, **own}}]},
        {"name": "Adam", "lr": {**plateau, "by_epoch": True}, "regularizer": {"name": "L2", "coeff": 0.0005}},
        data(name, home, f"{home}/train_list.txt", train, identities(64, 4, max_iters=1000), backend="pil"),
        both(data(name, home, f"{home}/test_list.txt", test, whole(256), backend="pil")),
        RECALL_AND_MAP,
        Global=settings(35, iter_per_epoch=1000, print_batch_step=20, retrieval_feature_from="features"),
    )


ACCEPTED: dict[str, Keys] = deepcopy(
    {
        **_products_and_more(),
        **_vehicles_and_logos(),
        **_persons_all(),
        **_codes(),
        **_general_all(),
        "metric_learning/xbm_resnet50.yaml": _memory(),
    }
)
# configs/train has it under the same name, tested by test_train_configs.py
SHIPPED = ("GeneralRecognitionV2/GeneralRecognitionV2_PPLCNetV2_base.yaml",)


def _tuned() -> Keys:
    """CLIP_fiinetune's: the neck wants the tokens before the projection, which PaddleClas 2.6 no longer gives."""
    made = deepcopy(ACCEPTED["GeneralRecognitionV2/GeneralRecognitionV2_CLIP_vit_base.yaml"])
    made["Arch"] = model({"name": "CLIP_vit_base_patch32_224", "pretrained": True, "return_embed": True},
                         "layer_norm_24", fc_neck(768), arc(50030))  # fmt: skip
    return made


def _faces() -> Keys:
    made = deepcopy(ACCEPTED["Products/ResNet50_vd_SOP.yaml"])
    made["Global"]["eval_mode"] = "adaface"
    made["Arch"]["Head"] = {"name": "AdaMargin", "embedding_size": 512, "class_num": 70722, "m": 0.4, "s": 64}
    made["DataLoader"]["Train"]["dataset"] = {"name": "AdaFaceDataset", "root_dir": "dataset/face/"}
    return made


def _meta() -> Keys:
    made = deepcopy(ACCEPTED["reid/strong_baseline/softmax_triplet_with_center.yaml"])
    made["Global"] |= {"train_mode": "metabin", "iter_per_epoch": 50, "warmup_iter": 10}
    made["Arch"]["Neck"] = {"name": "MetaBNNeck", "num_features": 2048, "use_global_stats": True}
    made["DataLoader"]["Train"]["sampler"] = {"name": "NaiveIdentityBatchSampler", "batch_size": 96, "num_instances": 4}
    made["Loss"]["Train"] = [{"CELossForMetaBIN": {"weight": 1.0, "epsilon": 0.1}}]
    lr: Keys = {"name": "Constant", "learning_rate": 0.2}
    made["Optimizer"] = [
        {"Momentum": {"scope": ".*(conv|fc)", "lr": lr}},
        {"SGD": {"scope": "backbone.*gate", "lr": lr}},
    ]
    return made


def _proxies() -> Keys:
    made = deepcopy(ACCEPTED["Products/ResNet50_vd_SOP.yaml"])
    made["Global"] |= {"eval_mode": "idml", "train_mode": "idml", "warmup_epoch_idml": 5}
    made["Arch"]["Neck"] = {"name": "IDMLNeck", "in_channel_num": 2048, "embedding_size": 512}
    made["Loss"]["Train"] = [{"IDMLProxyAnchorLoss": {"weight": 1.0, "nb_classes": 98}}]
    return made


# what is refused of them (their parts that no accepted one has), and what the message must name, in this order
REFUSED: dict[str, tuple[Keys, tuple[str, ...]]] = {
    **{
        name: (ACCEPTED.pop(name), ("Slim.prune", "no inverted bottleneck", "MobileNetV3"))
        for name in [each for each in ACCEPTED if each.endswith("_prune.yaml")]
    },
    "CLIP_fiinetune/Aliproduct/CLIP_vit_base_patch32_224.yaml": (
        _tuned(), ("embedding_size is 768", "gives a map of 50x512"),
    ),
    "metric_learning/adaface_ir18.yaml": (
        _faces(), ("eval_mode", "name AdaMargin: did you mean ArcMargin", "AdaFaceDataset"),
    ),
    "metric_learning/idml_proxy_anchor_ResNet50_cars196.yaml": (
        _proxies(), ("eval_mode", "train_mode", "warmup_epoch_idml", "IDMLNeck", "IDMLProxyAnchorLoss"),
    ),
    "reid/MetaBIN_ResNet50_cross_domain.yaml": (
        _meta(), ("train_mode", "MetaBNNeck", "CELossForMetaBIN", "scope", "NaiveIdentityBatchSampler"),
    ),
}  # fmt: skip
