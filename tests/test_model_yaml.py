"""model.yaml: what is read, and every way of getting it wrong with the words that should help."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from shitu.errors import ModelError
from shitu.models.model_yaml import FileRecord, Nms, Preprocess, Program, read_model_yaml

RECOGNISER: dict[str, Any] = {
    "name": "toy",
    "version": 1,
    "task": "recognition",
    "program": "inference.json",
    "params": "inference.pdiparams",
    "dimension": 8,
    "preprocess": {
        "size": [20, 30],
        "interpolation": "bilinear",
        "scale": "1.0/255.0",
        "mean": [0, 0.5, "5e-1"],
        "std": [1, 2, 3],
    },
    "files": {"inference.json": {"size": 3, "sha256": "AB" * 32}},
    "licence": "Apache-2.0",
    "provenance": "made up",
    "measured": [{"what": "Recall@1", "value": 0.5, "command": "python x.py"}],
}
DETECTOR: dict[str, Any] = {
    **{key: value for key, value in RECOGNISER.items() if key != "dimension"},
    "task": "detection",
    "labels": ["foreground"],
    "raw": {"program": "raw.json", "params": "raw.pdiparams"},
}


def written(folder: Path, content: Any) -> Path:
    path = folder / "model.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


def test_recogniser(tmp_path: Path) -> None:
    card = read_model_yaml(written(tmp_path, RECOGNISER))
    assert card.preprocess == Preprocess((20, 30), "bilinear", 1 / 255, (0.0, 0.5, 0.5), (1.0, 2.0, 3.0))
    assert (card.name, card.version, card.task, card.dimension) == ("toy", "1", "recognition", 8)
    assert card.programs == (Program("paddle", "fp32", Path("inference.json"), Path("inference.pdiparams")),)
    assert (card.vectors, card.nms) == (None, None)
    assert card.files == {"inference.json": FileRecord(3, "ab" * 32)}
    assert card.measured == ({"what": "Recall@1", "value": 0.5, "command": "python x.py"},)


def test_detector(tmp_path: Path) -> None:
    card = read_model_yaml(written(tmp_path, DETECTOR))
    assert (card.dimension, card.labels) == (None, ("foreground",))
    whole = Program("paddle", "fp32", Path("inference.json"), Path("inference.pdiparams"))
    assert card.programs == (whole, Program("paddle", "fp32", Path("raw.json"), Path("raw.pdiparams"), raw=True))


def test_programs_by_engine_and_precision(tmp_path: Path) -> None:
    """Beside today's keys, which mean Paddle in fp32, or instead of them."""
    more = {
        "onnxruntime": {"fp32": {"raw": {"program": "raw.onnx"}}, "int8": {"program": "q.onnx", "cosine": 0.995}},
        "paddle": {"int8": {"program": "q.json", "params": "q.pdiparams"}},
    }
    nms = {"score_threshold": 0.025, "nms_threshold": 0.6, "keep_top_k": 100}
    card = read_model_yaml(written(tmp_path, {**DETECTOR, "programs": more, "nms": nms}))
    assert card.programs[2:] == (
        Program("onnxruntime", "fp32", Path("raw.onnx"), raw=True),
        Program("onnxruntime", "int8", Path("q.onnx"), cosine=0.995),
        Program("paddle", "int8", Path("q.json"), Path("q.pdiparams")),
    )
    assert card.nms == Nms(0.025, 0.6, -1, 100)
    bare = {key: value for key, value in DETECTOR.items() if key not in ("program", "params", "raw")}
    assert read_model_yaml(written(tmp_path, {**bare, "programs": more})).programs == card.programs[2:]
    assert read_model_yaml(written(tmp_path, {**RECOGNISER, "vectors": "toy 1"})).vectors == "toy 1"


MISTAKES: list[tuple[str, Any, str]] = [
    ("dimensoin", 8, "unknown key 'dimensoin'; did you mean dimension?"),
    ("labels", ["x"], "unknown key 'labels'"),
    ("preprocess.men", [0], "unknown key preprocess.'men'; did you mean mean?"),
    ("measured", [{"what": "x", "value": 1, "comand": "y"}], "unknown key measured[0].'comand'; did you mean command?"),
    ("files", {"inference.json": {"size": 1, "sha256": "a" * 64, "md5": ""}}, "unknown key files.inference.json.'md5'"),
    ("task", "recogniton", "task is 'recogniton'; wanted detection or recognition"),
    ("task", ["detection"], "task is ['detection']; wanted"),
    ("program", "../evil.json", "program is '../evil.json'; wanted the name of a file inside"),
    ("program", "/etc/passwd", "wanted the name of a file inside"),
    ("params", "C:\\x", "wanted the name of a file inside"),
    ("params", "", "wanted the name of a file inside"),
    ("params", None, "params is None; wanted"),
    ("files", {"../x": {"size": 1, "sha256": "a" * 64}}, "files names '../x'; wanted"),
    ("files", {"x": {"size": 1, "sha256": "short"}}, "files.x.sha256 is 'short'; wanted 64 hex digits"),
    ("files", {"x": {"size": -1, "sha256": "a" * 64}}, "files.x.size is -1; wanted a whole number"),
    ("files", {"x": 5}, "files.x is 5; wanted a mapping"),
    ("dimension", 0, "dimension is 0; wanted the length of a vector"),
    ("dimension", True, "dimension is True; wanted"),
    ("dimension", "512", "dimension is '512'; wanted"),
    ("name", "", "name is ''; wanted a name"),
    ("name", 5, "name is 5; wanted a name"),
    ("version", None, "version is None; wanted"),
    ("preprocess", [], "preprocess is []; wanted a mapping"),
    ("preprocess.size", [224], "preprocess.size is [224]; wanted [height, width]"),
    ("preprocess.size", [224, 0], "wanted [height, width]"),
    ("preprocess.size", [224, 10**6], "wanted [height, width]"),
    ("preprocess.interpolation", 2, "preprocess.interpolation is 2; wanted one of nearest, bilinear"),
    ("preprocess.scale", "1/0", "preprocess.scale is '1/0'; wanted a number"),
    ("preprocess.scale", "__import__('os')", "wanted a number"),
    ("preprocess.scale", float("inf"), "wanted a number"),
    ("preprocess.mean", [0, 0], "preprocess.mean is [0, 0]; wanted three numbers"),
    ("preprocess.std", [1, 1, 0], "preprocess.std is [1, 1, 0]; wanted three numbers, for R, G and B, none of them 0"),
    ("preprocess.keep_ratio", "yes", "preprocess.keep_ratio is 'yes'; wanted true or false"),
    ("measured", {"x": 1}, "measured is {'x': 1}; wanted a list"),
    ("measured", [5], "measured[0] is 5; wanted a mapping"),
    ("licence", 5, "licence is 5; wanted a text"),
    ("vectors", 5, "vectors is 5; wanted a text"),
    ("programs", {"onnxruntime": {"fp32": {}}}, "programs.onnxruntime.fp32.program is missing; wanted the name of"),
    ("programs", {"paddle": {"int8": {"program": "x"}}}, "programs.paddle.int8.params is missing; wanted the name of"),
    ("programs", {"x": {"int8": {"program": "/x"}}}, "programs.x.int8.program is '/x'; wanted the name of a file"),
    ("programs", {"x": {"int8": {"program": "x", "cosin": 1}}}, "unknown key programs.x.int8.'cosin'; did you mean"),
    ("programs", {"x": {"int8": {"program": "x", "cosine": 2}}}, "programs.x.int8.cosine is 2; wanted a number from 0"),
    ("programs", {"x": {"fp32": {"raw": {"program": "x"}}}}, "programs names raw programs, which only a detector has"),
    ("programs", {5: {"fp32": {"program": "x"}}}, "programs names 5; wanted a text"),
    ("programs", {"x": 5}, "programs.x is 5; wanted a mapping"),
    ("nms", {}, "unknown key 'nms'"),
]


@pytest.mark.parametrize(("key", "value", "words"), MISTAKES)
def test_mistakes(tmp_path: Path, key: str, value: Any, words: str) -> None:
    content = copy.deepcopy(RECOGNISER)
    *outer, last = key.split(".")
    (content[outer[0]] if outer else content)[last] = value
    with pytest.raises(ModelError) as caught:
        read_model_yaml(written(tmp_path, content))
    assert words in str(caught.value)
    assert str(tmp_path / "model.yaml") in str(caught.value)


@pytest.mark.parametrize("key", ["name", "task", "program", "params", "dimension"])
def test_missing_keys(tmp_path: Path, key: str) -> None:
    content = {name: value for name, value in RECOGNISER.items() if name != key}
    with pytest.raises(ModelError, match=f"{key} is missing; wanted"):
        read_model_yaml(written(tmp_path, content))


def test_preprocess_may_be_the_configuration_s(tmp_path: Path) -> None:
    """As in a card that `shitu models convert` wrote for a folder of PaddleClas's."""
    content = {name: value for name, value in RECOGNISER.items() if name != "preprocess"}
    assert read_model_yaml(written(tmp_path, content)).preprocess is None


@pytest.mark.parametrize(
    ("labels", "words"),
    [([], "labels is []"), ([False], "labels is [False]"), ("foreground", "labels is 'foreground'")],
)
def test_labels(tmp_path: Path, labels: Any, words: str) -> None:
    """A bare `no` in YAML is False."""
    with pytest.raises(ModelError) as caught:
        read_model_yaml(written(tmp_path, {**DETECTOR, "labels": labels}))
    assert words in str(caught.value)


@pytest.mark.parametrize("key", ["raw", "nms", "files", "programs", "labels", "measured", "licence"])
def test_null_is_not_a_key_left_out(tmp_path: Path, key: str) -> None:
    with pytest.raises(ModelError, match=f"{key} is None; wanted a"):
        read_model_yaml(written(tmp_path, {**DETECTOR, key: None}))


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds None; wanted a mapping"),
        ("- a", "holds ['a']; wanted a mapping"),
        ("task: detection\ntask: recognition", "line 2: task is there already, in line 1; keep one"),
        ("a: [", "model.yaml, line 1, column 5: expected the node content"),
        ("a: 2024-99-99", "a value cannot be read (month must be in 1..12); put text in quotes"),
        ("a: !!python/object/apply:os.system [echo]", "only plain values are read, no objects"),
        ("a: " + "[" * 5000, "nested too deeply; at most 50 levels are read"),
        (BOMB + "task: *a11", "grows beyond 100,000 values once its aliases (*) are written out; use fewer"),
        ("task: 0x" + "f" * 4000, "task is something very long; wanted detection or recognition"),
        ("x" * 1_000_001, "has more than 1,000,000 bytes; shitu reads no YAML as long as that"),
    ],
    ids=["empty", "list", "twice", "broken", "date", "object", "deep", "bomb", "long", "large"],
)
def test_texts(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        read_model_yaml(written(tmp_path, text))
    assert words in str(caught.value)
    assert len(str(caught.value)) < 1000
