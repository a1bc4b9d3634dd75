"""A trained network -> a model folder that `shitu predict` opens; nothing is replaced unless the features agree."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from shitu import __version__
from shitu.config.values import BadValueError
from shitu.digest import sha256_of
from shitu.engines.base import EngineOptions
from shitu.engines.paddle import open_session
from shitu.errors import ConfigError, ModelError, ShituError
from shitu.models.model_yaml import Preprocess
from shitu.models.write import PARAMS, PROGRAM, new_folder, write_model_yaml
from shitu.recognise.preprocess import from_model_yaml
from shitu.training.base.export import add_onnx, fuse_batch_norms, re_parameterise
from shitu.training.base.log import read_records
from shitu.training.rec import schema_arch as schema
from shitu.training.rec.features import Features, Floats, relative_difference
from shitu.training.rec.networks import DistillationModel, RecModel, build_network, part
from shitu.training.rec.pretrained import find_weights, load_weights
from shitu.training.rec.prune import prune
from shitu.training.rec.schema import TrainConfig
from shitu.training.rec.summary import describe
from shitu.training.rec.transforms import compile_transform

TOLERANCE = 1e-4  # of the largest value of the features; folding and oneDNN give 1e-6 to 1e-5
_COUNTS = ("epoch", "step", "queries", "left_out", "bad_images")
log = logging.getLogger("shitu")


@dataclass(frozen=True)
class Exported:
    """`difference`: largest difference of the program's features from the network's, relative to the largest value.

    `onnx`: whether there is a program for the other engines.
    """

    folder: Path
    dimension: int
    difference: float
    onnx: bool = False


def export_config(
    config: TrainConfig, *, name: str | None = None, licence: str = "", onnx: bool | None = False
) -> Exported:
    """Export Global.pretrained_model to Global.save_inference_dir; needs no data.

    Raises ConfigError, ModelError where the weights do not fill the network, ShituError where the check fails.
    """
    source = config.Global.pretrained_model
    if source is None:
        example = "-o Global.pretrained_model=output/RecModel/best_model"
        raise ConfigError(f"Global.pretrained_model is null: which weights are to be exported? {example}")
    preprocess_of(config)
    weights = find_weights(source)
    network = build_network(config.Arch.without_heads(), 1, image_shape=config.Global.image_shape)
    prune(network, config)
    report = load_weights(network, str(weights))
    lacking = (*report.missing, *report.other_shape)
    if lacking:
        raise ModelError(
            f"{weights} does not fill the network of {config.source}; it would be exported with random numbers in "
            f"{', '.join(lacking[:5])}{' ...' if len(lacking) > 5 else ''}. Give the config that it was trained with"
        )
    return export_model(network, config, weights=weights, name=name, licence=licence, onnx=onnx)


def export_model(
    network: RecModel | DistillationModel,
    config: TrainConfig,
    *,
    weights: Path | None = None,
    name: str | None = None,
    licence: str = "",
    onnx: bool | None = False,
) -> Exported:
    """Write the folder Global.save_inference_dir; the network stays as it is. `weights` is its file, for provenance.

    onnx: as `add_onnx`. Of a DistillationModel, Arch.infer_model_name is exported. Raises as `export_config`.
    """
    which = config.Arch.inferring
    model, section = part(network, which), config.Arch.parts()[which]
    preprocess = preprocess_of(config)
    whole = copy.deepcopy(Features(model, _output(config.Arch, section)))
    whole.eval()
    inputs = _inputs(preprocess)
    wanted = _run(whole, inputs)
    ready = _simplified(whole, inputs, wanted)
    target = Path(config.Global.save_inference_dir).expanduser()
    with new_folder(target, "Global.save_inference_dir") as folder:
        _save(ready, folder, preprocess)
        session = open_session(folder / PROGRAM, folder / PARAMS, EngineOptions())
        difference = _checked("the exported program", lambda x: session.run({"x": x})[0], inputs, wanted)
        write_model_yaml(
            folder,
            name=name or Path(config.source).stem,
            task="recognition",
            architecture=_architecture(model, section, preprocess),
            dimension=wanted.shape[1],
            preprocess=asdict(preprocess),
            provenance=_provenance(config, weights),
            licence=licence,
            measured=measured_rows(weights) if weights else [],
        )
        has_onnx = add_onnx(folder, onnx)
    return Exported(target, wanted.shape[1], difference, has_onnx)


# --- what is exported ------------------------------------------------------------------------------------------


def _output(arch: schema.Arch, section: schema.RecModel) -> str:
    if arch.infer_add_softmax:
        raise BadValueError(
            "Arch.infer_add_softmax", True, "false is wanted: what is exported are features, no classes"
        )
    if arch.infer_output_key == "neck" and section.Neck is None:
        raise BadValueError("Arch.infer_output_key", "neck", "features or backbone is wanted, since there is no Neck")
    return arch.infer_output_key


def preprocess_of(config: TrainConfig) -> Preprocess:
    """What an evaluation does to an image, as a model.yaml can say it. Raises ConfigError."""
    data, key = config.DataLoader.Eval, "DataLoader.Eval.Query.dataset.transform_ops"
    dataset = data.Query.dataset if data and data.Query else None
    if data and data.dataset:
        dataset, key = data.dataset, "DataLoader.Eval.dataset.transform_ops"
    if dataset is None or not dataset.transform_ops:
        raise ConfigError(f"{config.source} has no {key}; they say how an image becomes the exported model's input")
    preprocess = compile_transform(dataset.transform_ops, key).preprocess
    if preprocess is None:
        raise ConfigError(
            f"{key} cannot be stated in a model.yaml; one ResizeImage to a size and one NormalizeImage can"
        )
    return preprocess


def _simplified(whole: Features, inputs: Floats, wanted: Floats) -> Features:
    """The same function with branches joined and batch norms folded."""
    joined = copy.deepcopy(whole)
    re_parameterise(joined)
    folded = copy.deepcopy(joined)
    fuse_batch_norms(folded)
    for network, what in ((folded, "folding the batch norms"), (joined, "joining the branches")):
        if relative_difference(_run(network, inputs), wanted) <= TOLERANCE:
            return network
        log.warning("%s would change the features of this network; it is left out", what)
    return whole


def _save(network: Features, folder: Path, preprocess: Preprocess) -> None:
    # Paddle's own names count up within a process; with these, the same weights make the same bytes and fingerprint.
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        tensor.name = name
    spec = paddle.static.InputSpec([None, 3, *preprocess.size], "float32", "x")
    paddle.jit.save(network, str(folder / Path(PROGRAM).stem), input_spec=[spec])


# --- the check -------------------------------------------------------------------------------------------------


def _inputs(preprocess: Preprocess) -> Floats:
    """(6, 3, h, w): noise, which excites everything, and soft patches of colour, which are more like photos."""
    rng = np.random.default_rng(0)
    ready = from_model_yaml(**vars(preprocess), detection=False)
    patches = [rng.integers(0, 256, (side, side, 3), np.uint8) for side in (2, 4, 16)]
    noise = rng.normal(size=(3, 3, *preprocess.size))
    return np.concatenate([noise.astype(np.float32), np.stack([ready(patch) for patch in patches])])


def _run(network: Features, inputs: Floats) -> Floats:
    with paddle.no_grad():
        features: Floats = network(paddle.to_tensor(inputs)).numpy()
    return features


def _checked(what: str, run: Callable[[Floats], Any], inputs: Floats, wanted: Floats) -> float:
    """All at once and one by one, as a gallery's and a photo's images come. Raises ShituError."""
    found = (run(inputs), np.concatenate([run(inputs[i : i + 1]) for i in range(len(inputs))]))
    difference = max(relative_difference(each, wanted) for each in found)
    if not difference <= TOLERANCE:
        raise ShituError(
            f"{what} gives other features than the network: they differ by {difference:.1e} of the largest, "
            f"{TOLERANCE:.0e} is allowed; nothing was written. This is a fault of shitu's or Paddle's: please report it"
        )
    return difference


# --- what model.yaml says of it --------------------------------------------------------------------------------


def _architecture(model: RecModel, section: schema.RecModel, preprocess: Preprocess) -> str:
    neck = f", {type(section.Neck).yaml_name or type(section.Neck).__name__}" if section.Neck else ""
    macs = describe(model, (3, *preprocess.size)).macs_exported
    return f"{section.Backbone.name}{neck}, {macs / 1e6:.0f} M multiply-adds"


def _provenance(config: TrainConfig, weights: Path | None) -> str:
    lines = [f"Config: {Path(config.source).name}."]
    if weights:
        lines.append(f"Weights: {weights.name}, sha256 {sha256_of(weights)}.")
    lines.append(f"Exported by shitu {__version__} with paddlepaddle {paddle.version.full_version}.")
    return "\n".join(lines) + "\n"


def measured_rows(weights: Path) -> list[dict[str, Any]]:
    """What the training run that left `weights` measured of them: its metrics.jsonl lies beside."""
    records = [each for each in read_records(weights.parent / "metrics.jsonl") if "queries" in each]
    if epoch := re.fullmatch(r"epoch_(\d+)", weights.stem):
        records = [each for each in records if each.get("epoch") == int(epoch[1])]
    if not records or (weights.stem not in ("best_model", "latest") and not epoch):
        return []
    names = [name for name in records[-1] if name not in _COUNTS]
    record = max(records, key=lambda each: each.get(names[0]) or 0.0) if weights.stem == "best_model" else records[-1]
    when = f"epoch {record['epoch']}, {record['queries']} queries of DataLoader.Eval"
    return [{"what": f"{name}, {when}", "value": record[name], "command": "shitu train"} for name in names]
