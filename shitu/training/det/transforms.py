"""ppdet's operators from a reader's lists: each name and option checked, then run with randomness of our own.

ppdet's operators draw from numpy's and Python's global generators. Those are seeded anew for every sample and for
every batch, so that a batch is a function of (seed, epoch, stream, index) in whatever process it is made.
"""

from __future__ import annotations

import difflib
import inspect
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from shitu.config.keys import Operators
from shitu.config.values import BadValueError
from shitu.errors import ConfigError
from shitu.recognise.transform_ops import split_operator
from shitu.training.base.toolkits import ppdet
from shitu.training.det.schema import Reader, checked_size

Sample = dict[str, Any]  # image (h, w, 3) uint8 RGB, gt_bbox (k, 4) float32, gt_class (k, 1) int32, is_crowd, h, w ...
Operator = Callable[[Any], Any]

SAMPLE_OPERATORS = (
    *("Decode", "RandomCrop", "RandomFlip", "RandomDistort", "RandomExpand", "Resize", "NormalizeImage", "Permute"),
)
BATCH_OPERATORS = ("BatchRandomResize", "Resize", "PadBatch", "NormalizeImage", "Permute")


def compile_reader(reader: Reader, where: str) -> tuple[list[Operator], list[Operator], tuple[int, int]]:
    """Operators for one sample, operators for a batch, and the largest (height, width) they make of a picture.

    Raises ConfigError on an unknown operator or option, and where pictures of a batch would differ in size.
    """
    parts = (
        ("sample_transforms", reader.sample_transforms, SAMPLE_OPERATORS),
        ("batch_transforms", reader.batch_transforms, BATCH_OPERATORS),
    )
    of_sample, of_batch = (_compiled(operators, known, f"{where}.{key}") for key, operators, known in parts)
    named = {name: options for _, operators, _ in parts for each in operators for name, options in each.items()}
    if not {"Resize", "BatchRandomResize"} & set(named) or not {"NormalizeImage", "Permute"} <= set(named):
        raise ConfigError(
            f"{where}: its transforms are {', '.join(named) or 'none'}; Resize or BatchRandomResize, NormalizeImage "
            "and Permute are wanted among them"
        )
    sizes = [size for name, options in named.items() if "Resize" in name for size in _sizes(name, options, where)]
    return of_sample, of_batch, (max(height for height, _ in sizes), max(width for _, width in sizes))


def _compiled(operators: Operators, known: Sequence[str], where: str) -> list[Operator]:
    """Instances of ppdet's classes; Decode is left out, since images are decoded here."""
    module = ppdet("data.transform")
    compiled: list[Operator] = []
    for number, each in enumerate(operators):
        key = f"{where}.{number}"
        name, options = split_operator(each, known, key)
        kind = getattr(module, name)
        _check_options(kind, name, options, key)
        if name == "Decode":
            continue
        try:
            compiled.append(kind(**options))
        except (TypeError, ValueError, AssertionError) as error:
            raise ConfigError(f"{key}, {name}: {error}") from None
    return compiled


def _sizes(name: str, options: dict[str, Any], where: str) -> list[tuple[int, int]]:
    """The (height, width) that a Resize or BatchRandomResize can make. Raises BadValueError."""
    key, target = f"{where}, {name}", options["target_size"]
    if options.get("keep_ratio"):
        raise BadValueError(f"{key}.keep_ratio", True, "false is wanted: pictures of a batch have one size")
    if name == "BatchRandomResize" and options.get("random_size", True):
        if not isinstance(target, list) or not target:
            raise BadValueError(f"{key}.target_size", target, "a list of sizes is wanted")
        return [checked_size(size, f"{key}.target_size") for size in target]
    return [checked_size(target, f"{key}.target_size")]


def _check_options(kind: type, name: str, options: Mapping[str, Any], key: str) -> None:
    parameters = {each: p for each, p in inspect.signature(kind).parameters.items() if each != "self"}
    for option in options:
        if option not in parameters:
            near = difflib.get_close_matches(str(option), parameters, n=1, cutoff=0.5)
            advice = f"did you mean {near[0]}?" if near else f"its options: {', '.join(parameters) or 'none'}"
            raise ConfigError(f"{key}: {name} has no option {option}; {advice}")
    if missing := [each for each, p in parameters.items() if p.default is p.empty and each not in options]:
        raise ConfigError(f"{key}: {name} wants {', '.join(missing)}")


def run(operators: Sequence[Operator], given: Any, *seeds: int) -> Any:
    """The operators one after the other, on a sample or a list of samples, with randomness from `seeds` alone."""
    state = np.random.SeedSequence(seeds).generate_state(2)
    np.random.seed(int(state[0]))
    random.seed(int(state[1]))
    logging.getLogger("ppdet.data.transform.operators").setLevel(logging.ERROR)
    for operator in operators:
        given = operator(given)
    return given
