"""Editing a config: the wanted values change, and nothing else does."""

from __future__ import annotations

import dataclasses
import difflib
import os
from pathlib import Path

import pytest
import yaml

from shitu.config import Config, load_config
from shitu.config.layers import config_file
from shitu.errors import ConfigError, ShituError, UsageError
from shitu.evaluation.edit_yaml import Change, set_values
from shitu.evaluation.write_config import check_target, write_config
from tests.conftest import ROOT, Write

NOTES = ("was 0.3", "58 known and 11 unknown queries", "by: shitu calibrate --query 照片.txt")


def change(key: str, value: str | int | float, notes: tuple[str, ...] = NOTES) -> Change:
    return Change(key, value, "2026-11-22", notes)


CHANGES = [
    change("IndexProcess.score_thres", 0.605),
    change("Global.whole_image", "never"),
    change("Global.max_det_results", 3),
    change("Global.threshold", 0.45),
    change("Global.rec_nms_thresold", 0.0),
]


def with_changes(config: Config, changes: list[Change]) -> Config:
    for each in changes:
        config = config.replace(each.section, **{each.name: each.value})
    return config


def lines_that_changed(before: str, after: str) -> tuple[list[str], list[str]]:
    """Lines taken out, lines put in."""
    found = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    return [line[2:] for line in found if line.startswith("- ")], [line[2:] for line in found if line.startswith("+ ")]


def check(text: str, write: Write, changes: list[Change] = CHANGES) -> str:
    """The edited text; it means what was meant, and comments and all else are still there."""
    edited = set_values(text, changes, "x.yaml")
    before = load_config(write(text))
    after = load_config(write(edited))
    assert after == with_changes(before, changes)
    assert edited.count("# Calibrated ") == len(changes)
    return edited


BUNDLED = sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("name", BUNDLED)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_bundled_configs(name: str, newline: str, write: Write, tmp_path: Path) -> None:
    text = (ROOT / "configs" / name).read_text(encoding="utf-8").replace("\n", newline)
    edited = set_values(text, CHANGES, name)
    path = tmp_path / "new.yaml"
    path.write_bytes(edited.encode())
    assert load_config(path) == dataclasses.replace(
        with_changes(load_config(ROOT / "configs" / name), CHANGES), source=str(path)
    )
    gone, come = lines_that_changed(text, edited)
    assert len(gone) <= 5, "only the lines of the values"
    assert len(come) <= 5 * 4 + 1, "those, each below three lines of comment; perhaps one section"
    assert {line.split(":")[0].strip() for line in gone} <= {each.name for each in CHANGES}
    assert edited.count("\n") == edited.count(newline), "line ends as they were"


def test_a_key_is_replaced_in_its_place_and_its_own_comment_stays_in_its_column(write: Write) -> None:
    text = (
        "Global:\n"
        "  threshold: 0.3                # what the detector says\n"
        "  max_det_results: 15           # best first\n"
    )
    edited = check(text, write, [change("Global.threshold", 0.4567)])
    assert edited.splitlines() == [
        "Global:",
        "  # Calibrated 2026-11-22: threshold was 0.3",
        "  #   58 known and 11 unknown queries",
        "  #   by: shitu calibrate --query 照片.txt",
        "  threshold: 0.4567             # what the detector says",
        "  max_det_results: 15           # best first",
    ]


LAYOUTS = {
    "no sections": "Eval:\n  name: 饮料  # 名称\n",
    "null": "Global:\nIndexProcess: null  # nothing yet\n",
    "tilde and None": "Global: ~\nIndexProcess: None\n",
    "empty braces": "Global: {}   # later\nIndexProcess:\n  {}\n",
    "braces": "Global: {threshold: 0.3, max_det_results: 5}  # short\nIndexProcess: {score_thres: 0.5}\n",
    "braces over lines": "Global: {\n  threshold: 0.3,  # detector\n  output_dir: a\n    b,\n  batch_size: 1\n}\n",
    "JSON": '{"Global": {"threshold": 0.3, "whole_image": "always"}, "IndexProcess": {}, "Eval": null}\n',
    "empty JSON": '{"Eval": {}}',
    "quotes": "\"Global\":\n  'threshold': \"0.3\"\n  whole_image: 'always'\n",
    "end of file": "Global:\n  threshold: 0.3",
    "end of file with a comment": "Global:\n  threshold: 0.3  # no line end",
    "document marks": "%YAML 1.1\n---\n# 图像识别\nGlobal:\n  threshold: 0.3\n...\n",
    "indented": "  # all of it\n  Global:\n      threshold: 0.3\n      batch_size: 2\n"
    "  IndexProcess:\n      return_k: 3\n",
    "comments after the last key": "Global:\n  batch_size: 2\n  # that was all\n\n# next\n"
    "IndexProcess:\n  return_k: 3\n# end\n",
    "no line between": "Global:\n  label_list:\n  - 瓶\n  - 罐\nIndexProcess:\n  return_k: 3\n",
    "literal block": "Global:\n  output_dir: |-\n    here\n  threshold: 0.3\n"
    "IndexProcess:\n  image_root: >-\n    a\n    b\n",
    "long text": "Global:\n  output_dir: a very\n    long name\n  threshold: 0.3\n",
    "tags": "Global: !!map\n  threshold: !!float 0.3\n  max_det_results: !!int 5\n",
    "anchored value": "Global:\n  threshold: &t 0.3\n  rec_nms_thresold: &n 0.05\nIndexProcess:\n  score_thres: *t\n",
    "anchored value used elsewhere": "Global:\n  max_det_results: &k 5\n  batch_size: *k\n"
    "IndexProcess: {return_k: *k}\n",
    "alias as value": "IndexProcess:\n  score_thres: &t 0.4\nGlobal:\n  threshold: *t  # the same\n",
    "anchors elsewhere": "RecPreProcess:\n  transform_ops:\n    - NormalizeImage: &normalize {scale: 1.0, order: ''}\n"
    "DetPreProcess:\n  transform_ops:\n    - NormalizeImage: {<<: *normalize, order: hwc}\nGlobal:\n  threshold: 0.3\n",
    "merged": "Eval: &e\n  output_dir: out\nGlobal:\n  <<: *e\n  threshold: 0.3\n",
    "alias as section": "Eval: &e\n  output_dir: out\nGlobal: *e\n",
    "numbers of YAML 1.1": "Global:\n  use_gpu: no\n  enable_mkldnn: Off\n  threshold: .3\n"
    "  cpu_num_threads: 0x0a\n  gpu_mem: 1_000\n",
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_layouts(layout: str, newline: str, write: Write) -> None:
    text = LAYOUTS[layout].replace("\n", newline)
    edited = set_values(text, CHANGES, "x.yaml")
    Path("x.yaml").write_bytes(text.encode())
    before = load_config("x.yaml")
    Path("x.yaml").write_bytes(edited.encode())
    assert load_config("x.yaml") == with_changes(before, CHANGES)
    assert edited.count("# Calibrated ") == len(CHANGES)
    for comment in (part.split("#")[1] for part in LAYOUTS[layout].splitlines() if "#" in part):
        assert comment in edited


@pytest.mark.parametrize("layout", LAYOUTS)
def test_again_replaces_the_comments(layout: str, write: Write) -> None:
    once = set_values(LAYOUTS[layout], CHANGES, "x.yaml")
    again = [dataclasses.replace(each, date="2027-01-01", notes=("was another",)) for each in CHANGES]
    twice = set_values(once, again, "x.yaml")
    assert "2026" not in twice and "58 known" not in twice  # noqa: PT018
    assert twice.count("# Calibrated 2027-01-01: ") == len(CHANGES)
    assert yaml.safe_load(twice) == yaml.safe_load(once)
    only = set_values(once, [dataclasses.replace(again[3], value=0.25)], "x.yaml")
    assert only.count("# Calibrated 2026") == len(CHANGES) - 1
    assert only.count("# Calibrated 2027") == 1


def test_a_note_cannot_leave_its_comment(write: Write) -> None:
    notes = ("was 0.3", "by: shitu calibrate --query 'a\nb: c\r\u2028d\x85e\0f\udcff\U0001f600'")
    edited = check("Global:\n  threshold: 0.3\n", write, [change("Global.threshold", 0.25, notes)])
    assert "#   by: shitu calibrate --query 'a?b: c??d?e?f?\U0001f600'\n" in edited


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.5"),
        (1.0, "1.0"),
        (0.00001, "0.00001"),
        (123456789.25, "123456789.25"),
        (1e22, "10000000000000000000000.0"),
    ],
)
def test_numbers_as_yaml_reads_them(value: float, text: str) -> None:
    assert change("IndexProcess.score_thres", value).text == text
    assert yaml.safe_load(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "Global: &g\n  threshold: 0.3\nDetPostProcess: *g\n",  # would change there, too
        "? Global\n: ? batch_size\n  : 2\n",
        "- Global\n",
        "Global: [1, 2]\n",
        "",
    ],
)
def test_what_cannot_be_edited_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match=r"x\.yaml is laid out .* set Global\.threshold: 0\.45$"):
        set_values(text, [change("Global.threshold", 0.45)], "x.yaml")


def test_nothing_is_ever_constructed() -> None:
    text = "Global:\n  threshold: 0.3\n  output_dir: !!python/object/apply:os.system ['echo hello > hacked']\n"
    with pytest.raises(ConfigError):
        set_values(text, [change("Global.threshold", 0.45)], "x.yaml")
    assert not Path("hacked").exists()


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_byte_order_mark_and_line_ends_stay(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbfGlobal:\r\n  threshold: 0.3\r\n"
    (tmp_path / "old.yaml").write_bytes(data)
    path, count = write_config(tmp_path / "old.yaml", tmp_path / "new.yaml", CHANGES[3:4])
    written = path.read_bytes()
    assert count == 1
    assert written.startswith(b"\xef\xbb\xbfGlobal:\r\n")
    assert written.endswith(b"\r\n  threshold: 0.45\r\n")
    assert (tmp_path / "old.yaml").read_bytes() == data
    assert load_config(path).Global.threshold == 0.45


def test_without_changes_it_is_a_copy(tmp_path: Path) -> None:
    source = config_file(None)
    path, count = write_config(source, tmp_path / "new.yaml", [])
    assert (path.read_bytes(), count) == (source.read_bytes(), 0)


def test_an_existing_file_is_only_replaced_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("Global:\n  threshold: 0.3\n")
    path.chmod(0o640)
    with pytest.raises(UsageError, match="--overwrite"):
        write_config(path, path, CHANGES[3:4])
    link = tmp_path / "link.yaml"
    link.symlink_to(path)
    write_config(path, link, CHANGES[3:4], overwrite=True)
    assert link.is_symlink()
    assert load_config(path).Global.threshold == 0.45
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link.yaml", "old.yaml"], "nothing is left behind"


def test_a_new_file_has_the_mode_of_the_users_files(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        path, _ = write_config(config_file(None), tmp_path / "new.yaml", CHANGES)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("name", "said"), [("", "is a folder"), ("no/new.yaml", "there is no folder"), ("f/x", "no folder")]
)
def test_what_cannot_be_written(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("a file")
    with pytest.raises(UsageError, match=said):
        check_target(tmp_path / name, overwrite=True)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("Global:\n  threshold: 0.3\n")

    def full(*names: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ShituError, match="No space left"):
        write_config(path, path, CHANGES, overwrite=True)
    assert path.read_text() == "Global:\n  threshold: 0.3\n"
    assert [each.name for each in tmp_path.iterdir()] == ["old.yaml"]
