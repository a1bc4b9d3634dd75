"""paddleclas and paddledet side by side, and what is said when one is missing."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from shitu.errors import EngineError
from shitu.training.base import toolkits


def test_both_import_side_by_side() -> None:
    variants = toolkits.paddleclas("ppcls.arch.backbone.variant_models.pp_lcnetv2_variant")
    assert hasattr(variants, "PPLCNetV2_base_ShiTu")
    assert hasattr(toolkits.ppdet("modeling.architectures"), "PicoDet")


@pytest.mark.parametrize(("door", "package"), [(toolkits.paddleclas, "paddleclas"), (toolkits.ppdet, "ppdet")])
def test_missing_says_how_to_install(monkeypatch: pytest.MonkeyPatch, door: Any, package: str) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EngineError, match=r"--no-deps paddleclas==2\.6\.0 paddledet==2\.6\.0"):
        door("modeling")
