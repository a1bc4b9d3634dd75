"""Weights of an exported Paddle program, by the number of their layer."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Weights = dict[str, NDArray[np.float32]]


def exported(folder: Path) -> Weights:
    """`convN.weight`, `convN.bias`, `linear.weight`, `linear.bias` of inference.json, N counting in building order."""
    import paddle

    operators = json.loads((folder / "inference.json").read_text())["program"]["regions"][0]["blocks"][0]["ops"]
    # Paddle stores the parameters in the order of their names, and forgets the names.
    names = sorted(op["A"][3] for op in operators if op["#"] == "p")
    arrays = [value.numpy() for value in paddle.jit.load(str(folder / "inference")).state_dict().values()]
    shapes = {op["A"][3]: tuple(op["O"]["TT"]["D"][1]) for op in operators if op["#"] == "p"}
    wrong = [n for n, a in zip(names, arrays, strict=True) if shapes[n] != a.shape]
    if wrong:
        raise SystemExit(f"{folder}: the program and its weights are in different orders, at {wrong[0]}")
    layers: dict[int, dict[str, NDArray[np.float32]]] = {}
    found: Weights = {}
    for name, array in zip(names, arrays, strict=True):
        if match := re.fullmatch(r"conv2d_(\d+)\.([wb])_0", name):
            layers.setdefault(int(match[1]), {})[{"w": "weight", "b": "bias"}[match[2]]] = array
        elif match := re.fullmatch(r"linear_\d+\.([wb])_0", name):
            found[f"linear.{ {'w': 'weight', 'b': 'bias'}[match[1]] }"] = array
    for i, number in enumerate(sorted(layers)):
        found |= {f"conv{i}.{kind}": array for kind, array in layers[number].items()}
    return found


def as_half(weights: Weights) -> dict[str, NDArray[np.generic]]:
    """Matrices in float16, vectors as they are."""
    return {n: a.astype(np.float16) if a.ndim > 1 else a for n, a in weights.items()}
