"""`_BASE_` of PaddleDetection's files: laid over each other as ppdet does it, and nothing read beside them."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import yaml

from shitu.config.layers import merged, read_layers
from shitu.errors import ConfigError
from shitu.training.base.toolkits import ppdet
from shitu.training.det.schema import DetConfig, load_det_config
from tests.train_det_set import CONFIG

FILES = {
    "datasets/coco.yml": """\
num_classes: 80
TrainDataset:
  !COCODataSet
    dataset_dir: dataset/coco
    image_dir: train2017
    anno_path: train.json
TestDataset:
  !ImageFolder
    anno_path: val.json
""",
    "runtime.yml": "use_gpu: false\nlog_iter: 20\nexport: {nms: true}\n",
    "picodet/_base_/esnet.yml": """\
export_post_process: false
PicoDet: {backbone: ESNet, neck: CSPPAN}
ESNet: {scale: 1.0}
CSPPAN: {out_channels: 128, num_features: 4}
PicoHead: {conv_feat: {name: PicoFeat, feat_in: 128, num_convs: 4}, feat_in_chan: 128}
""",
    "picodet/_base_/reader.yml": """\
_BASE_: ['size.yml']
EvalReader:
  sample_transforms:
  - Decode: {}
  - Resize: {interp: 2, target_size: [640, 640], keep_ratio: False}
  batch_size: 8
log_iter: 7
""",
    "picodet/_base_/size.yml": "EvalReader: {batch_size: 1, shuffle: false}\nworker_num: 6\n",
    "picodet/application/mainbody/主体.yml": """\
_BASE_: ['../../../datasets/coco.yml', '../../../runtime.yml', '../../_base_/esnet.yml', '../../_base_/reader.yml']
num_classes: 1
PicoDet: {backbone: LCNet}
LCNet: {scale: 2.5}
PicoHead: {conv_feat: {num_convs: 2}}
""",
}
TOP = "picodet/application/mainbody/主体.yml"


def write(root: Path, files: dict[str, str] | None = None) -> Path:
    """PaddleDetection's tree below root/configs; returns the file at the top."""
    for name, text in (FILES | (files or {})).items():
        path = root / "configs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root / "configs" / TOP


def test_files_are_laid_over_each_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "shitu"):
        config = load_det_config(write(tmp_path))
    assert (config.num_classes, config.use_gpu, config.worker_num, config.log_iter) == (1, False, 6, 7)
    assert config.TrainDataset is not None
    assert config.TrainDataset.image_dir == "train2017"
    assert (config.EvalReader.batch_size, config.size) == (8, (640, 640))
    assert config.LCNet.scale == 2.5
    assert (config.PicoHead.conv_feat.num_convs, config.PicoHead.conv_feat.feat_in) == (2, 128)
    passed = [record.getMessage() for record in caplog.records if "has no meaning here" in record.getMessage()]
    assert len(passed) == 1
    assert "export_post_process, ESNet has no meaning" in passed[0]


def test_as_ppdet_lays_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own reader's result, but for what is passed over. (It cannot read the tags of classes it has not loaded.)"""
    plain = {name: text.replace("  !COCODataSet\n", "").replace("  !ImageFolder\n", "") for name, text in FILES.items()}
    top = write(tmp_path, plain)
    workspace = ppdet("core.workspace")
    monkeypatch.setattr(workspace, "global_config", workspace.AttrDict())  # over which it lays the first base
    wanted = workspace._load_config_with_base(str(top))
    found = merged(read_layers(DetConfig, top), ())[0]
    wanted = {key: value for key, value in wanted.items() if key not in ("export_post_process", "ESNet")}
    assert found == wanted


def test_what_the_file_itself_says_is_still_closed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Unknown section ESNet"):
        load_det_config(write(tmp_path, {TOP: FILES[TOP] + "ESNet: {scale: 1.0}\n"}))
    with pytest.raises(ConfigError, match=r"did you mean CSPPAN.out_channels\?"):
        load_det_config(write(tmp_path, {"picodet/_base_/esnet.yml": "CSPPAN: {out_channel: 1}\n"}))


def test_a_bundled_config_may_be_laid_under_one_s_own(tmp_path: Path) -> None:
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "base.yml").write_bytes(CONFIG.read_bytes())
    (folder / "mine.yml").write_text("_BASE_: [base.yml]\nepoch: 3\nsave_dir: here\n", encoding="utf-8")
    config = load_det_config(folder / "mine.yml")
    assert (config.epoch, str(config.run_dir)) == (3, str(Path("here/mine")))
    assert config.LCNet == load_det_config(CONFIG).LCNet


BAD = {
    "no list": ("_BASE_: base.yml\n", "a list of paths is wanted"),
    "no text": ("_BASE_: [3]\n", "a list of paths is wanted"),
    "not there": ("_BASE_: [nowhere.yml]\n", "No file"),
    "absolute": ("_BASE_: [/etc/hostname.yml]\n", "that stays in"),
    "outside": ("_BASE_: ['../../../../outside.yml']\n", "that stays in"),
    "home": ("_BASE_: ['~/x.yml']\n", "No file"),
    "no YAML": ("_BASE_: ['../../../runtime.txt']\n", ".yml or .yaml"),
    "itself": (f"_BASE_: ['{Path(TOP).name}']\n", "is laid over itself"),
    "through a link": ("_BASE_: ['link.yml']\n", "that stays in"),
    "in a circle": ("_BASE_: ['../../_base_/circle.yml']\n", "is laid over itself"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_must_not_be_read_is_not(case: str, tmp_path: Path) -> None:
    text, wanted = BAD[case]
    circle = f"_BASE_: ['../application/mainbody/{Path(TOP).name}']\n"
    top = write(tmp_path, {TOP: text, "picodet/_base_/circle.yml": circle, "runtime.txt": "epoch: 1\n"})
    (tmp_path / "outside.yml").write_text("epoch: 99\n")
    os.symlink(tmp_path / "outside.yml", top.parent / "link.yml")
    with pytest.raises(ConfigError) as caught:
        load_det_config(top)
    assert wanted in str(caught.value)


def test_many_files_are_refused_before_they_are_many(tmp_path: Path) -> None:
    """Each of 30 levels names the next one twice: 2 to the power of 30 files, were they read."""
    files = {f"picodet/_base_/n{n}.yml": yaml.safe_dump({"_BASE_": [f"n{n + 1}.yml"] * 2}) for n in range(30)}
    files["picodet/_base_/n30.yml"] = "epoch: 1\n"
    with pytest.raises(ConfigError, match="at most 50 are read"):
        load_det_config(write(tmp_path, {TOP: "_BASE_: ['../../_base_/n0.yml']\n", **files}))
