"""The JSON schema for editors: what is shipped is what the command prints, and it agrees with the reader."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from shitu.cli import main
from shitu.config.keys import Maybe
from shitu.config.load import load_sections
from shitu.config.schema import Config
from shitu.config.values import Section, keys_of, section_in
from shitu.errors import ConfigError
from shitu.resources import bundled
from shitu.training.det.schema import DetConfig
from shitu.training.rec.schema import TrainConfig
from tests.conftest import Write

ROOTS: dict[str, type[Section]] = {"inference": Config, "train": TrainConfig, "det": DetConfig}
CONFIGS = bundled("configs")
SHIPPED = [
    *(("inference", path) for path in sorted(CONFIGS.glob("*.yaml"))),
    *(("train", path) for path in sorted(CONFIGS.glob("train/*.yaml"))),
    *(("det", path) for path in sorted(CONFIGS.glob("det/*.yml"))),
]


def shipped_schema(kind: str) -> Any:
    return json.loads((CONFIGS / "schema" / f"{kind}.json").read_text(encoding="utf-8"))


def mistakes(kind: str, raw: Any) -> list[str]:
    return [error.message for error in jsonschema.Draft202012Validator(shipped_schema(kind)).iter_errors(raw)]


@pytest.mark.parametrize("kind", ROOTS)
def test_what_is_shipped_is_what_the_command_prints(kind: str) -> None:
    """Where this fails: shitu config schema --kind KIND > configs/schema/KIND.json"""
    printed = CliRunner().invoke(main, ["config", "schema", "--kind", kind])
    made_by, here = shipped_schema(kind)["$comment"], json.loads(printed.stdout)["$comment"]
    if made_by != here:
        pytest.skip(f"the shipped schema was made by {made_by}, here is {here}, which words it otherwise")
    assert printed.stdout == (CONFIGS / "schema" / f"{kind}.json").read_text(encoding="utf-8")
    jsonschema.Draft202012Validator.check_schema(shipped_schema(kind))


@pytest.mark.parametrize(("kind", "path"), SHIPPED, ids=lambda each: getattr(each, "stem", each))
def test_a_shipped_config_names_its_schema_and_fits_it(kind: str, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = text.splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / named).resolve() == (CONFIGS / "schema" / f"{kind}.json").resolve()
    assert mistakes(kind, yaml.safe_load(text)) == []


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("inference", "Global: {treshold: 0.2}"),
        ("inference", "Global: {threshold: 1.5}"),
        ("inference", "Global: {batch_size: 0}"),
        ("inference", "Global: {image_shape: [3, 0, 640]}"),
        ("inference", "Global: {whole_image: sometimes}"),
        ("inference", "Globl: {}"),
        ("inference", "source: x"),
        ("inference", "IndexProcess: {nprobe: 0}"),
        ("inference", "RecPreProcess: {transform_ops: [{a: 1, b: 2}]}"),
        ("train", "Loss: {Train: [{CeLoss: {}}]}"),
        ("train", "Loss: {Train: [{CELoss: {epsilon: 2}}]}"),
        ("train", "Loss: {Train: [{CELoss: {}, Other: {}}]}"),
        ("train", "DataLoader: {Train: {sampler: {sample_per_id: 8}}}"),
        ("train", "DataLoader: {Train: {sampler: {name: DistributedBatchSampler, sample_per_id: 4}}}"),
        ("train", "Arch: {name: DistillationModel, models: [{Student: 3}]}"),
        ("train", "Optimizer: {name: Adam, lr: {name: Cosin}}"),
        ("det", "LCNet: {scal: 1}"),
        ("det", "PicoHead: {loss_bbox: {name: GIoULos}}"),
    ],
)
def test_it_refuses_what_the_reader_refuses(kind: str, text: str, write: Write) -> None:
    assert mistakes(kind, yaml.safe_load(text))
    with pytest.raises(ConfigError):
        load_sections(ROOTS[kind], write(text))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (
            "inference",
            "RecPostProcess: null\nEval: null\nGlobal: {det_inference_model_dir: null, benchmark: true}",
        ),
        ("train", "Loss: {Train: [CELoss, TripletAngularMarginLoss: ]}\nMetric: {Eval: [mAP: {}]}"),
        ("train", "Arch: {name: RecModel, Backbone: {pretrained: true}, Neck: {name: FC, bias_attr: false}}"),
        ("train", "Arch: {name: DistillationModel, models: [{Student: {name: RecModel}}]}"),
        ("det", "EvalDataset: {name: COCODataSet, anno_path: x.json}"),
    ],
)
def test_it_takes_what_the_reader_takes(kind: str, text: str, write: Write) -> None:
    assert mistakes(kind, yaml.safe_load(text)) == []
    load_sections(ROOTS[kind], write(text))


def test_an_editor_shows_comments_defaults_and_what_has_no_effect() -> None:
    defs = shipped_schema("inference")["$defs"]
    keys = defs["Global"]["properties"]
    assert keys["threshold"] == {"default": 0.2, "maximum": 1, "minimum": 0, "type": "number"}
    assert keys["det_inference_model_dir"]["description"] == "None: no detector, whole images only"
    assert keys["enable_benchmark"] == {"deprecated": True, "description": "has no effect"}
    assert keys["output_dir"]["default"] == "./output"
    assert defs["DetPostProcess"]["description"] == "No keys: the exported detectors contain their own."


def sections(kind: type[Section]) -> Iterator[type[Section]]:
    """A kind of section and all that can stand below it."""
    yield kind
    below = [section_in(hint) for hint in keys_of(kind).values()]
    for each in (*kind.kinds().values(), *filter(None, below)):
        yield from sections(each)


def unread(hint: Any) -> Iterator[Any]:
    """The types in a type that no mark of keys.py reads."""
    inner = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if inner is hint:
        yield get_origin(hint) or hint
    for each in () if get_origin(inner) is dict else get_args(inner):
        yield from unread(each)


@pytest.mark.parametrize("kind", ROOTS)
def test_no_key_is_left_to_pydantics_own_reading(kind: str) -> None:
    """It would take yes for the number 1, and 5.0 for an int."""
    assert {*unread(tuple[int, ...]), *unread(Maybe[str])} >= {int, str, tuple}
    for section in {*sections(ROOTS[kind])}:
        for name, hint in keys_of(section).items():
            found = {each for each in unread(hint) if each in (bool, int, float, str, tuple)}
            assert not found, f"{section.__name__}.{name}: see shitu/config/keys.py"
