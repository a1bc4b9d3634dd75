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


def mainbody(factory: pytest.TempPathFactory) -> Path:
    """PaddleClas's official detector program (.pdmodel) with random weights: real shapes and times, no real boxes."""
    program = SHARED / "models/mainbody_program/inference.pdmodel"
    if not program.is_file():
        pytest.skip(f"the official mainbody program is not there ({program})")
    folder = factory.getbasetemp() / "mainbody"
    if not folder.exists():
        run_python(SHARED / "tools/random_params.py", program, folder, FLAGS_enable_pir_api="0")
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
