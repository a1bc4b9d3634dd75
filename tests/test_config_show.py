"""`shitu config show`: every key, its value, and where that came from."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from shitu.cli import main
from shitu.config import load_config
from shitu.config.origins import explain
from shitu.config.schema import Config
from shitu.config.values import Section
from shitu.training.det.schema import DetConfig
from shitu.training.rec.schema import TrainConfig
from tests.conftest import Write
from tests.test_config_schema import ROOTS, SHIPPED


def origin(root: type[Section], path: Path, key: str, *overrides: str) -> tuple[str, str]:
    """Value and origin of one key."""
    return {row.key: (row.value, row.where) for row in explain(root, path, overrides)}[key]


def test_file_override_and_default(write: Write) -> None:
    path = write("# x\nGlobal:\n  threshold: 1e-3\n  image_shape:\n  - 3\n  - 320\n  - 320\nRecPostProcess: null\n")
    assert origin(Config, path, "Global.threshold") == ("0.001", "x.yaml:3")
    assert origin(Config, path, "Global.image_shape") == ("[3, 320, 320]", "x.yaml:4")
    assert origin(Config, path, "Global.batch_size") == ("1", "default")
    assert origin(Config, path, "RecPostProcess.Binarize") == ("null", "default")
    assert origin(Config, path, "Eval") == ("null", "default")
    assert origin(Config, path, "Eval.name", "Eval.name=2024") == ("'2024'", "-o Eval.name=2024")
    changed = "Global.image_shape.1=640"
    assert origin(Config, path, "Global.image_shape", changed) == ("[3, 640, 320]", f"x.yaml:4, -o {changed}")
    whole = "Global={batch_size: 2}"
    assert origin(Config, path, "Global.batch_size", whole) == ("2", f"-o {whole}")
    assert origin(Config, path, "Global.threshold", whole) == ("0.2", "default"), "the override replaced the section"


def test_kinds_by_name_by_key_and_by_tag(write: Write) -> None:
    path = write("Loss:\n  Train:\n  - CELoss:\n      epsilon: 0.1\n  - CELoss\nArch:\n  name: RecModel\n")
    assert origin(TrainConfig, path, "Loss.Train.0.CELoss.epsilon") == ("0.1", "x.yaml:4")
    assert origin(TrainConfig, path, "Loss.Train.1.CELoss.epsilon") == ("null", "default")
    assert origin(TrainConfig, path, "Arch.name") == ("RecModel", "x.yaml:7")
    path = write("TrainDataset:\n  !COCODataSet\n    sample_num: 3\n")
    assert origin(DetConfig, path, "TrainDataset.sample_num") == ("3", "x.yaml:3")
    assert origin(DetConfig, path, "TrainDataset.name") == ("COCODataSet", "x.yaml:1")


@pytest.mark.parametrize(("kind", "path"), SHIPPED, ids=lambda each: getattr(each, "stem", each))
def test_what_is_shown_can_be_given_back(kind: str, path: Path) -> None:
    """Every KEY=VALUE as an override of the same file changes nothing, and the file is blamed for no key twice."""
    rows = explain(ROOTS[kind], path)
    assert len({row.key for row in rows}) == len(rows)
    told = [row for row in rows if row.where != "default"]
    again = explain(ROOTS[kind], path, [f"{row.key}={row.value}" for row in told])
    assert [(row.key, row.value) for row in again] == [(row.key, row.value) for row in rows]
    assert all(row.where.startswith("-o ") for row in again if row.where != "default")


def test_a_whole_config_as_overrides_of_an_empty_one(write: Write) -> None:
    rows = explain(Config, SHIPPED[0][1])
    made = load_config(write("Eval: null"), [f"{row.key}={row.value}" for row in rows])
    assert made.replace("Global") == made
    for name in ("Global", "DetPreProcess", "RecPreProcess", "RecPostProcess", "IndexProcess", "Eval"):
        assert getattr(made, name) == getattr(load_config(SHIPPED[0][1]), name)


@pytest.mark.parametrize(("kind", "path"), SHIPPED, ids=lambda each: getattr(each, "stem", each))
def test_the_command_knows_the_kind(kind: str, path: Path) -> None:
    done = CliRunner().invoke(main, ["config", "show", "-c", str(path)])
    assert done.exit_code == 0, done.output
    rows = explain(ROOTS[kind], path)
    assert [line.split("=")[0] for line in done.stdout.splitlines()] == [row.key for row in rows]
    assert done.stdout.splitlines()[0].endswith(f"  # {rows[0].where}")


def test_the_command_without_a_file_and_with_a_mistake() -> None:
    done = CliRunner().invoke(main, ["config", "show", "-o", "Global.threshold=0.25"])
    assert "Global.threshold=0.25 " in done.stdout
    assert "  # -o Global.threshold=0.25\n" in done.stdout
    done = CliRunner().invoke(main, ["config", "show", "-o", "Global.treshold=0.25"])
    assert done.exit_code == 2
    assert "did you mean Global.threshold?" in done.stderr
