"""Loaders of training and evaluation: which image where, whatever the workers; bad images; processes that die."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import paddle
import pytest

from shitu.errors import ConfigError, EngineError, ImageError
from shitu.images.read import Picture, read_image
from shitu.training.rec import schema_data
from shitu.training.rec.image_list import ImageList
from shitu.training.rec.loader import Batch, EvalLoader, TrainLoader
from shitu.training.rec.samplers import build_sampler
from shitu.training.rec.transforms import Transform, compile_transform
from tests.conftest import DEMO, ROOT

SIZE = 32
PLAIN = ({"ResizeImage": {"size": SIZE}}, {"NormalizeImage": {"order": "hwc"}})
RANDOM = (
    {"ResizeImage": {"size": SIZE}},
    {"RandFlipImage": {"flip_code": 1}},
    {"RandomRotation": {"prob": 0.5, "degrees": 90}},
    {"RandAugment": None},
    {"NormalizeImage": {"order": "hwc"}},
)
CLASSES = 8


class Batches:
    """`per_epoch` batches of each stream, drawn at random; or those given, in every epoch and stream."""

    def __init__(self, per_epoch: int = 5, size: int = 6, fixed: Sequence[Sequence[int]] = ()) -> None:
        self.per_epoch, self.size, self.fixed = len(fixed) or per_epoch, size, fixed

    def __len__(self) -> int:
        return self.per_epoch

    def batch(self, epoch: int, stream: int, index: int) -> np.ndarray:
        if self.fixed:
            return np.array(self.fixed[index], np.int64)
        return np.random.default_rng([epoch, stream, index]).integers(0, 3 * CLASSES, self.size)


def demo_list(root: Path = DEMO) -> ImageList:
    """24 pictures: images 3c, 3c + 1 and 3c + 2 are class c."""
    lines = [line.split("\t") for line in (DEMO / "gallery.txt").read_text(encoding="utf-8").splitlines()]
    names = sorted({name for _, name in lines})[:CLASSES]
    rows = sorted((names.index(name), path) for path, name in lines if name in names)
    return ImageList.from_rows([path for _, path in rows], [10 * label for label, _ in rows], image_root=str(root))


@pytest.fixture
def spoilt(tmp_path: Path) -> ImageList:
    """Images 0 (not an image), 4 (missing) and all of class 2, i.e. 6 to 8 (empty), cannot be read."""
    images = demo_list(tmp_path)
    for index in range(len(images)):
        path = Path(images.path(index))
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(demo_list().path(index), path)
    Path(images.path(0)).write_text("hello", encoding="utf-8")
    Path(images.path(4)).unlink()
    for index in (6, 7, 8):
        Path(images.path(index)).write_bytes(b"")
    return images


def train(images: ImageList, sampler: Batches | None = None, **options: object) -> TrainLoader:
    transform = options.pop("transform", None) or compile_transform(RANDOM, "x")
    settings = {"seed": 3, "streams": [0], "workers": 0, "use_shared_memory": True, **options}
    return TrainLoader(images, sampler or Batches(), transform, **settings)  # type: ignore[arg-type]


def same(some: Sequence[Batch], others: Sequence[Batch]) -> bool:
    return len(some) == len(others) and all(
        np.array_equal(a.images.numpy(), b.images.numpy())
        and np.array_equal(a.labels.numpy(), b.labels.numpy())
        and np.array_equal(a.index, b.index)
        and a.replaced == b.replaced
        for a, b in zip(some, others, strict=True)
    )


def plain_input(path: str) -> np.ndarray:
    image = cv2.resize(read_image(path), (SIZE, SIZE))
    return ((image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(2, 0, 1)


def test_each_row_is_its_image_with_its_label() -> None:
    images, sampler = demo_list(), Batches()
    loader = train(images, sampler, transform=compile_transform(PLAIN, "x"), streams=[4, 5], workers=2)
    batches = list(loader.epoch(7))
    assert len(loader) == 5
    assert len(batches) == 10
    for number, batch in enumerate(batches):
        wanted = sampler.batch(7, 4 + number % 2, number // 2)  # step by step, in a step stream by stream
        assert batch.index.tolist() == wanted.tolist()
        assert batch.labels.numpy().tolist() == (wanted // 3).tolist()
        assert batch.images.dtype == paddle.float32
        assert batch.labels.dtype == paddle.int64
        assert batch.replaced == 0
        for row, index in enumerate(wanted):
            assert np.abs(batch.images.numpy()[row] - plain_input(images.path(index))).max() < 1e-5
    assert loader.bad == {}


def test_any_number_of_workers_makes_the_same_batches() -> None:
    """After Paddle, oneDNN and OpenCV have used their threads in the process that the workers are forked from."""
    paddle.nn.Conv2D(3, 8, 3)(paddle.rand([4, 3, 64, 64])).mean().backward()
    cv2.resize(np.zeros((3000, 3000, 3), np.uint8), (2000, 2000), interpolation=cv2.INTER_CUBIC)
    images = demo_list()
    alone = list(train(images, streams=[0, 1]).epoch(2))
    for workers in (1, 2, 3):
        for shared in (True, False):
            loader = train(images, streams=[0, 1], workers=workers, use_shared_memory=shared)
            assert same(list(loader.epoch(2)), alone), (workers, shared)
            assert not multiprocessing.active_children()


def test_what_a_batch_depends_on() -> None:
    images = demo_list()
    sampler = Batches(fixed=[[1, 1, 4], [1, 1, 4]])
    first, second = train(images, sampler).epoch(0)
    rows = [row.tobytes() for row in (*first.images.numpy(), *second.images.numpy())]
    assert len(set(rows)) == 6  # position and batch index
    assert not same([first], list(train(images, sampler).epoch(1))[:1])
    assert not same([first], list(train(images, sampler, seed=4).epoch(0))[:1])
    assert not same([first], list(train(images, sampler, streams=[1]).epoch(0))[:1])
    assert same([first, second], list(train(images, sampler).epoch(0)))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_resumed_is_the_rest_of_it(workers: int) -> None:
    whole = list(train(demo_list(), streams=[0, 1]).epoch(1))
    for start in (0, 2, 5):
        rest = list(train(demo_list(), streams=[0, 1], workers=workers).epoch(1, start))
        assert same(rest, whole[2 * start :])
    assert list(train(demo_list(), workers=workers).epoch(1, 99)) == []


def test_streams_do_not_depend_on_who_makes_them() -> None:
    together = list(train(demo_list(), streams=[0, 1, 2]).epoch(0))
    for stream in range(3):
        assert same(list(train(demo_list(), streams=[stream]).epoch(0)), together[stream::3])


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_different_sizes(workers: int) -> None:
    """The first ones say how much memory is shared; a larger one comes another way."""
    sampler = Batches(fixed=[[1], [2], [3], [4], [5, 6, 7, 8], [9, 10]])
    loader = train(demo_list(), sampler, workers=workers, transform=compile_transform(PLAIN, "x"))
    batches = list(loader.epoch(0))
    assert [batch.index.tolist() for batch in batches] == list(sampler.fixed)
    for batch in batches:
        twin = [plain_input(demo_list().path(index)) for index in batch.index]
        assert np.abs(batch.images.numpy() - twin).max() < 1e-5


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_is_replaced_by_one_of_its_class(
    workers: int, spoilt: ImageList, caplog: pytest.LogCaptureFixture
) -> None:
    sampler = Batches(fixed=[[0, 1, 3, 4], [0, 0, 0, 21], [9, 10, 11, 12]])
    loader = train(spoilt, sampler, workers=workers, transform=compile_transform(PLAIN, "x"))
    batches = list(loader.epoch(0))
    assert [batch.replaced for batch in batches] == [2, 3, 0]
    assert [batch.labels.numpy().tolist() for batch in batches] == [[0, 0, 1, 1], [0, 0, 0, 7], [3, 3, 3, 4]]
    # of what is left of the class, first what the batch does not hold yet
    assert batches[0].index.tolist() == [2, 1, 3, 5]
    assert set(batches[1].index[:3].tolist()) <= {1, 2}
    for batch in batches:
        for row, index in zip(batch.images.numpy(), batch.index, strict=True):
            assert np.abs(row - plain_input(spoilt.path(index))).max() < 1e-5
    assert loader.bad == {
        spoilt.path(0): "not an image; shitu reads JPEG, PNG, WebP, BMP, TIFF, GIF or PPM",
        spoilt.path(4): "no such file; check the path",
    }
    list(loader.epoch(1))
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings == [f"{path}: {why}; replaced by others of the same class" for path, why in loader.bad.items()]
    again = train(spoilt, sampler, workers=2 - workers, transform=compile_transform(PLAIN, "x"))
    assert same(list(again.epoch(0)), batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_class_without_images_ends_the_epoch(workers: int, spoilt: ImageList) -> None:
    loader = train(spoilt, Batches(fixed=[[1, 2], [9, 7], [1, 2]]), workers=workers)
    with pytest.raises(ImageError) as caught:
        list(loader.epoch(0))
    said = str(caught.value)
    assert said.startswith("label 20: none of its 3 images can be read: ")
    assert all(f"{spoilt.path(index)} (is empty (0 bytes)" in said for index in (6, 7, 8))
    assert said.endswith("; mend them, or take the class out of the list")
    assert set(loader.bad) == {spoilt.path(index) for index in (6, 7, 8)}
    assert not multiprocessing.active_children()


def test_the_first_20_bad_images_are_named_and_all_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = ImageList.from_rows([f"没有 {number}.jpg" for number in range(30)], [0] * 30, image_root=str(tmp_path))
    loader = EvalLoader(images, compile_transform(PLAIN, "x"), np.arange(30), 7, 0)
    assert list(loader) == []
    assert len(loader.bad) == 30
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 21
    assert messages[0] == f"{tmp_path / '没有 0.jpg'}: no such file; check the path; left out"
    assert messages[-1] == "30 images cannot be read; the first 20 of them are named above"
    list(loader)
    assert len(caplog.records) == 21


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_goes_in_order_and_leaves_bad_images_out(workers: int, spoilt: ImageList) -> None:
    order = [23, 0, 1, 4, 6, 7, 8, 2, 22]
    loader = EvalLoader(spoilt, compile_transform(PLAIN, "x"), np.array(order), 3, workers)
    for _ in range(2):
        batches = list(loader)
        assert [batch.index.tolist() for batch in batches] == [[23, 1], [2, 22]]
        assert [batch.labels.numpy().tolist() for batch in batches] == [[7, 0], [0, 7]]
    assert set(loader.bad) == {spoilt.path(index) for index in (0, 4, 6, 7, 8)}
    assert len(loader) == 3
    whole = EvalLoader(demo_list(), compile_transform(PLAIN, "x"), np.arange(24), 10, workers)
    assert [len(batch.index) for batch in whole] == [10, 10, 4]
    rows = np.concatenate([batch.images.numpy() for batch in whole])
    assert np.abs(rows - [plain_input(demo_list().path(index)) for index in range(24)]).max() < 1e-5


def test_nothing_to_evaluate() -> None:
    loader = EvalLoader(demo_list(), compile_transform(PLAIN, "x"), np.empty(0, np.int64), 4, 2)
    assert len(loader) == 0
    assert list(loader) == []


def test_images_of_different_sizes_are_refused_before_the_first_batch() -> None:
    transform = compile_transform(({"ResizeImage": {"resize_short": 40}}, {"NormalizeImage": {"order": "hwc"}}), "x")
    with pytest.raises(ConfigError, match="different sizes, which no batch can hold; end with ResizeImage"):
        train(demo_list(), transform=transform)


class Slow(Transform):
    """Takes its time; and fails, or is killed, where it is told to."""

    def __init__(self, seconds: float = 0.02, fails: bool = False) -> None:
        base = compile_transform(PLAIN, "x")
        super().__init__(**vars(base))
        object.__setattr__(self, "seconds", seconds)
        object.__setattr__(self, "fails", fails)

    def __call__(self, image: Picture, rng: np.random.Generator) -> np.ndarray:
        time.sleep(self.seconds)  # type: ignore[attr-defined]
        if self.fails:  # type: ignore[attr-defined]
            raise MemoryError("Unable to allocate 9 GiB")
        return super().__call__(image, rng)


@pytest.mark.parametrize("shared", [True, False])
def test_a_worker_that_is_killed_ends_the_epoch_with_an_error(shared: bool) -> None:
    batches = train(demo_list(), Batches(50), workers=2, transform=Slow(), use_shared_memory=shared).epoch(0)
    next(batches)
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    assert workers[0].pid
    os.kill(workers[0].pid, signal.SIGKILL)
    with pytest.raises(EngineError, match=r"loads images was killed \(SIGKILL\); .* try fewer num_workers"):
        list(batches)
    assert not multiprocessing.active_children()


def test_a_signal_to_the_whole_group_is_the_trainers_alone() -> None:
    whole = list(train(demo_list()).epoch(0))
    batches = train(demo_list(), workers=2).epoch(0)
    some = [next(batches)]
    for worker in multiprocessing.active_children():
        assert worker.pid
        os.kill(worker.pid, signal.SIGINT)
        os.kill(worker.pid, signal.SIGTERM)
    assert same(some + list(batches), whole)


def test_an_unforeseen_failure_in_a_worker_is_told() -> None:
    with pytest.raises(EngineError, match="loads images failed: MemoryError: Unable to allocate 9 GiB"):
        list(train(demo_list(), workers=2, transform=Slow(fails=True)).epoch(0))
    assert not multiprocessing.active_children()


def test_an_abandoned_epoch_leaves_no_process() -> None:
    batches = train(demo_list(), Batches(50), workers=2, transform=Slow()).epoch(0)
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    batches.close()
    assert not multiprocessing.active_children()
    for _ in train(demo_list(), Batches(50), workers=2, transform=Slow()).epoch(0):
        break  # the generator is collected, and closed by that
    assert not multiprocessing.active_children()


def test_batches_are_made_ahead_but_no_more_than_two_per_worker() -> None:
    asked: list[int] = []

    class Recording(Batches):
        def batch(self, epoch: int, stream: int, index: int) -> np.ndarray:
            asked.append(index)
            return super().batch(epoch, stream, index)

    batches = train(demo_list(), Recording(50), workers=2).epoch(0)
    for _ in range(3):
        next(batches)
    assert 4 <= len(asked) <= 7
    batches.close()


TRAINER = """
import time, multiprocessing, numpy as np
from tests.test_train_loader import Batches, Slow, demo_list
from shitu.training.rec.loader import BatchMaker, Task
from shitu.training.base.worker_pool import made_ahead
maker = BatchMaker(demo_list(), Slow(), seed=0, replace=True)
tasks = (Task(np.arange(6), (0, 0, step)) for step in range(10_000))
batches = made_ahead(maker, tasks, 2)
for number, made in enumerate(batches):
    if number == 2:
        print(*(each.pid for each in multiprocessing.active_children()), flush=True)
    if number == 4 and FAILS:
        raise SystemExit("full disk")
"""


@pytest.mark.parametrize("end", ["Ctrl-C", "kill -9", "error"])
def test_workers_end_with_their_trainer(end: str) -> None:
    """Ctrl-C reaches all processes at once; kill -9 only the trainer; an error leaves the generator open."""
    trainer = subprocess.Popen(
        [sys.executable, "-c", f"FAILS = {end == 'error'}\n{TRAINER}"], cwd=ROOT, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert trainer.stdout
    workers = [int(pid) for pid in trainer.stdout.readline().split()]
    assert len(workers) == 2
    if end == "Ctrl-C":
        os.killpg(trainer.pid, signal.SIGINT)
    elif end == "kill -9":
        trainer.kill()
    _, said = trainer.communicate(timeout=20)
    assert said.count("Traceback") == (1 if end == "Ctrl-C" else 0)  # the trainer's own
    deadline = time.monotonic() + 20
    while any(map(runs, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(runs, workers))


def runs(pid: int) -> bool:
    """Whether the process is there, and not only its entry that nobody has read yet (Linux)."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


@pytest.mark.parametrize("name", ["DistributedBatchSampler", "PKSampler", "DistributedRandomIdentitySampler"])
def test_no_two_random_streams_of_a_run_are_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sampler's and those of each image of its batches, at every position."""
    states: list[int] = []
    new = np.random.default_rng

    def noted(seed: object) -> np.random.Generator:
        states.append(new(seed).bit_generator.state["state"]["state"])  # type: ignore[arg-type]
        return new(seed)  # type: ignore[arg-type]

    images = demo_list()
    section = getattr(schema_data, name)(batch_size=12, shuffle=True)
    loader = train(images, build_sampler(section, images.labels, streams=2, seed=3), streams=[0, 1])  # type: ignore
    monkeypatch.setattr("numpy.random.default_rng", noted)
    for epoch in range(6):
        list(loader.epoch(epoch))
    assert len(states) > 6 * 12
    assert len(set(states)) == len(states)
