"""`shitu calibrate`: the config that it writes does what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from shitu.cli import main
from shitu.config import load_config
from tests.conftest import DEMO

LABELS = ("bucket", "crab", "ring buoy", "sailboat", "turtle", "banana", "camera", "laptop", "headphone", "magnet")


def run(*arguments: object, status: int = 0) -> Result:
    done = CliRunner().invoke(main, [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == status, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, shared_sessions: None) -> Path:
    """10 classes of the demo by 3 makers, for each kind of distance, and configs far from the best."""
    path = tmp_path_factory.mktemp("calibrate")
    lines = (DEMO / "gallery.txt").read_text(encoding="utf-8").splitlines()
    (path / "list.txt").write_text("\n".join(line for line in lines if line.split("\t")[1] in LABELS), encoding="utf-8")
    for dist_type in ("IP", "L2", "hamming"):
        index = {"index_method": "Flat", "dist_type": dist_type, "index_dir": str(path / dist_type)}
        index |= {"data_file": str(path / "list.txt"), "image_root": str(DEMO), "score_thres": 1.0}
        models = load_config(None).Global
        one = {"threshold": 0.6, "max_det_results": 1, "whole_image": "always"}
        one |= {name: getattr(models, name) for name in ("det_inference_model_dir", "rec_inference_model_dir")}
        post = {"main_indicator": "Binarize", "Binarize": {"method": "sign"}} if dist_type == "hamming" else None
        content = {"Global": one | {"use_gpu": False}, "IndexProcess": index, "RecPostProcess": post}
        text = "# 配置\n" + yaml.safe_dump(content, allow_unicode=True)
        (path / f"{dist_type}.yaml").write_text(text, encoding="utf-8")
        run("build-gallery", "-c", path / f"{dist_type}.yaml")
    photos = (DEMO / "photos.txt").read_text(encoding="utf-8").splitlines()
    some = [line for line in photos if Path(line.split("\t")[0]).stem in ("desk", "beach", "workbench", "picnic")]
    (path / "photos.txt").write_text("\n".join(some), encoding="utf-8")
    return path


@pytest.mark.parametrize("dist_type", ["IP", "L2", "hamming"])
def test_the_written_config_does_what_was_simulated(folder: Path, tmp_path: Path, dist_type: str) -> None:
    query = ["--query", folder / "photos.txt", "--image-root", DEMO]
    new = tmp_path / "new.yaml"
    arguments = ["-c", folder / f"{dist_type}.yaml", *query, "--false-accept", 0.3, "--write", new]
    record = json.loads(run("calibrate", *arguments).stdout)
    assert record["written"] == str(new)
    assert new.read_text(encoding="utf-8").startswith("# 配置\n")
    changed = {key: each for key, each in record["settings"].items() if each["before"] != each["after"]}
    assert "Global.max_det_results" in changed, "one box is too few for photos of seven things"
    wanted = old = load_config(folder / f"{dist_type}.yaml")
    for key, each in changed.items():
        section, _, name = key.partition(".")
        wanted = wanted.replace(section, **{name: each["after"]})
    assert load_config(new) == replace(wanted, source=str(new))
    assert old != wanted
    for config, figures in ((folder / f"{dist_type}.yaml", record["before"]), (new, record["after"])):
        told = json.loads(run("evaluate", "-c", config, *query, "--no-map").stdout)
        assert told["at_threshold"]["named_right"] == figures["recall"]
        assert told["at_threshold"]["unknown_named"] == figures["false_accept_rate"]
    assert record["after"]["recall"] > record["before"]["recall"]
    assert record["after"]["false_accept_rate"] <= 0.3
    assert record["known_queries"] + record["unknown_queries"] == 26
    again = run("calibrate", "-c", new, *query, "--false-accept", 0.3, "--write", tmp_path / "again.yaml")
    assert (tmp_path / "again.yaml").read_bytes() == new.read_bytes(), "calibrated is calibrated"
    assert "nothing to change" in again.stderr


def test_gallery_images_as_queries(folder: Path, tmp_path: Path) -> None:
    """Without unknown queries and with --leave-one-out: two calibrated figures, again as `evaluate` counts them."""
    query = ["--query", folder / "list.txt", "--image-root", DEMO, "--detector", "off"]
    base = ["-c", folder / "IP.yaml", *query]
    done = run("calibrate", *base, "--leave-one-out", "--false-accept", 0.1, "--write", tmp_path / "new.yaml")
    record = json.loads(done.stdout)
    assert record["unknown"] == "hidden labels"
    assert list(record["settings"]) == ["IndexProcess.score_thres"], "without detector only the threshold"
    assert "label hidden" in done.stderr
    told = json.loads(run("evaluate", "-c", tmp_path / "new.yaml", *query, "--leave-one-out", "--no-map").stdout)
    assert told["at_threshold"]["named_right"] == record["after"]["recall"]
    assert told["at_threshold"]["unknown_named"] == record["after"]["false_accept_rate"]
    assert record["after"]["false_accept_rate"] <= 0.1
    assert "30 of the queries are gallery images" in run("calibrate", *base).stderr


def test_the_table_and_the_comments(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["shitu", "calibrate", "--query", "my photos.txt"])
    base = ["-c", folder / "IP.yaml", "--query", folder / "photos.txt", "--image-root", DEMO, "--format", "table"]
    overrides = ["-o", "Global.threshold=0.2", "-o", "IndexProcess.score_thres=0.4"]
    done = run("calibrate", *base, *overrides, "--detector", "given", "--write", tmp_path / "new.yaml")
    for word in ("IndexProcess.score_thres", "config as it is", "cross-validated", "10 known", "listed"):
        assert word in done.stdout
    assert f"Next: shitu predict -c {tmp_path / 'new.yaml'} PHOTOS\n" in done.stderr
    text = (tmp_path / "new.yaml").read_text(encoding="utf-8")
    assert "score_thres was 1.0; 95 % interval " in text
    assert "unknown queries (listed), false-accept rate wanted 0.05\n" in text
    assert "#   by: shitu calibrate --query 'my photos.txt'\n" in text
    written = load_config(tmp_path / "new.yaml")
    asked = load_config(folder / "IP.yaml", overrides[1::2])
    chosen = written.IndexProcess.score_thres
    assert written == replace(asked.replace("IndexProcess", score_thres=chosen), source=written.source)


def test_usage_errors(folder: Path, tmp_path: Path) -> None:
    base = ["calibrate", "-c", folder / "IP.yaml", "--query", folder / "photos.txt", "--image-root", DEMO]
    for rate in (-0.1, 1, 1.5, "nan"):
        assert "--false-accept is" in run(*base, "--false-accept", rate, status=2).stderr
    (tmp_path / "there.yaml").write_text("mine")
    assert "--overwrite" in run(*base, "--write", tmp_path / "there.yaml", status=2).stderr
    assert "there is no folder" in run(*base, "--write", tmp_path / "no" / "x.yaml", status=2).stderr
    assert (tmp_path / "there.yaml").read_text() == "mine"
    assert not (tmp_path / "x.yaml").exists()


def test_lists_that_say_nothing(folder: Path, tmp_path: Path) -> None:
    def calibrate(text: str, status: int, *more: object) -> Result:
        (tmp_path / "list.txt").write_text(text, encoding="utf-8")
        arguments = ["-c", folder / "IP.yaml", "--query", tmp_path / "list.txt", "--image-root", DEMO, *more]
        return run("calibrate", *arguments, status=status)

    assert "no line in it" in calibrate("", 2).stderr
    assert "none of the 1 labels" in calibrate("photos/desk.jpg\tno such thing\n", 2).stderr
    assert "all 1 queries failed" in calibrate("photos/none.jpg\tcamera\n", 1).stderr
    only = "photos/none.jpg\tcamera\nphotos/desk.jpg\tno such thing\n"
    assert "no query has a label of the gallery" in calibrate(only, 2, "--detector", "off").stderr
    some = (
        "photos/none.jpg\tcamera\nphotos/desk.jpg\tcamera\t115,124,318,265\nphotos/desk.jpg\tabacus\t346,403,538,598\n"
    )
    done = calibrate(some, 1)
    assert "Failed: " in done.stderr
    assert "none.jpg" in done.stderr
    assert json.loads(done.stdout)["failed"] == 1, "the rest was done"


def test_a_gallery_of_one_label(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "list.txt").read_text(encoding="utf-8").splitlines()
    (tmp_path / "one.txt").write_text("\n".join(line for line in lines if "\tcrab" in line), encoding="utf-8")
    data = f"IndexProcess.data_file={tmp_path / 'one.txt'}"
    base = ["-c", folder / "IP.yaml", "-o", data, "-o", f"IndexProcess.index_dir={tmp_path / 'index'}"]
    run("build-gallery", *base)
    done = run("calibrate", *base, "--query", tmp_path / "one.txt", "--leave-one-out", status=2)
    assert "the gallery has a single label" in done.stderr
