"""The models on which shitu is compared with PaddleClas; made once per test run, in a subprocess each."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT as HERE
from tests.conftest import SHARED

BUNDLED_RECOGNISER = HERE / "models/efficientnet_lite0_512"

RANDOM_WEIGHTS = """
import sys, paddle
from paddleclas.ppcls.arch.backbone.variant_models.pp_lcnetv2_variant import PPLCNetV2_base_ShiTu
paddle.seed(0)
paddle.save(PPLCNetV2_base_ShiTu(class_expand=512).state_dict(), sys.argv[1])
"""


# The vector of 8 is what a box's sides are counted in.
LIVELY = (
    ("value = np.zeros(shape)", "value = np.arange(8.0) if shape == (8,) else rng.normal(0, 0.3, shape)"),
    ("value = rng.normal(0, 0.05, shape)", "value = rng.normal(0, (2.0 / np.prod(shape[1:])) ** 0.5, shape)"),
)


def run_python(*arguments: str | Path, **environment: str) -> str:
    """What a Python program prints; a failing test with its last words where it fails."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=HERE, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.fail(f"{' '.join(command)[:300]}: status {done.returncode}\n{done.stderr[-3000:]}")
    return done.stdout


def need_paddleclas() -> None:
    if importlib.util.find_spec("paddleclas") is None:
        pytest.skip("wants `pip install --no-deps paddleclas==2.6.0` and the extra `train`")


def mainbody(factory: pytest.TempPathFactory, *, boxes: bool = False) -> Path:
    """PaddleClas's official detector program (.pdmodel) with random weights: real shapes and times, no real boxes.

    `boxes`: weights of such sizes that scores and boxes differ from cell to cell; else all boxes are points.
    """
    program = SHARED / "models/mainbody_program/inference.pdmodel"
    if not program.is_file():
        pytest.skip(f"the official mainbody program is not there ({program})")
    folder = factory.getbasetemp() / f"mainbody-{boxes}"
    tool = SHARED / "tools/random_params.py"
    if boxes:
        text = tool.read_text(encoding="utf-8")
        for plain, better in LIVELY:
            assert plain in text, f"{tool} has changed"
            text = text.replace(plain, better)
        tool = factory.mktemp("tool") / "random_params.py"
        tool.write_text(text, encoding="utf-8")
    if not folder.exists():
        run_python(tool, program, folder, FLAGS_enable_pir_api="0")
    return folder


def pplcnetv2(factory: pytest.TempPathFactory, legacy: bool = True) -> Path:
    """PP-LCNetV2 as .pdmodel or .json, with the weights of ../shared, or random ones where there is no ../shared."""
    need_paddleclas()
    folder = factory.getbasetemp() / f"pplcnetv2-{'legacy' if legacy else 'json'}"
    if folder.exists():
        return folder
    weights = SHARED / "models/pplcnetv2_base_shitu_distilled_v0/backbone.pdparams"
    if not weights.is_file():
        weights = factory.mktemp("weights") / "random.pdparams"
        run_python("-c", RANDOM_WEIGHTS, weights)
    run_python("benchmarks/export_pplcnetv2.py", weights, folder, *(["--legacy"] if legacy else []))
    return folder
