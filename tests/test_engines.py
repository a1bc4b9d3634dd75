"""The engine's door: both kinds of program, batches and threads, what is not there, and files that are broken."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shitu.config import Config, load_config
from shitu.config.schema import Global
from shitu.cores import available_cores
from shitu.engines.base import EngineOptions, Session, Streams
from shitu.engines.paddle import open_session
from shitu.errors import ConfigError, EngineError, ModelError
from shitu.models.files import check_files
from shitu.recognise import from_config
from shitu.recognise.from_config import DetPredictor, RecPredictor, options_from
from tests.conftest import ROOT, SHARED
from tests.reference_models import BUNDLED_RECOGNISER, mainbody, pplcnetv2

DETECTOR = ROOT / "models/picodet_lcnet_x1_0_mainbody"


def session(folder: Path, **options: Any) -> Session:
    program = next(path for path in (folder / "inference.json", folder / "inference.pdmodel") if path.exists())
    return open_session(program, folder / "inference.pdiparams", EngineOptions(**options))


def noise(count: int, side: int = 224) -> NDArray[np.float32]:
    return np.random.default_rng(count).normal(size=(count, 3, side, side)).astype(np.float32)


def units(features: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = features / np.linalg.norm(features, axis=1, keepdims=True)
    return unit


def recogniser_config(folder: Path, **values: Any) -> Config:
    return load_config(None).replace("Global", rec_inference_model_dir=str(folder), use_gpu=False, **values)


@pytest.mark.parametrize("kind", ["json", "pdmodel"])
def test_onednn_and_plain_agree(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = BUNDLED_RECOGNISER if kind == "json" else pplcnetv2(tmp_path_factory)
    found = []
    for use_mkldnn, ir_optim in ((True, True), (False, True), (False, False)):
        opened = session(folder, use_mkldnn=use_mkldnn, ir_optim=ir_optim, threads=2)
        (features,) = opened.run({opened.input_names[0]: noise(2)})
        assert features.shape == (2, 512)
        found.append(units(features))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-4)


def test_official_detector_with_and_without_onednn(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = mainbody(tmp_path_factory)
    feeds = {"image": noise(1, 640), "im_shape": np.full((1, 2), 640, np.float32)}
    feeds["scale_factor"] = np.ones((1, 2), np.float32)
    found = []
    for use_mkldnn in (True, False):
        opened = session(folder, use_mkldnn=use_mkldnn)
        assert set(opened.input_names) == set(feeds)
        rows = opened.run(feeds)[0]
        assert rows.shape[1] == 6
        found.append(np.sort(rows[:, 1]))
    # Random weights: near-ties change places, so only the scores are compared.
    np.testing.assert_allclose(found[1], found[0], atol=1e-3)


@pytest.fixture(scope="module")
def predictor() -> RecPredictor:
    return RecPredictor(recogniser_config(BUNDLED_RECOGNISER))


def test_features_do_not_depend_on_the_batch(predictor: RecPredictor) -> None:
    images = list(np.random.default_rng(0).integers(0, 256, (13, 90, 70, 3), np.uint8))
    wanted = np.concatenate([predictor.predict([image]) for image in images])
    np.testing.assert_allclose(np.linalg.norm(wanted, axis=1), 1, atol=1e-5)
    assert np.abs(wanted[0] - wanted[1]).max() > 1e-3
    for count in (2, 3, 5, 8, 13):
        np.testing.assert_allclose(predictor.predict(images[:count]), wanted[:count], atol=1e-5)
    np.testing.assert_allclose(predictor.predict(images[::-1]), wanted[::-1], atol=1e-5)
    tensors = [predictor.prepare(image) for image in images]
    np.testing.assert_allclose(predictor.predict_tensors(tensors), wanted, atol=1e-5)


def test_no_image_gives_no_vector(predictor: RecPredictor) -> None:
    assert predictor.predict([]).shape == (0, 512)


class Counting:
    """A session that says in which thread it ran, and fails on demand."""

    input_names = ("x",)

    def __init__(self, number: int = 0) -> None:
        self.number, self.clones = number, 0

    def clone(self) -> Counting:
        self.clones += 1
        return Counting(self.number + self.clones)

    def run(self, feeds: Any) -> Any:
        raise EngineError("on demand")


def test_streams_keep_order_and_one_session_per_thread() -> None:
    import threading

    streams = Streams(Counting(), 3)  # type: ignore[arg-type]
    seen: dict[int, set[int]] = {}

    def work(which: Any, piece: int) -> int:
        seen.setdefault(which.number, set()).add(threading.get_ident())
        return piece * 10

    wanted = [10 * number for number in range(20)]
    assert streams.map(work, [1]) == [10]
    assert streams.map(work, range(20)) == wanted
    assert set(seen) == {0}  # clones are made with the second call that needs them
    assert streams.map(work, range(20)) == wanted
    assert set(seen) == {0, 1, 2}
    assert all(len(threads) == 1 for threads in seen.values())
    with pytest.raises(EngineError, match="on demand"):
        streams.map(lambda which, piece: which.run({}), [1, 2, 3, 4])
    assert streams.map(work, [7]) == [70]  # and it goes on


def test_a_piece_goes_to_a_stream_that_is_free() -> None:
    """Before, it waited behind a long one where it was that stream's turn."""
    import threading

    streams, done = Streams(Counting(), 2), threading.Event()  # type: ignore[arg-type]
    for _ in range(2):
        streams.map(lambda which, piece: None, [1, 2])
    waiting = threading.Thread(target=lambda: streams.map(lambda which, piece: done.wait(30), [0]))
    waiting.start()
    assert [streams.map(lambda which, piece: piece, [number]) for number in range(4)] == [[0], [1], [2], [3]]
    assert not done.is_set()
    done.set()
    waiting.join(30)


def test_callers_of_one_piece_each_get_the_other_streams() -> None:
    """A detector's callers have one photo each; its sessions are made when a second caller has to wait."""
    import threading

    streams, together, used = Streams(Counting(), 2), threading.Barrier(2), set[int]()  # type: ignore[arg-type]

    def work(which: Any, piece: int) -> None:
        used.add(which.number)
        if len(streams._sessions) > 1:
            together.wait(30)  # passes only where two run at a time

    def calls() -> None:
        for number in range(2):
            streams.map(work, [number])

    streams._wanted_before = True
    streams._free.get()  # as if one were running
    streams._grow(1)
    streams._free.put(0)
    callers = [threading.Thread(target=calls) for _ in range(2)]
    for each in callers:
        each.start()
    for each in callers:
        each.join(60)
    assert used == {0, 1}


def test_threads_are_capped_at_the_cores() -> None:
    assert options_from(Global(cpu_num_threads=10_000, use_gpu=False)).threads == available_cores()
    assert options_from(Global(cpu_num_threads=1, use_gpu=False)).threads == 1


@pytest.mark.parametrize("key", ["use_gpu", "use_tensorrt", "use_fp16", "use_npu"])
def test_what_is_not_there_is_told_once(key: str, caplog: pytest.LogCaptureFixture) -> None:
    from_config._warn_once.cache_clear()
    section = Global(**{"use_gpu": False, key: True})  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING, "shitu"):
        options = [options_from(section) for _ in range(3)]
    if key == "use_gpu" and options[0].use_gpu:
        pytest.skip("there is a GPU here")
    assert [record.message.split(":")[0] for record in caplog.records] == [f"Global.{key}"]
    assert "going on" in caplog.records[0].message
    assert options[0] == options_from(Global(use_gpu=False))


def halved(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


BREAKAGES: dict[str, tuple[str, Callable[[Path], Any], type[Exception], str]] = {
    # name: (suffix of the file, what happens to it, the error, some of its words)
    "half the weights": ("params", halved, ModelError, "it ends inside tensor"),
    "one byte short": ("params", lambda p: os.truncate(p, p.stat().st_size - 1), ModelError, "it ends inside tensor"),
    "empty weights": ("params", lambda p: os.truncate(p, 0), ModelError, "it is empty"),
    "noise as weights": ("params", lambda p: p.write_bytes(os.urandom(50_000)), ModelError, "it holds no tensor"),
    "zeros as weights": ("params", lambda p: p.write_bytes(bytes(50_000)), ModelError, "damaged or not a Paddle"),
    "a git-lfs pointer": ("params", lambda p: p.write_text("version https://git-lfs\n"), ModelError, "no tensor"),
    "more behind": ("params", lambda p: p.write_bytes(p.read_bytes() + b"more" * 9), ModelError, "no tensor where"),
    "another's weights": (
        "params",
        lambda p: shutil.copy(DETECTOR / "inference.pdiparams", p),
        EngineError,
        "Is the file whole and made for this version?",
    ),
    "half a program": ("program", halved, ModelError, "damaged or not a Paddle file"),
    "an empty program": ("program", lambda p: p.write_bytes(b""), ModelError, "damaged or not a Paddle file"),
    "noise as program": ("program", lambda p: p.write_bytes(b"\xff" + os.urandom(5000)), ModelError, "damaged or not"),
    "a web page": ("program", lambda p: p.write_text("<html>404</html>"), ModelError, "damaged or not a Paddle"),
    "a JSON list": ("program", lambda p: p.write_text("[]"), ModelError, "damaged or not a Paddle"),
    "no weights": ("params", Path.unlink, ModelError, "cannot be read: No such file"),
}

OPEN_ALL = """
import json, sys
from pathlib import Path
from shitu.cores import available_cores
from shitu.engines.paddle import EngineOptions, open_session
for line in json.load(open(sys.argv[1])):
    folder, program = line
    try:
        open_session(Path(folder, program), Path(folder, "inference.pdiparams"), EngineOptions())
        print(json.dumps(["opened", ""]), file=sys.stderr)
    except Exception as error:
        print("ANSWER", json.dumps([type(error).__name__, str(error)]), flush=True)
"""


@pytest.mark.parametrize("kind", ["json", "pdmodel"])
def test_broken_files_are_told(kind: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """In another process, since Paddle may take its process along; one for all, since it takes a second to start."""
    whole = BUNDLED_RECOGNISER if kind == "json" else pplcnetv2(tmp_path_factory)
    program = f"inference.{kind}"
    for number, (which, breakage, _, _) in enumerate(BREAKAGES.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in (program, "inference.pdiparams"):
            shutil.copy(whole / name, folder / name)
        breakage(folder / ("inference.pdiparams" if which == "params" else program))
    jobs = [[str(tmp_path / str(number)), program] for number in range(len(BREAKAGES))]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    command = [sys.executable, "-c", OPEN_ALL, str(tmp_path / "jobs.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [line.partition(" ")[2] for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    assert done.returncode == 0, f"after {len(lines)} of {len(BREAKAGES)}: {done.stderr[-2000:]}"
    assert len(lines) == len(BREAKAGES)
    for (name, (_, _, kind_of_error, words)), line in zip(BREAKAGES.items(), lines, strict=True):
        error, message = json.loads(line)
        assert error == kind_of_error.__name__, f"{name}: {message}"
        assert words in message, name
        assert str(tmp_path) in message
        assert len(message) < 700


def test_whole_files_pass(tmp_path_factory: pytest.TempPathFactory) -> None:
    folders = [BUNDLED_RECOGNISER, DETECTOR]
    if SHARED.exists():
        folders.append(mainbody(tmp_path_factory))
    for folder in folders:
        program = next(path for path in (folder / "inference.json", folder / "inference.pdmodel") if path.exists())
        check_files(program, folder / "inference.pdiparams")


def copied_without_yaml(folder: Path, to: Path) -> Path:
    to.mkdir()
    for name in ("inference.json", "inference.pdiparams"):
        shutil.copy(folder / name, to / name)
    return to


def test_swapped_folders(tmp_path: Path) -> None:
    base = load_config(None).replace("Global", use_gpu=False)
    for key, predictor, folder in (
        ("det_inference_model_dir", DetPredictor, BUNDLED_RECOGNISER),
        ("rec_inference_model_dir", RecPredictor, DETECTOR),
    ):
        with pytest.raises(ModelError, match="you may have swapped the two"):
            predictor(base.replace("Global", **{key: str(folder)}))
    bare = copied_without_yaml(BUNDLED_RECOGNISER, tmp_path / "a")
    with pytest.raises(ConfigError, match="is not a detector: its inputs are x, wanted some of image"):
        DetPredictor(base.replace("Global", det_inference_model_dir=str(bare)))
    bare = copied_without_yaml(DETECTOR, tmp_path / "b")
    with pytest.raises(ModelError, match="you may have swapped the two"):
        RecPredictor(base.replace("Global", rec_inference_model_dir=str(bare)))


def test_no_folder_at_all() -> None:
    base = load_config(None)
    with pytest.raises(ConfigError, match=r"Global\.rec_inference_model_dir is empty"):
        RecPredictor(base.replace("Global", rec_inference_model_dir=None))
    with pytest.raises(ConfigError, match=r"Global\.det_inference_model_dir is empty"):
        DetPredictor(base.replace("Global", det_inference_model_dir=None))


def test_an_input_that_does_not_fit() -> None:
    opened = session(BUNDLED_RECOGNISER)
    with pytest.raises(EngineError, match=r"Paddle could not run it: InvalidArgumentError: The number of input's chan"):
        opened.run({"x": np.zeros((1, 1, 224, 224), np.float32)})
    assert opened.run({"x": noise(1)})[0].shape == (1, 512)  # and it still runs


def test_a_recogniser_without_one_size(tmp_path: Path) -> None:
    ops = [{"ResizeImage": {"resize_short": 256}}, {"ToCHWImage": None}]
    folder = copied_without_yaml(BUNDLED_RECOGNISER, tmp_path / "m")
    config = recogniser_config(folder).replace("RecPreProcess", transform_ops=ops)
    with pytest.raises(ConfigError, match=r"leaves images at different sizes .* add CropImage"):
        RecPredictor(config)
