"""Files that are no YAML mapping, overrides that lead nowhere, and random configurations, read back."""

from __future__ import annotations

import random
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from shitu.config import load_config
from shitu.config.schema import Global, IndexProcess
from shitu.errors import ConfigError
from shitu.resources import bundled
from tests.conftest import Write, refusal

# --- files that are no YAML mapping ----------------------------------------------------------------------------

LAUGHS = "a: &a0 [x, x]\n" + "".join(f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
NOT_YAML = [
    ("", "x.yaml is empty; sections such as Global: are wanted"),
    ("# only this\n", "x.yaml is empty; sections such as Global: are wanted"),
    ("- a\n", "x.yaml holds a list; a mapping of sections such as Global: is wanted"),
    ("hello", "x.yaml holds a str; a mapping of sections such as Global: is wanted"),
    (
        "Global:\n\tbatch_size: 1\n",
        "x.yaml, line 2, column 1: found character '\\t' that cannot start any token; indent with spaces, not tabs",
    ),
    ("Global:\n  a: [1\n", "x.yaml, line 3, column 1: expected ',' or ']', but got '<stream end>'"),
    ("Global: {}\n---\nEval: {}\n", "x.yaml, line 2, column 1: but found another document"),
    (
        "Global: !!python/object/apply:os.getcwd []\n",
        "x.yaml, line 1, column 9: could not determine a constructor for the tag "
        "'tag:yaml.org,2002:python/object/apply:os.getcwd'; only plain values are read, no objects",
    ),
    (
        "Global:\n  batch_size: 1\n  use_gpu: no\n  batch_size: 2\n",
        "x.yaml, line 4: batch_size is there already, in line 2; keep one",
    ),
    ("Global: {}\nGlobal: {}\n", "x.yaml, line 2: Global is there already, in line 1; keep one"),
    ("Global: {}\nEval: {name: *nobody}\n", "x.yaml, line 2, column 14: found undefined alias 'nobody'"),
    ("Global: {}\nEval: {name: \x07}\n", "x.yaml, line 2: special characters are not allowed (#x0007); take it out"),
    ("Eval: {name: 2024-13-45}", "x.yaml: a value cannot be read (month must be in 1..12); put text in quotes"),
    ("Eval: {name: !!bool maybe}", "x.yaml: a value cannot be read ('maybe'); put text in quotes"),
    ("Eval: {[a]: b}", "x.yaml, line 1, column 8: found unhashable key"),
    (LAUGHS, "x.yaml grows beyond 100,000 values once its aliases (*) are written out; use fewer"),
    ("Eval: &e {name: *e}\n", "x.yaml, line 1: nested too deeply; at most 50 levels are read, write fewer"),
    ("Eval: " + "[" * 60 + "]" * 60, "x.yaml, line 1: nested too deeply; at most 50 levels are read, write fewer"),
    ("[" * 400_000, "x.yaml is nested too deeply; at most 50 levels are read, write fewer"),
    ("# " + "x" * 1_000_000, "x.yaml has more than 1,000,000 bytes; shitu reads no YAML as long as that, name another"),
]


@pytest.mark.parametrize(("text", "message"), NOT_YAML, ids=range(len(NOT_YAML)))
def test_not_a_configuration(text: str, message: str, write: Write) -> None:
    assert refusal(write(text)) == message


def test_not_a_file(write: Write) -> None:
    write("")
    configs = bundled("configs")
    assert refusal("y.yaml").startswith(
        f"No file y.yaml; the bundled ones, in {configs}, are called cartoon, det, drink"
    )
    near = configs / "inference_logo.yaml"
    assert refusal("inference_logo.yaml") == f"No file inference_logo.yaml; did you mean {near}?"
    assert refusal(".").startswith(". is a directory; a YAML file is wanted")
    assert refusal("a\0b").startswith("Cannot read 'a\\x00b': ")
    Path("x.yaml").write_bytes("Global: {}\n# caf\xe9".encode("latin-1"))
    assert refusal("x.yaml").startswith("x.yaml, line 2: not UTF-8 text (")
    Path("x.yaml").write_text("Global: {}", encoding="utf-16")
    assert refusal("x.yaml").startswith("x.yaml, line 1: not UTF-8 text (")


# --- overrides -------------------------------------------------------------------------------------------------

BAD_OVERRIDES = [
    ("Global.threshold", "Cannot read -o Global.threshold; write section.key=value, such as -o Global.threshold=0.3"),
    ("=3", "Cannot read -o =3; write section.key=value, such as -o Global.threshold=0.3"),
    ("Global..x=3", "Cannot read -o Global..x=3; write section.key=value, such as -o Global.threshold=0.3"),
    ("", "Cannot read -o ; write section.key=value, such as -o Global.threshold=0.3"),
    ("Global.treshold=1", "Unknown key Global.treshold in -o Global.treshold=1; did you mean Global.threshold?"),
    ("Globl.threshold=1", "Unknown section Globl in -o Globl.threshold=1; did you mean Global?"),
    ("threshold=1", "Unknown section threshold in -o threshold=1; did you mean Global.threshold?"),
    (
        "Global.threshold=2",
        "Global.threshold is 2.0 (float) in -o Global.threshold=2; a number between 0 and 1 is wanted",
    ),
    (
        "Global={threshold: 2}",
        "Global.threshold is 2.0 (float) in -o Global={threshold: 2}; a number between 0 and 1 is wanted",
    ),
    ("Global.batch_size=two", "Global.batch_size is 'two' (text) in -o Global.batch_size=two; an int is wanted"),
    (
        "Global.label_list=[no]",
        "Global.label_list.0 is False (bool) in -o Global.label_list=[no]; text is wanted; "
        "YAML reads an unquoted no, yes, on, off, true or false as a bool: put it in quotes",
    ),
    ("Global.label_list.1=a", "-o Global.label_list.1=a: Global.label_list has no entry 1; its last is 0"),
    (
        "Global.label_list.-1=a",
        "-o Global.label_list.-1=a: Global.label_list is a list; write a number from 0 instead of -1",
    ),
    (
        "Global.label_list.99999999999999=a",
        "-o Global.label_list.99999999999999=a: Global.label_list has no entry 99999999999999; its last is 0",
    ),
    (
        "Global.label_list.0.a=1",
        "-o Global.label_list.0.a=1: Global.label_list.0 is 'cup', and nothing can be set inside that; set "
        "Global.label_list.0 itself",
    ),
    (
        "Global.threshold.a=1",
        "-o Global.threshold.a=1: Global.threshold is 0.2, and nothing can be set inside that; set "
        "Global.threshold itself",
    ),
    (
        "RecPreProcess.transform_ops.0.A=1",
        "-o RecPreProcess.transform_ops.0.A=1: RecPreProcess.transform_ops is not set and has no entry 0; "
        "set the whole list: -o 'RecPreProcess.transform_ops=[...]'",
    ),
    (
        "IndexProcess.delimiter=",
        "IndexProcess.delimiter is null in -o IndexProcess.delimiter=; text is wanted; leave it out for the default",
    ),
]


@pytest.mark.parametrize(("override", "message"), BAD_OVERRIDES, ids=range(len(BAD_OVERRIDES)))
def test_bad_override(override: str, message: str, write: Write) -> None:
    path = write("Global: {threshold: 0.2, label_list: [cup]}\nRecPreProcess: null")
    assert refusal(path, override) == message


def test_the_file_is_blamed_for_its_own_mistakes_and_no_other(write: Write) -> None:
    path = write("Global: {threshold: 7}")
    assert "Global.threshold is 7.0 (float) in x.yaml;" in refusal(path, "Global.batch_size=2")
    assert load_config(path, ["Global.threshold=0.7"]).Global.threshold == 0.7
    late = refusal(path, "Global.threshold=9", "Global={threshold: 8}")
    assert "is 8.0 (float) in -o Global={threshold: 8};" in late


# --- random configurations -------------------------------------------------------------------------------------

TEXTS = [
    "a",
    "no",
    "None of it",
    "1e5",
    "x: y",
    "可乐",
    " # b",
    "'",
    '"',
    "a=b",
    "[",
    "\\",
    "{}",
    "~x",
    "-",
    "\t",
    "é\n",
]


def some_values(rng: random.Random) -> dict[str, dict[str, Any]]:
    values: dict[str, dict[str, Any]] = {
        "Global": {
            "infer_imgs": "./" + rng.choice(TEXTS),
            "det_inference_model_dir": rng.choice([None, "./" + rng.choice(TEXTS)]),
            "threshold": rng.choice([rng.random(), 10 ** -rng.uniform(0, 12)]),
            "batch_size": rng.randint(1, 1024),
            "label_list": ["x" + rng.choice(TEXTS) for _ in range(rng.randint(1, 4))],
            "use_gpu": rng.random() < 0.5,
            "whole_image": rng.choice(["always", "fallback", "never"]),
        },
        "IndexProcess": {
            "dist_type": rng.choice(["IP", "L2", "hamming"]),
            "embedding_size": 8 * rng.randint(1, 999),
            "delimiter": rng.choice(["\t", " ", ",", "::", "#", "'", "no", "=", "|"]),
            "nprobe": rng.choice([None, 3]),
        },
    }
    return {name: {k: v for k, v in keys.items() if rng.random() < 0.7} for name, keys in values.items()}


@pytest.mark.parametrize("seed", range(60))
def test_a_random_configuration_is_read_back(seed: int, write: Write) -> None:
    """From a file, and the same values as overrides of an all but empty one."""
    values = some_values(random.Random(seed))
    as_file = load_config(write(yaml.safe_dump(values, allow_unicode=bool(seed % 2))))
    overrides = [
        f"{section}.{key}={yaml.safe_dump(value, default_flow_style=True, default_style=chr(34), width=10**6)}"
        if isinstance(value, (str, list))
        else f"{section}.{key}={value}"
        for section, keys in values.items()
        for key, value in keys.items()
    ]
    as_overrides = load_config(write("Eval: null"), overrides)
    for kind in (Global, IndexProcess):
        given = values[kind.__name__]
        for config in (as_file, as_overrides):
            section = getattr(config, kind.__name__)
            for each in fields(kind):
                wanted = given.get(each.name, each.default)
                assert getattr(section, each.name) == (tuple(wanted) if isinstance(wanted, list) else wanted)


@pytest.mark.parametrize("seed", range(5))
def test_a_damaged_file_is_refused_or_read_but_never_crashes(seed: int, write: Write) -> None:
    rng = random.Random(seed)
    text = (bundled("configs") / "inference_general_binary.yaml").read_text(encoding="utf-8")
    told = []
    for _ in range(15):
        start = rng.randrange(len(text))
        junk = "".join(rng.choice("{}[]:,&*!|>'\"%@`#-? \n\tab01.~<") for _ in range(rng.randint(0, 4)))
        path = write(text[:start] + junk + text[start + rng.randint(0, 6) :])
        try:
            load_config(path)
        except ConfigError as error:
            told.append(str(error))
    assert all("x.yaml" in message for message in told)
