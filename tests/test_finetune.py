"""`shitu finetune` the whole way on a miniature, and what it does where training does not help."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image, ImageDraw

from shitu.build.photos import read_photos
from shitu.cli import main
from shitu.config import load_config
from shitu.errors import UsageError
from shitu.finetune.run import Wanted
from shitu.finetune.split import split_photos
from shitu.gallery import open_reader
from shitu.models import open_model
from shitu.training.base.log import read_records

THINGS = {"红 茶": "red", "blue cup": "blue", "green": "green", "黄": "yellow"}
PICTURES = 4
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four things by four pictures: a shape of the thing's colour somewhere on noise."""
    folder, rng = tmp_path_factory.mktemp("照片"), np.random.default_rng(0)
    for thing, colour in THINGS.items():
        (folder / thing).mkdir()
        for number in range(PICTURES):
            image = Image.fromarray(rng.integers(60, 120, (64, 64, 3), np.uint8))
            x, y = rng.integers(4, 24, 2).tolist()
            ImageDraw.Draw(image).ellipse((x, y, x + 30, y + 30), fill=colour)
            image.save(folder / thing / f"{number}.png")
    return folder


def run(photos: Path, output: Path, *more: str) -> Result:
    words = ["finetune", str(photos), "--output", str(output), "--size", "32", "--epochs", "1", *more]
    return CliRunner().invoke(main, words)


def record(done: Result) -> dict[str, object]:
    assert done.exit_code == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def predicted(config: Path, photo: Path) -> str:
    done = CliRunner().invoke(main, ["predict", "-c", str(config), "--score", "0", str(photo)])
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_the_whole_way_interrupted_and_gone_on(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept, whatever the few pictures say of it: only the two questions whether it is better are answered for it."""
    monkeypatch.setattr("shitu.finetune.run.is_better", lambda *_: True)
    monkeypatch.setattr("shitu.finetune.compare.Unseen.rose", True)
    output = tmp_path / "我的"

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shitu.finetune.run._build", interrupted)
        assert run(photos, output).exit_code == 130
    log = output / "training" / "RecModel" / "metrics.jsonl"
    trained = log.read_bytes()
    assert not (output / "shitu.yaml").exists()
    found = record(run(photos, output))
    assert found["better"] is True
    assert log.read_bytes() == trained  # not trained again
    assert any("mAP" in each for each in read_records(log))
    config = load_config(output / "shitu.yaml")
    assert config.Global.rec_inference_model_dir == str((output / "model").resolve())
    assert open_model(str(output / "model"), task="recognition").card.preprocess.size == (32, 32)
    with closing(open_reader(str(config.IndexProcess.index_dir))) as gallery:
        assert {item.image for item in gallery.items()} == {
            f"{thing}/{n}.png" for thing in THINGS for n in range(PICTURES)
        }
    assert config.IndexProcess.score_thres == found["threshold"]
    page = (output / "report.html").read_text(encoding="utf-8")
    for words in ("Before and after", "Fine-tuned", "Kept: the fine-tuned model."):
        assert words in page
    assert any(thing in predicted(output / "shitu.yaml", photos / "blue cup" / "0.png") for thing in THINGS)
    again = run(photos, output)
    assert record(again) == found
    assert "is finished" in again.stderr


def test_where_it_is_no_better_the_bundled_model_stays(photos: Path, tmp_path: Path) -> None:
    done = run(photos, tmp_path / "out", "-o", "Optimizer.lr.learning_rate=0.0")
    assert record(done)["better"] is False
    assert "did not make it better" in done.stderr
    assert not (tmp_path / "out" / "model").exists()
    config = load_config(tmp_path / "out" / "shitu.yaml")
    assert config.Global.rec_inference_model_dir == load_config(None).Global.rec_inference_model_dir
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Not kept" in page
    assert "blue cup" in predicted(tmp_path / "out" / "shitu.yaml", photos / "blue cup" / "0.png")
    other = run(photos, tmp_path / "out", "--seed", "1")
    assert other.exit_code == 2
    assert "is of other seed" in other.stderr


def test_no_photo_is_in_two_lists_and_no_thing_chooses_that_was_trained_on(photos: Path, tmp_path: Path) -> None:
    lists = split_photos(read_photos(str(photos), None), tmp_path, 0)
    parts = {name: (tmp_path / f"{name}.txt").read_text(encoding="utf-8").splitlines() for name in ("train", "val")}
    train, val = ({line.split("\t")[0] for line in parts[name]} for name in ("train", "val"))
    asked = {line.split("\t")[0] for line in lists.asked.read_text(encoding="utf-8").splitlines()}
    assert len(train | val | asked) == len(train) + len(val) + len(asked) == len(THINGS) * PICTURES
    assert {path.split("/")[0] for path in val} == lists.unseen
    assert not {path.split("/")[0] for path in train} & lists.unseen
    assert {path.split("/")[0] for path in asked} == set(THINGS)


def test_too_few_things(photos: Path, tmp_path: Path) -> None:
    entries = [entry for entry in read_photos(str(photos), None) if entry.label != "green"]
    with pytest.raises(UsageError, match="at least 4 such are wanted"):
        split_photos(entries, tmp_path, 0)


def test_a_folder_of_something_else_is_left_alone(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    done = run(photos, tmp_path, "--overwrite")
    assert done.exit_code == 2
    assert "holds something else" in done.stderr
    assert (tmp_path / "model").is_dir()


def test_a_list_says_the_same_as_folders(photos: Path, tmp_path: Path) -> None:
    inside = Wanted(photos, tmp_path).entries()
    listed = photos / "gallery.txt"
    listed.write_text("".join(f"{one.image}\t{one.label}\n" for one in inside), encoding="utf-8")
    wanted = Wanted(listed, tmp_path)
    assert [(one.path, one.label) for one in wanted.entries()] == [(one.path, one.label) for one in inside]
    assert wanted.identity(wanted.entries()) == Wanted(photos, tmp_path).identity(inside)
