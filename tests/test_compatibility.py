"""docs/compatibility.md, row by row: every key is set, every command parsed, every test named is there."""

from __future__ import annotations

import ast
import logging
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
import yaml

from shitu.cli import main
from shitu.config import load_config
from shitu.config.schema import Config
from shitu.config.values import keys_of, section_in
from shitu.errors import ConfigError
from shitu.resources import bundled
from tests.conftest import ROOT, Write

PAGE = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")


def tables() -> dict[str, list[list[str]]]:
    """The rows, without heads, of the table below each heading."""
    found: dict[str, list[list[str]]] = {}
    for part in PAGE.split("\n## ")[1:]:
        rows = [line for line in part.splitlines() if line.startswith("|")]
        found[part.splitlines()[0]] = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]
    return found


TABLES = tables()
KEYS = TABLES["Keys of PaddleClas's inference files"]
ROWS = [(heading, row) for heading, rows in TABLES.items() for row in rows]
CODE = re.compile(r"`([^`]+)`")


def code(cell: str) -> str:
    found = CODE.fullmatch(cell)
    assert found, cell
    return found[1]


@pytest.mark.parametrize("row", KEYS, ids=lambda row: row[0].strip("`"))
def test_a_key(row: list[str], write: Write, caplog: pytest.LogCaptureFixture) -> None:
    key, example, here = code(row[0]), yaml.safe_load(code(row[1])), row[2]
    section, _, name = key.partition(".")
    content: dict[str, object] = {section: {name: example}} if name else {section: example}
    if key == "RecPostProcess.Binarize":
        content = {section: {"main_indicator": "Binarize", name: example}}
    path = write(yaml.safe_dump(content))
    if here == "refused":
        with pytest.raises(ConfigError, match=re.escape(key)):
            load_config(path)
        return
    load_config(path)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [f"{key} in" in text and "has no effect" in text for text in told] == [True] * (here == "no effect")
    assert here in ("read", "no effect")


def dotted(kind: type, prefix: str = "") -> set[str]:
    found: set[str] = set()
    for name, hint in keys_of(kind).items():
        inner = section_in(hint)
        found |= dotted(inner, f"{prefix}{name}.") if inner else {prefix + name}
    return found


def known_commands(group: click.Group, prefix: str = "shitu") -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        found[f"{prefix} {name}"] = command
        if isinstance(command, click.Group):
            found |= known_commands(command, f"{prefix} {name}")
    return found


COMMANDS = known_commands(main)


@pytest.mark.parametrize(("heading", "row"), ROWS, ids=[f"{heading[:12]}-{row[0]}" for heading, row in ROWS])
def test_what_a_row_names_is_there(heading: str, row: list[str]) -> None:
    """Our commands with their options, our keys with a value that they take, our tests."""
    ours = CODE.findall(" ".join(row if heading == "Files" else row[1:]))
    for text in ours:
        if text.startswith("shitu "):
            words = shlex.split(text.split(" > ")[0])
            name = max((each for each in COMMANDS if f"{' '.join(words)} ".startswith(f"{each} ")), key=len)
            options = {flag for option in COMMANDS[name].params for flag in option.opts}
            assert {word for word in words if word.startswith("-")} <= options, text
        for override in re.findall(r"-o (?:\"[^\"]*\"|[^\s\"])+", text):
            if "K=V" not in override:
                load_config(None, [shlex.split(override)[1]])
        if re.fullmatch(r"(Global|IndexProcess|RecPreProcess|DetPreProcess)\.\w+", text):
            section, name = text.split(".")
            assert name in keys_of(type(getattr(Config(), section))), text
        if text.startswith("tests/"):
            file, name = text.split("::")
            functions = {
                node.name
                for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8")))
                if isinstance(node, ast.FunctionDef)
            }
            assert name in functions, text
    if heading != "Keys of PaddleClas's inference files":
        assert ours or re.match("not here|nothing to say|refused", row[1]), "the row says nothing of shitu"


def test_our_configs_keys_are_there_or_our_own() -> None:
    """A key that is not in the table is one that PaddleClas does not have."""
    listed = {code(row[0]) for row in KEYS}
    own = {
        *("Global.rec_nms_within_labels", "Global.engine", "Global.precision", "Global.whole_image"),
        *("RecPreProcess.multi_crop", "RecPostProcess.Binarize.method", "IndexProcess.vote_k", "IndexProcess.crop"),
        *("IndexProcess.efSearch", "IndexProcess.nprobe", "IndexProcess.memory_limit"),
    }
    assert dotted(Config) - listed - {"DetPostProcess"} == own
    assert (bundled("configs") / "inference_general.yaml").exists()


# --- against PaddleClas itself ---------------------------------------------------------------------------------------

SPEC = find_spec("paddleclas")
PADDLECLAS = Path(SPEC.origin).parent if SPEC and SPEC.origin else None
needs_paddleclas = pytest.mark.skipif(PADDLECLAS is None, reason="paddleclas is not installed")


@needs_paddleclas
def test_every_key_of_its_files_has_a_row() -> None:
    assert PADDLECLAS is not None
    listed, files = {code(row[0]) for row in KEYS}, 0
    for path in sorted((PADDLECLAS / "deploy" / "configs").glob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if "inference_model_dir" in content["Global"]:
            with pytest.raises(ConfigError, match="image classification"):
                load_config(path)
            continue
        files += 1
        load_config(path)
        for section, values in content.items():
            assert {f"{section}.{name}" for name in values or {}} <= listed
    assert files == 10


@needs_paddleclas
def test_every_flag_of_its_command_has_a_row() -> None:
    assert PADDLECLAS is not None
    source = (PADDLECLAS / "paddleclas.py").read_text(encoding="utf-8")
    flags = set(re.findall(r'"(--[a-z_0-9]+)"', source))
    assert flags == {code(row[0]) for row in TABLES["Flags of the `paddleclas` command"]}
