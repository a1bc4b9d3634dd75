"""ONNX files of strangers: other inputs, operators of their own; and int8 programs of which nothing is known."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from shitu.build.builder import GalleryBuilder
from shitu.config import load_config
from shitu.engines import choose
from shitu.errors import EngineError, GalleryError, ShituError
from shitu.models.folder import open_folder
from shitu.recognise.from_config import DetPredictor, RecPredictor, SystemPredictor
from tests.conftest import ROOT, index_overrides

onnx = pytest.importorskip("onnx", reason="wants the extra `onnx`")
MODELS = {kind: ROOT / "models" / name for kind, name in
          (("rec", "efficientnet_lite0_512"), ("det", "picodet_lcnet_x1_0_mainbody"))}  # fmt: skip
BLACK = np.zeros((50, 60, 3), np.uint8)
ENGINES = pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])


def with_inputs(
    folder: Path, kind: str, inputs: dict[str, list[int | None]], kind_of: str = "GlobalAveragePool"
) -> Any:
    """A model whose network takes these, called on a picture."""
    shutil.copytree(MODELS[kind], folder)
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    ends = [helper.make_tensor_value_info(name, real, shape) for name, shape in inputs.items()]
    domain = "" if kind_of == "GlobalAveragePool" else "com.stranger"
    nodes = [
        helper.make_node(kind_of, [ends[0].name], ["mean"], domain=domain),
        helper.make_node("Flatten", ["mean"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", ends, [helper.make_tensor_value_info("y", real, [None, None])])
    known = [helper.make_opsetid("", 13), helper.make_opsetid("com.stranger", 1)]
    network = helper.make_model(graph, opset_imports=known, ir_version=8)
    (folder / "inference.onnx").write_bytes(network.SerializeToString())
    card = yaml.safe_load((folder / "model.yaml").read_text(encoding="utf-8"))
    program: dict[str, Any] = {"program": "inference.onnx"}
    card["programs"] = {"onnx": {"fp32": program if kind == "rec" else {"raw": program}}}
    (folder / "model.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")


def predicted(folder: Path, kind: str, engine: str) -> Any:
    settings = [f"Global.{kind}_inference_model_dir={folder}", f"Global.engine={engine}", "Global.use_gpu=False"]
    return (RecPredictor if kind == "rec" else DetPredictor)(load_config(None, settings)).predict([BLACK])


@ENGINES
@pytest.mark.parametrize(
    ("kind", "inputs", "told"),
    [
        ("rec", {"x": [None, 3, 224, 224], "z": [1]}, "is not a feature extractor: its inputs are x, z, wanted one"),
        ("rec", {"x": [None, 3, 128, 128]}, "input x is any x 3 x 128 x 128, and the preprocessing makes 1 x 3 x 224"),
        ("rec", {"x": [None, 1, 224, 224]}, "input x is any x 1 x 224 x 224, and the preprocessing makes 1 x 3 x 224"),
        ("rec", {"x": [None, 3, 224]}, "input x is any x 3 x 224, and the preprocessing makes 1 x 3 x 224 x 224"),
        ("det", {"data": [None, 3, 320, 320]}, "is not a detector: its inputs are data, wanted some of image"),
        ("det", {"image": [1, 3, 640, 640]}, "image is 1 x 3 x 640 x 640, and the preprocessing makes 1 x 3 x 320 x 3"),
        ("det", {"image": [1, 3, 320, 320]}, "outputs have shapes .*; wanted boxes .1, A, 4. and scores .1, C, A. of"),
    ],
)
def test_other_inputs(kind: str, inputs: dict[str, list[int | None]], told: str, engine: str, tmp_path: Path) -> None:
    """Before, OpenVINO answered with what lay in memory."""
    with_inputs(tmp_path / "model", kind, inputs)
    with pytest.raises(ShituError, match=told):
        predicted(tmp_path / "model", kind, engine)


@ENGINES
def test_what_is_not_stated_may_be_anything(engine: str, tmp_path: Path) -> None:
    with_inputs(tmp_path / "model", "rec", {"x": [None, 3, None, None]})
    assert predicted(tmp_path / "model", "rec", engine).shape == (1, 3)


@ENGINES
def test_operators_of_its_own(engine: str, tmp_path: Path) -> None:
    with_inputs(tmp_path / "model", "rec", {"x": [None, 3, 224, 224]}, "Exfiltrate")
    with pytest.raises(EngineError, match="without operators of its own"):
        predicted(tmp_path / "model", "rec", engine)


def test_int8_of_which_nothing_is_recorded(small_list: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` passes it over; asked for it runs, but in no gallery of the fp32 program's, and the reason is told."""
    monkeypatch.setattr(choose, "has_int8", lambda: True)
    folder = tmp_path / "model"
    shutil.copytree(MODELS["rec"], folder)
    card = yaml.safe_load((folder / "model.yaml").read_text(encoding="utf-8"))
    del card["programs"]["onnx"]["int8"]["cosine"]
    (folder / "model.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
    index = [
        *index_overrides(small_list, tmp_path / "index"),
        "Global.det_inference_model_dir=",
        "Global.use_gpu=False",
    ]
    index += [f"Global.rec_inference_model_dir={folder}", "Global.engine=onnxruntime"]
    GalleryBuilder(load_config(None, [*index, "Global.precision=auto"])).run()
    assert RecPredictor(load_config(None, [*index, "Global.precision=auto"])).engine == "onnxruntime, fp32"
    assert RecPredictor(load_config(None, [*index, "Global.precision=int8"])).engine == "onnxruntime, int8"
    with pytest.raises(GalleryError, match=r"int8.*cosine"):
        SystemPredictor(load_config(None, [*index, "Global.precision=int8"]))
    (folder / "model.yaml").unlink()  # and of what an int8 program is, nobody tells
    assert open_folder(folder).find("onnx", "int8") is None
