"""Configurations: PaddleClas's own files unmodified, precedence, overrides, and what every mistake is told."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from shitu.config import Config, load_config
from shitu.config.schema import Eval, Global, IndexProcess, RecPostProcess
from shitu.errors import ConfigError
from shitu.resources import bundled
from tests.conftest import Write

SHIPPED = sorted(bundled("configs").glob("*.yaml"))
OFFICIAL = (
    *(f"inference_{name}" for name in ("general", "general_binary", "drink", "logo", "product")),
    *(f"inference_{name}" for name in ("vehicle", "cartoon", "rec", "det")),
    "evaluation_general",
)


# --- shipped and official files ------------------------------------------------------------------------------


def wheel_config(name: str) -> Path:
    roots = [Path(os.environ.get("SHITU_PADDLECLAS_WHEEL_DIR", "/nonexistent")) / "paddleclas"]
    if spec := importlib.util.find_spec("paddleclas"):
        roots += map(Path, spec.submodule_search_locations or ())
    for root in roots:
        if (path := root / "deploy" / "configs" / f"{name}.yaml").is_file():
            return path
    pytest.skip("no paddleclas 2.6.0: pip install --no-deps paddleclas==2.6.0, or set SHITU_PADDLECLAS_WHEEL_DIR")


def assert_holds(config: Any, raw: dict[str, Any]) -> None:
    """Every value of the YAML is the value of the field of that name; lists came out as tuples."""
    for key, value in raw.items():
        held = getattr(config, key, "missing")
        if isinstance(value, dict):
            assert_holds(held, value)
        elif isinstance(value, list):
            assert list(held) == value, key
        elif value is not None:
            assert held == value, key
            assert type(held) is type(value), key


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_config_loads_unmodified(name: str, caplog: pytest.LogCaptureFixture) -> None:
    path = wheel_config(name)
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    with caplog.at_level(logging.WARNING, "shitu"):
        config = load_config(path)
    assert [record.getMessage() for record in caplog.records] == [f"Global.enable_benchmark in {path} has no effect"]
    del raw["Global"]["enable_benchmark"]
    assert_holds(config, raw)


@pytest.mark.parametrize("name", [name for name in OFFICIAL if name != "inference_general"])
def test_our_copy_says_what_the_official_says(name: str) -> None:
    official = yaml.safe_load(wheel_config(name).read_text(encoding="utf-8"))
    ours = yaml.safe_load((bundled("configs") / f"{name}.yaml").read_text(encoding="utf-8"))
    del official["Global"]["enable_benchmark"]
    official["Global"]["output_dir"] = "./output"
    assert ours == official


def test_our_general_has_the_keys_of_the_official_in_its_order() -> None:
    official = yaml.safe_load(wheel_config("inference_general").read_text(encoding="utf-8"))
    ours = yaml.safe_load((bundled("configs") / "inference_general.yaml").read_text(encoding="utf-8"))
    del official["Global"]["enable_benchmark"]
    assert list(ours) == list(official)
    for section in ("Global", "IndexProcess"):
        assert [key for key in ours[section] if key in official[section]] == list(official[section])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_config_loads_without_a_warning(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "shitu"):
        config = load_config(path)
    assert config.Global.output_dir == "./output"
    assert not caplog.records


def test_all_official_names_are_shipped() -> None:
    assert {path.stem for path in SHIPPED} >= set(OFFICIAL)


def test_no_path_means_the_bundled_general_config() -> None:
    config = load_config(None)
    assert config == load_config(bundled("configs") / "inference_general.yaml")
    assert config.Global.rec_inference_model_dir == "efficientnet_lite0_512"
    assert config.source.endswith("inference_general.yaml")


def test_defaults_are_those_of_the_official_general_config() -> None:
    raw = yaml.safe_load(wheel_config("inference_general").read_text(encoding="utf-8"))
    for section, defaults in (("Global", Global()), ("IndexProcess", IndexProcess())):
        for key, value in raw[section].items():
            if key != "enable_benchmark" and not (isinstance(value, str) and value.startswith("./")):
                held = getattr(defaults, key)
                assert (list(held) if isinstance(held, tuple) else held) == value, key


def test_loading_does_not_import_numpy() -> None:
    code = "import sys, shitu.config as c; c.load_config(None); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- precedence ------------------------------------------------------------------------------------------------


def test_defaults_then_file_then_overrides_then_options(write: Write) -> None:
    path = write("Global: {threshold: 0.3, batch_size: 2, max_det_results: 3}")
    config = load_config(path, ["Global.batch_size=4", "Global.max_det_results=7", "Global.batch_size=8"])
    config = config.replace("Global", max_det_results=9, output_dir="~/out")
    assert config.Global == Global(threshold=0.3, batch_size=8, max_det_results=9, output_dir=str(Path.home() / "out"))


def test_replace_leaves_the_rest_and_the_original_alone() -> None:
    config = load_config(None)
    other = config.replace("Eval", name="drinks", image_root="a").replace("Global", det_inference_model_dir="")
    assert (config.Eval, other.Eval) == (None, Eval(name="drinks", image_root="a"))
    assert other.Global.det_inference_model_dir is None
    assert other.IndexProcess == config.IndexProcess
    assert other.source == config.source


def test_replace_checks_as_a_file_is_checked() -> None:
    with pytest.raises(ConfigError, match=r"Global\.batch_size is 0 \(int\) in the command's options; a number"):
        load_config(None).replace("Global", batch_size=0)
    with pytest.raises(ConfigError, match=r"Unknown key Global\.outputdir .* did you mean Global\.output_dir\?"):
        load_config(None).replace("Global", outputdir="x")


def test_a_section_holds_its_limits_however_it_is_made() -> None:
    with pytest.raises(ConfigError, match="a multiple of 8 is wanted"):
        IndexProcess(dist_type="hamming", embedding_size=500)


# --- what is accepted ------------------------------------------------------------------------------------------

ACCEPTED = [
    ("Global: {threshold: 1e-3}", "Global.threshold", 0.001),
    ("Global: {threshold: 1}", "Global.threshold", 1.0),
    ("Global: {batch_size: '5'}", "Global.batch_size", 5),
    ("Global: {use_gpu: 'False'}", "Global.use_gpu", False),
    ("Global: {use_gpu: 0}", "Global.use_gpu", False),
    ("Global: {use_gpu: off}", "Global.use_gpu", False),
    ("Global: {det_inference_model_dir: None}", "Global.det_inference_model_dir", None),
    ("Global: {det_inference_model_dir: ''}", "Global.det_inference_model_dir", None),
    ("Global: {det_inference_model_dir: }", "Global.det_inference_model_dir", None),
    ("Global: {whole_image: Fallback}", "Global.whole_image", "fallback"),
    ("Global: {label_list: [a, 'no', 可乐]}", "Global.label_list", ("a", "no", "可乐")),
    ("Global: {infer_imgs: ~/photos}", "Global.infer_imgs", str(Path.home() / "photos")),
    ("Global: {infer_imgs: ./a/../b}", "Global.infer_imgs", "./a/../b"),
    ("Global:", "Global", Global()),
    ("Global: null\nDetPreProcess: None", "DetPreProcess.transform_ops", None),
    ("DetPreProcess: {transform_ops: null}", "DetPreProcess.transform_ops", None),
    ("RecPreProcess: {transform_ops: [ToCHWImage: ]}", "RecPreProcess.transform_ops", ({"ToCHWImage": None},)),
    ("DetPostProcess: {}", "Eval", None),
    ("RecPostProcess: {}", "RecPostProcess.main_indicator", None),
    ("RecPostProcess: {main_indicator: Binarize}", "RecPostProcess.Binarize.method", "round"),
    (
        "RecPostProcess: {main_indicator: Binarize, Binarize: {method: sign}}",
        "RecPostProcess.Binarize.method",
        "sign",
    ),
    ("IndexProcess: {dist_type: ip}", "IndexProcess.dist_type", "IP"),
    ("IndexProcess: {dist_type: Hamming}", "IndexProcess.dist_type", "hamming"),
    ("IndexProcess: {dist_type: L2, score_thres: 40}", "IndexProcess.score_thres", 40.0),
    ("IndexProcess: {index_operation: Append}", "IndexProcess.index_operation", "append"),
    (r"IndexProcess: {delimiter: \t}", "IndexProcess.delimiter", "\t"),
    ("IndexProcess: {delimiter: ' '}", "IndexProcess.delimiter", " "),
    ("IndexProcess: {crop: none, efSearch: None, nprobe: 8}", "IndexProcess.nprobe", 8),
    ("\ufeffGlobal: {batch_size: 3}\r\n", "Global.batch_size", 3),
]


def reach(config: Config, dotted: str) -> Any:
    value: Any = config
    for name in dotted.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize(("text", "key", "wanted"), ACCEPTED)
def test_accepted(text: str, key: str, wanted: Any, write: Write) -> None:
    value = reach(load_config(write(text)), key)
    assert value == wanted
    assert type(value) is type(wanted)


OVERRIDES = [
    ("Global.threshold=1e-3", 0.001),
    ("Global.batch_size = 4", 4),
    ("Global.use_gpu=True", True),
    ("Global.use_gpu=true", True),
    ("Global.det_inference_model_dir=None", None),
    ("Global.det_inference_model_dir=null", None),
    ("Global.det_inference_model_dir=", None),
    ("Global.det_inference_model_dir=''", None),
    ("Global.infer_imgs=a=b=c", "a=b=c"),
    ("Global.infer_imgs=2024", "2024"),
    ("Global.infer_imgs=007", "007"),
    ("Global.infer_imgs=2024-01-02", "2024-01-02"),
    ("Global.infer_imgs=no", "no"),
    ("Global.infer_imgs='a: b'", "a: b"),
    ("Global.infer_imgs=photos #2/a.jpg", "photos #2/a.jpg"),
    ("Global.infer_imgs=#tag", "#tag"),
    ("Global.infer_imgs=*.jpg", "*.jpg"),
    ("Global.infer_imgs=!!python/object/apply:os.getcwd []", "!!python/object/apply:os.getcwd []"),
    ("Global.infer_imgs=__import__('os').getcwd()", "__import__('os').getcwd()"),
    ("Global.infer_imgs=C:\\temp", "C:\\temp"),
    ("Global.label_list=[a, b]", ("a", "b")),
    ("Global.label_list.0=no", ("no",)),
    ("Global.image_shape.1=320", (3, 320, 640)),
    ("IndexProcess.delimiter=\\t", "\t"),
    ('IndexProcess.delimiter="\\t"', "\t"),
    ("IndexProcess.delimiter='\\t'", "\t"),
    ("IndexProcess.delimiter=\t", "\t"),
    ("IndexProcess.delimiter= ", " "),
    ("IndexProcess.delimiter=,", ","),
    ("IndexProcess.delimiter=:", ":"),
    ("IndexProcess.delimiter==", "="),
]


@pytest.mark.parametrize(("override", "wanted"), OVERRIDES)
def test_override(override: str, wanted: Any, write: Write) -> None:
    path = write("Global: {label_list: [foreground], image_shape: [3, 640, 640]}")
    section, key = override.partition("=")[0].strip().split(".")[:2]
    assert getattr(getattr(load_config(path, [override]), section), key) == wanted


def test_overrides_reach_into_operators_and_make_what_is_missing(write: Write) -> None:
    path = write("RecPreProcess: {transform_ops: [ResizeImage: {size: 224}, ToCHWImage: ]}")
    config = load_config(
        path,
        [
            "RecPreProcess.transform_ops.0.ResizeImage.size=[128, 96]",
            "RecPreProcess.transform_ops.1.ToCHWImage.x.y=1",
            "Eval.name=drinks",
            "RecPostProcess.main_indicator=Binarize",
            "RecPostProcess.Binarize.method=sign",
        ],
    )
    assert config.RecPreProcess.transform_ops == (
        {"ResizeImage": {"size": [128, 96]}},
        {"ToCHWImage": {"x": {"y": 1}}},
    )
    assert config.Eval == Eval(name="drinks")
    assert config.RecPostProcess.Binarize is not None
    assert config.RecPostProcess.Binarize.method == "sign"
    config = load_config(path, ["RecPreProcess=null", "RecPostProcess={main_indicator: Binarize, Binarize: {}}"])
    assert config.RecPreProcess.transform_ops is None
    assert config.RecPostProcess == RecPostProcess("Binarize")


def test_an_override_changes_one_of_two_aliases(write: Write) -> None:
    path = write("DetPreProcess: &p {transform_ops: [Op: {size: 1}]}\nRecPreProcess: *p\n")
    config = load_config(path, ["RecPreProcess.transform_ops.0.Op.size=2"])
    assert config.DetPreProcess.transform_ops == ({"Op": {"size": 1}},)
    assert config.RecPreProcess.transform_ops == ({"Op": {"size": 2}},)


def test_keys_without_effect_are_named_once_each(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    path = write("Global: {benchmark: False, model_name: x}\nIndexProcess: {binary_index: True}")
    with caplog.at_level(logging.WARNING, "shitu"):
        load_config(path, ["Global.save_log_path=logs"])
    assert [record.getMessage() for record in caplog.records] == [
        "Global.benchmark in x.yaml has no effect",
        "Global.model_name in x.yaml has no effect",
        "Global.save_log_path in -o Global.save_log_path=logs has no effect",
        "IndexProcess.binary_index in x.yaml has no effect",
    ]
