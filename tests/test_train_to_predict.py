"""From photos to names: train, evaluate, export, build a gallery, predict, by the commands of docs/training.md."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


def commands(text: str) -> list[str]:
    """The lines of the block that trains on the demo."""
    blocks = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (found,) = (block for block in blocks if "shitu predict" in block and "shitu train" in block)
    return [line for line in found.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands run: the repository's root, into which they may write."""
    root = tmp_path_factory.mktemp("root")
    for name in ("configs", "demo", "models"):
        (root / name).symlink_to(ROOT / name)
    program = root / "bin" / "shitu"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m shitu "$@"\n', encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return root


@pytest.fixture(scope="module")
def said(root: Path) -> dict[str, str]:
    """What each command printed on stdout, by the command's name."""
    environment = {**os.environ, "PATH": f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    outputs = {}
    for line in commands(PAGE):
        done = subprocess.run(line, shell=True, cwd=root, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        outputs[" ".join(line.split()[1:2] + [word for word in line.split() if word == "--dry-run"])] = done.stdout
    return outputs


def test_the_page_goes_all_the_way(said: dict[str, str]) -> None:
    assert list(said) == ["dataset", "train --dry-run", "train", "eval", "export", "build-gallery", "predict"]


def test_the_list_holds_every_picture(root: Path, said: dict[str, str]) -> None:
    assert len((root / "lists" / "all.txt").read_text(encoding="utf-8").splitlines()) == 240


def test_what_the_training_reports_is_what_eval_finds(said: dict[str, str]) -> None:
    trained, evaluated = json.loads(said["train"]), json.loads(said["eval"])
    assert evaluated["recall1"] == pytest.approx(trained["recall1"], abs=1e-6)
    assert evaluated["mAP"] == pytest.approx(trained["mAP"], abs=1e-6)


def test_training_itself_ends_with_the_same_model(root: Path, said: dict[str, str]) -> None:
    made = root / "output" / "train_demo" / "RecModel" / "inference"
    exported = root / "output" / "my_model"
    assert (made / "inference.pdiparams").read_bytes() == (exported / "inference.pdiparams").read_bytes()


def test_training_helped(root: Path) -> None:
    """On the pictures trained on, that is, and to the end: a network that collapses is best in an early epoch."""
    path = root / "output" / "train_demo" / "RecModel" / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    losses = [record["loss"] for record in records if "loss" in record]
    assert np.mean(losses[-5:]) < 0.87 * np.mean(losses[:5])
    recalls = [record["recall1"] for record in records if "recall1" in record]
    assert recalls[-1] > recalls[0] + 0.04


def test_the_exported_model_recognises_its_own_gallery(root: Path, said: dict[str, str]) -> None:
    record = json.loads(said["predict"])
    assert record["regions"] or record["image"].endswith("desk.jpg")
    assert (root / "output" / "my_model" / "model.yaml").is_file()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "shitu", "predict", "--no-pictures"),
            *("-o", "IndexProcess.index_dir=output/my_index", "-o", "IndexProcess.embedding_size=64"),
            *("-o", "Global.rec_inference_model_dir=output/my_model", "-o", "Global.det_inference_model_dir="),
            "demo/gallery",
        ],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    labels = dict(line.split("\t") for line in (ROOT / "demo" / "gallery.txt").read_text(encoding="utf-8").splitlines())
    records = [json.loads(line) for line in done.stdout.splitlines()]
    found = {
        each["image"].removeprefix("demo/"): [region["rec_docs"] for region in each["regions"]] for each in records
    }
    assert found == {path: [label] for path, label in labels.items()}
