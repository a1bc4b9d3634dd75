"""The bundled models do what their model.yaml says: measured again on tests/data/cards, which is in the repository."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import struct
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from shitu import resources
from shitu.cli import main
from shitu.digest import sha256_of
from shitu.models.folder import model_folders
from shitu.models.model_yaml import MODEL_YAML, read_model_yaml
from shitu.models.verify import verify_model
from tests.conftest import ROOT, SHARED

CARDS = ROOT / "tests" / "data" / "cards"
MODELS = model_folders(resources.bundled("models"))
RECOGNISERS = [folder for folder in MODELS if read_model_yaml(folder / MODEL_YAML).task == "recognition"]
JUICE = SHARED / "data" / "juice"


def by_name(folder: Path) -> str:
    return folder.name


@pytest.fixture(scope="module")
def cards() -> ModuleType:
    """benchmarks/measure_cards.py."""
    pytest.importorskip("pycocotools", reason="wants the extra `train`")
    spec = importlib.util.spec_from_file_location("measure_cards", ROOT / "benchmarks" / "measure_cards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["measure_cards"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


# --- the models ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", MODELS, ids=by_name)
def test_a_model_is_as_good_as_its_card(folder: Path, cards: ModuleType) -> None:
    assert cards.below_card(folder, cards.measure(folder)) == []


@pytest.mark.parametrize("folder", MODELS, ids=by_name)
def test_a_worse_model_is_noticed(folder: Path, cards: ModuleType, tmp_path: Path) -> None:
    """Weights a little off, as a bad conversion leaves them; nothing else would tell, for the checksums are right."""
    worse = damaged(folder, tmp_path / folder.name, noise=0.2)
    assert verify_model(worse) == []
    problems = cards.below_card(worse, cards.measure(worse))
    assert problems
    assert all(re.search(r"the card says 0\.\d{4}, measured 0\.\d{4}; at most", problem) for problem in problems)


@pytest.mark.parametrize("folder", MODELS, ids=by_name)
def test_a_worse_int8_program_is_noticed(folder: Path, cards: ModuleType, tmp_path: Path) -> None:
    """One that is made here, so that it holds for models that come without."""
    onnx = pytest.importorskip("onnx", reason="wants the extra `onnx`")
    made, photos = tmp_path / folder.name, CARDS / ("detector" if "picodet" in folder.name else "recogniser")
    quantised = ["quantize", folder, "--out", made, "--images", photos, "--count", 4]
    CliRunner().invoke(main, [*map(str, quantised), "--method", "minmax", "--groups", "2"])
    figures = cards.measure(made)
    assert sum(" in int8:" in figure.what for figure in figures) == len(figures) / 2
    cards.write(made, figures)
    assert cards.below_card(made, figures) == []
    network = onnx.load(made / "inference_int8.onnx")
    for tensor in network.graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1:
            weights = onnx.numpy_helper.to_array(tensor)
            off = weights * (1 + np.random.default_rng(0).normal(0, 0.5, weights.shape))
            tensor.raw_data = np.clip(off, -127, 127).astype(np.int8).tobytes()
    onnx.save(network, made / "inference_int8.onnx")
    problems = cards.below_card(made, cards.measure(made))
    assert problems
    assert all(" in int8:" in problem for problem in problems)


@pytest.mark.parametrize("folder", RECOGNISERS, ids=by_name)
def test_juice_as_the_card_says(folder: Path, cards: ModuleType) -> None:
    """On real photos, which lie beside the repository."""
    if not (JUICE / "test.txt").is_file():
        pytest.skip(f"the juice photos are not there ({JUICE})")
    assert cards.below_card(folder, cards.measure_juice(folder)) == []


def damaged(folder: Path, target: Path, noise: float) -> Path:
    """A copy with every weight off by a random share of itself, `noise` on the average, and checksums to match."""
    shutil.copytree(folder, target)
    content: dict[str, Any] = yaml.safe_load((target / MODEL_YAML).read_text(encoding="utf-8"))
    params = target / content["params"]
    params.write_bytes(noisy(params.read_bytes(), noise))
    content["files"][params.name] = {"size": params.stat().st_size, "sha256": sha256_of(params)}
    (target / MODEL_YAML).write_text(yaml.safe_dump(content), encoding="utf-8")
    return target


def noisy(params: bytes, noise: float) -> bytes:
    """Of each tensor in a .pdiparams: version, levels (none), version, length of a description, that, the numbers."""
    rng, changed, at = np.random.default_rng(0), bytearray(params), 0
    while at < len(params):
        version, levels, again, length = struct.unpack_from("<IQIi", params, at)
        assert (version, levels, again) == (0, 0, 0)
        kind, dims = described(params[at + 20 : at + 20 + length])
        at += 20 + length
        count = int(np.prod(dims))
        if kind == 5:  # float32
            weights = np.frombuffer(params, np.float32, count, at)
            off = weights * (1 + rng.normal(0, noise, count))
            changed[at : at + 4 * count] = off.astype(np.float32).tobytes()
        at += count * {2: 4, 3: 8, 4: 2, 5: 4, 6: 8, 20: 1, 21: 1, 22: 2}[kind]  # framework.proto, VarType.Type
    return bytes(changed)


def described(text: bytes) -> tuple[int, list[int]]:
    """Kind of number and sizes: a protobuf of varints, field 1 and, once for each dimension, field 2."""
    values, value, shift = [], 0, 0
    for byte in text:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            values.append(value)
            value, shift = 0, 0
    assert values[0] == 8
    assert set(values[2::2]) <= {16}
    return values[1], values[3::2]


# --- the cards -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", MODELS, ids=by_name)
def test_every_figure_has_a_command_that_exists(folder: Path) -> None:
    rows = read_model_yaml(folder / MODEL_YAML).measured
    assert rows
    for row in rows:
        assert row["command"], f"{row['what']!r} has no command"
        for command in re.split(r"&&|;", row["command"]):
            program, what, *rest = shlex.split(command)
            if program == "shitu":
                assert what in main.commands, f"{row['command']!r}: there is no `shitu {what}`"
            else:
                assert program == "python", f"{row['command']!r}: wanted `python [-m] SCRIPT` or `shitu COMMAND`"
                script = f"{rest[0].replace('.', '/')}.py" if what == "-m" else what
                assert (ROOT / script).is_file(), f"{row['command']!r}: there is no {script}"


@pytest.mark.parametrize("folder", MODELS, ids=by_name)
def test_the_docs_have_a_section_for_each_model(folder: Path) -> None:
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert re.search(rf"^#+ .*\b{re.escape(folder.name)}\b", text, re.MULTILINE), "docs/models.md: no heading names it"


@pytest.mark.parametrize("folder", MODELS[:1], ids=by_name)
def test_a_card_without_the_figures_is_noticed(folder: Path, cards: ModuleType) -> None:
    (problem,) = cards.below_card(folder, [cards.Figure("card set 0123abcd: Recall@1", 0.5, 0.01)])
    assert "`measured` has no number for 'card set 0123abcd: Recall@1' (measured: 0.5000)" in problem
    assert "--write" in problem


def test_the_tolerance(cards: ModuleType, tmp_path: Path) -> None:
    folder = described_model(tmp_path / "m", '  - {what: "card set: a", value: 0.75}\n')
    for value, fine in ((0.76, True), (0.75, True), (0.741, True), (0.739, False)):
        assert (cards.below_card(folder, [cards.Figure("card set: a", value, 0.01)]) == []) == fine


CARD = """\
# a comment
name: m
version: 1
task: recognition
program: inference.json
params: inference.pdiparams
dimension: 8
preprocess: {size: [2, 2], interpolation: bilinear, scale: 1.0/255.0, mean: [0, 0, 0], std: [1, 1, 1]}
"""


def described_model(folder: Path, measured: str) -> Path:
    folder.mkdir()
    (folder / MODEL_YAML).write_text(f"{CARD}{'measured:' * bool(measured)}\n{measured}", encoding="utf-8")
    return folder


MEASURED = [
    '  - {what: "card set 1: old", value: 0.1}\n  - {what: kept, value: 2, command: python x.py}\n',
    "- what: kept\n  value: 2\n  command: python x.py\n- what: 'card set 1: old'\n  value: 1\nlicence: MIT\n",
    "# about\n- what: >\n    kept\n  value: 2\n\n- {what: kept too, value: 3}\n",
    "  []\nlicence: MIT\n",
    "",
]


@pytest.mark.parametrize("measured", MEASURED, ids=["flow", "block", "folded", "empty", "none"])
def test_writing_into_a_card(measured: str, cards: ModuleType, tmp_path: Path) -> None:
    folder = described_model(tmp_path / "m", measured)
    if "[]" in measured:
        (folder / MODEL_YAML).write_text(f"{CARD}measured: []\nlicence: MIT\n", encoding="utf-8")
    before = read_model_yaml(folder / MODEL_YAML)
    figures = [cards.Figure("card set 2: a", 0.123456, 0.01), cards.Figure("card set 2: b", 1.0, 0.01)]
    cards.write(folder, figures)
    text = (folder / MODEL_YAML).read_text(encoding="utf-8")
    card = read_model_yaml(folder / MODEL_YAML)
    assert text.startswith(CARD)
    assert (card.name, card.licence) == (before.name, before.licence)
    kept = [row for row in before.measured if "old" not in row["what"]]
    command = "python benchmarks/measure_cards.py models/m"
    assert list(card.measured) == [
        *kept,
        {"what": "card set 2: a", "value": 0.1235, "command": command},
        {"what": "card set 2: b", "value": 1.0, "command": command},
    ]
    cards.write(folder, figures)
    assert (folder / MODEL_YAML).read_text(encoding="utf-8") == text
    assert cards.below_card(folder, figures) == []


def test_a_card_that_cannot_be_changed_line_by_line(cards: ModuleType, tmp_path: Path) -> None:
    folder = described_model(tmp_path / "m", "")
    text = f"{CARD}measured: [{{what: kept, value: 2}}]\n"
    (folder / MODEL_YAML).write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit, match="`measured` is not one entry after another"):
        cards.write(folder, [cards.Figure("card set 2: a", 0.5, 0.01)])
    assert (folder / MODEL_YAML).read_text(encoding="utf-8") == text


# --- the set ---------------------------------------------------------------------------------------------------------


def test_the_set_is_small_and_whole() -> None:
    """150 crops, of which 24 show what no gallery picture does, and nothing that its lists do not name."""
    lists = {}
    for name in ("gallery.txt", "query.txt"):
        lines = (CARDS / "recogniser" / name).read_text(encoding="utf-8").splitlines()
        lists[name] = dict(line.split("\t") for line in lines)
    gallery, queries = lists["gallery.txt"], lists["query.txt"]
    there = {path.relative_to(CARDS / "recogniser").as_posix() for path in (CARDS / "recogniser").rglob("*.jpg")}
    assert there == set(gallery) | set(queries)
    assert len(gallery) == len(set(gallery.values())) == 42
    assert sum(label not in gallery.values() for label in queries.values()) == 24
    assert len(queries) == 150
    assert sum(path.stat().st_size for path in CARDS.rglob("*") if path.is_file()) < 2_500_000
    assert "Apache" in (CARDS / "LICENSES.md").read_text(encoding="utf-8")
