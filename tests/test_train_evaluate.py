"""Evaluation from list files: a network that hands on its pixels, so that the answer is known without it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import paddle
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from paddle import nn
from PIL import Image

from shitu.cli.training import evaluate as command
from shitu.config.reader import Reader
from shitu.errors import ConfigError, ShituError
from shitu.recognise.binarize import pack_bits
from shitu.training.base.memory import evaluation_mode
from shitu.training.rec.evaluate import evaluate, finish, open_eval, open_network
from shitu.training.rec.schema import Global, TrainConfig

TO_FLOAT = [{"NormalizeImage": {"scale": 1.0, "mean": [128, 128, 128], "std": [64, 64, 64], "order": "hwc"}}]
SIDE = 6


class Pixels(nn.Layer):
    """A network whose features are the image itself; what `finish` and the comparison make of them is under test."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2D(3)
        self.pool = nn.BatchNorm2D(3)
        self.factor = factor

    def embed(self, images: paddle.Tensor) -> dict[str, paddle.Tensor]:
        assert not self.norm.training
        return {"features": images.flatten(1) * self.factor, "backbone": images[:, :1] * self.factor}


class Pictures:
    """Random images of a few classes in a folder, and the vectors that `Pixels` makes of them."""

    def __init__(self, folder: Path, count: int, classes: int = 4, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        centres = np.random.default_rng(99).integers(108, 148, (classes, SIDE, SIDE, 3))
        self.folder, self.labels = folder, rng.integers(0, classes, count)
        self.pixels = np.clip(centres[self.labels] + rng.normal(0, 40, (count, SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
        self.names = [f"图 {seed}-{number}.png" for number in range(count)]
        for name, pixels in zip(self.names, self.pixels, strict=True):
            Image.fromarray(pixels).save(folder / name)

    @property
    def vectors(self) -> NDArray[np.float64]:
        flat = ((self.pixels.astype(np.float64) - 128) / 64).transpose(0, 3, 1, 2).reshape(len(self.pixels), -1)
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    def write_list(self, name: str, *, ids: bool = False) -> Path:
        rows = zip(self.names, self.labels + 1000, strict=True)  # labels are not dense, as in a validation list
        text = "".join(f"{path} {label}{f' {row}' if ids else ''}\n" for row, (path, label) in enumerate(rows))
        (self.folder / name).write_text(text, encoding="utf-8")
        return self.folder / name


def recall(queries: Pictures, gallery: Pictures, k: int, *, own: bool) -> float:
    """Among the k nearest of all, or of all others."""
    hits = []
    for row, vector in enumerate(queries.vectors):
        similarity = gallery.vectors @ vector
        if own:
            similarity[row] = -2
        hits.append((gallery.labels[np.argsort(-similarity)[:k]] == queries.labels[row]).any())
    return float(np.mean(hits))


def settings(query: Path, gallery: Path, *, kind: str = "ImageNetDataset", **more: object) -> TrainConfig:
    def data(path: Path) -> dict[str, object]:
        dataset = {"name": kind, "image_root": str(path.parent), "cls_label_path": str(path), "transform_ops": TO_FLOAT}
        crop = [{"ResizeImage": {"size": [SIDE, SIDE]}}, *TO_FLOAT]
        return {
            "dataset": {**dataset, "transform_ops": crop},
            "sampler": {"name": "DistributedBatchSampler", "batch_size": 4},
            "loader": {"num_workers": 0},
        }

    raw = {"DataLoader": {"Eval": {"Query": data(query), "Gallery": data(gallery)}}, **more}
    return Reader(TrainConfig, "x.yaml").section(TrainConfig, raw, source="x.yaml")


def measured(config: TrainConfig, network: nn.Layer | None = None) -> dict[str, float]:
    assert config.DataLoader.Eval is not None
    return evaluate(network or Pixels(), config.DataLoader.Eval, config)


# --- what comes out --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metrics", [["Recallk"], ["Recallk", "mAP"]])
def test_two_lists(tmp_path: Path, metrics: list[str]) -> None:
    queries, gallery = Pictures(tmp_path, 30, seed=1), Pictures(tmp_path, 50, seed=2)
    config = settings(queries.write_list("q.txt"), gallery.write_list("g.txt"), Metric={"Eval": metrics})
    found = measured(config)
    wanted = [recall(queries, gallery, k, own=False) for k in (1, 5)]
    assert 0.3 < wanted[0] < 0.95  # neither chance nor trivial
    assert [found["recall1"], found["recall5"]] == pytest.approx(wanted)
    assert (found["queries"], found["left_out"], found["bad_images"]) == (30, 0, 0)


def test_metrics_come_in_the_order_of_the_config(tmp_path: Path) -> None:
    path = Pictures(tmp_path, 12).write_list("l.txt")
    metrics = [{"mINP": {}}, {"Recallk": {"topk": [3, 1]}}, {"mAP": {}}]
    found = measured(settings(path, path, Metric={"Eval": metrics}))
    assert list(found) == ["mINP", "recall3", "recall1", "mAP", "queries", "left_out", "bad_images"]


def test_a_query_does_not_find_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One list as both sides, its copy, and with unique ids: the same, and not 1.0."""
    pictures = Pictures(tmp_path, 40)
    path, copy = pictures.write_list("l.txt"), pictures.write_list("copy.txt")
    with_ids = pictures.write_list("ids.txt", ids=True)
    with caplog.at_level("INFO", logger="shitu"):
        once = measured(settings(path, path))
    assert "40 of 40 query images are in the gallery list" in caplog.text
    assert once["recall1"] == pytest.approx(recall(pictures, pictures, 1, own=True))
    assert once["recall1"] < 0.95
    assert measured(settings(path, copy)) == once
    caplog.clear()
    assert measured(settings(with_ids, with_ids, kind="VeriWild")) == once
    assert "query images" not in caplog.text


def test_ids_mean_the_same_in_two_lists(tmp_path: Path) -> None:
    """Texts, of which the gallery holds some and others, in another order."""
    pictures = Pictures(tmp_path, 40)
    rows = [f"{name} {label} 照片{name[-6:-4]}" for name, label in zip(pictures.names, pictures.labels, strict=True)]
    for name, chosen in (("q.txt", rows[:30]), ("g.txt", rows[:9:-1])):
        (tmp_path / name).write_text("\n".join(chosen), encoding="utf-8")
        (tmp_path / f"paths-{name}").write_text("\n".join(row.rpartition(" ")[0] for row in chosen), encoding="utf-8")
    with_ids = measured(settings(tmp_path / "q.txt", tmp_path / "g.txt", kind="VeriWild"))
    assert with_ids == measured(settings(tmp_path / "paths-q.txt", tmp_path / "paths-g.txt"))
    assert with_ids["recall1"] < 0.95


def test_a_list_that_is_both_sides_is_embedded_once(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path, 10)
    path, copy = pictures.write_list("l.txt"), pictures.write_list("copy.txt")
    for config, times in ((settings(path, path), 1), (settings(path, copy), 2)):
        seen: list[int] = []
        assert config.DataLoader.Eval is not None
        evaluate(Pixels(), config.DataLoader.Eval, config, progress=seen.append)
        assert sum(seen) == 10 * times == open_eval(config.DataLoader.Eval).image_count


def test_bad_images_are_left_out_and_counted(tmp_path: Path) -> None:
    """As if they had never been in the lists."""
    queries, gallery = Pictures(tmp_path, 20, seed=1), Pictures(tmp_path, 30, seed=2)
    lists = queries.write_list("q.txt"), gallery.write_list("g.txt")
    for pictures, row in ((queries, 3), (gallery, 0), (gallery, 29)):
        (tmp_path / pictures.names[row]).write_bytes(b"no image")
    found = measured(settings(*lists))
    assert (found.pop("bad_images"), found["queries"]) == (3, 19)
    for path, rows in zip(lists, ((3,), (0, 29)), strict=True):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(line for row, line in enumerate(lines) if row not in rows), encoding="utf-8")
    without = measured(settings(*lists))
    assert without.pop("bad_images") == 0
    assert found == without


def test_queries_without_a_positive_are_counted_apart(tmp_path: Path) -> None:
    queries, gallery = Pictures(tmp_path, 20, classes=6, seed=1), Pictures(tmp_path, 30, seed=2)
    found = measured(settings(queries.write_list("q.txt"), gallery.write_list("g.txt")))
    alone = int((queries.labels > 3).sum())
    assert alone > 0
    assert (found["queries"], found["left_out"]) == (20 - alone, alone)


def test_features_from_the_backbone_and_of_the_model_that_is_inferred(tmp_path: Path) -> None:
    queries, gallery = Pictures(tmp_path, 30, seed=1), Pictures(tmp_path, 50, seed=2)
    lists = queries.write_list("q.txt"), gallery.write_list("g.txt")
    first_channel = measured(settings(*lists, Global={"retrieval_feature_from": "backbone"}))
    assert first_channel != measured(settings(*lists))
    for pictures in (queries, gallery):
        pictures.pixels[..., 1:] = 128  # becomes 0
    assert first_channel["recall1"] == pytest.approx(recall(queries, gallery, 1, own=False))

    both = nn.Layer()
    both.add_sublayer("Teacher", Pixels(factor=float("nan")))
    both.add_sublayer("Student", Pixels())
    models = [{name: {"name": "RecModel"}} for name in ("Teacher", "Student")]
    arch = {"name": "DistillationModel", "models": models, "infer_model_name": "Student"}
    assert measured(settings(*lists, Arch=arch), both) == measured(settings(*lists))


def test_every_layer_keeps_its_mode() -> None:
    network = Pixels()
    network.pool.eval()  # a frozen norm in a network that trains
    with evaluation_mode(network):
        assert not network.norm.training
    assert [layer.training for layer in network.sublayers(include_self=True)] == [True, True, False]


# --- features --------------------------------------------------------------------------------------------------


def test_vectors_are_normalised_and_zero_stays_zero() -> None:
    features = np.float32([[3, 4], [0, 0], [0, -0.5]])
    assert finish(features, Global()).tolist() == [pytest.approx([0.6, 0.8]), [0, 0], [0, -1]]
    assert (finish(features, Global(feature_normalize=False)) == features).all()


@pytest.mark.parametrize("method", ["sign", "round"])
def test_codes_are_those_of_recognition(method: str) -> None:
    features = np.random.default_rng(0).normal(0, 0.7, (50, 32)).astype(np.float32)
    features[0, :4] = [0, -0.0, 0.5, -0.5]
    codes = finish(features, Global(feature_normalize=False, feature_binarize=method))  # type: ignore[arg-type]
    assert set(np.unique(codes)) == {-1.0, 1.0}
    assert (np.packbits(codes > 0, axis=1) == pack_bits(features, method)).all()


# --- bad input -------------------------------------------------------------------------------------------------


def without_side(side: str) -> Callable[[Path], TrainConfig]:
    def config(folder: Path) -> TrainConfig:
        path = Pictures(folder, 3).write_list("l.txt")
        data = settings(path, path).DataLoader.Eval
        assert data is not None
        kept = {"Query": data.Gallery} if side == "Gallery" else {"Gallery": data.Query}
        return Reader(TrainConfig, "x.yaml").section(TrainConfig, {"DataLoader": {"Eval": kept}}, source="x.yaml")

    return config


def other_labels(folder: Path) -> TrainConfig:
    queries, gallery = Pictures(folder, 5, seed=1), Pictures(folder, 5, seed=2)
    gallery.labels = gallery.labels + 50
    return settings(queries.write_list("q.txt"), gallery.write_list("g.txt"))


def no_metric(folder: Path) -> TrainConfig:
    path = Pictures(folder, 3).write_list("l.txt")
    return settings(path, path, Metric={"Eval": []})


def one_of_each(folder: Path) -> TrainConfig:
    pictures = Pictures(folder, 4)
    pictures.labels = np.arange(4)
    path = pictures.write_list("l.txt")
    return settings(path, path)


def nothing_readable(folder: Path) -> TrainConfig:
    pictures = Pictures(folder, 6)
    path = pictures.write_list("l.txt")
    for name in pictures.names[1:]:
        (folder / name).write_bytes(b"")
    return settings(path, path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (without_side("Query"), "x.yaml has no DataLoader.Eval.Query; both"),
        (without_side("Gallery"), "x.yaml has no DataLoader.Eval.Gallery; both"),
        (other_labels, "no image of DataLoader.Eval.Query has another of its label in DataLoader.Eval.Gallery"),
        (no_metric, "Metric.Eval of x.yaml is empty"),
        (one_of_each, "no image of DataLoader.Eval.Query has another of its label"),
        (nothing_readable, "no query has an image of its label in the gallery, once unreadable"),
    ],
)
def test_what_cannot_be_evaluated(tmp_path: Path, config: Callable[[Path], TrainConfig], message: str) -> None:
    with pytest.raises(ShituError, match=re.escape(message)):
        measured(config(tmp_path))


def test_vectors_that_are_no_numbers(tmp_path: Path) -> None:
    path = Pictures(tmp_path, 6).write_list("l.txt")
    with pytest.raises(ShituError, match="no numbers for 6 of 6 images"):
        measured(settings(path, path), Pixels(factor=float("nan")))


# --- two processes ---------------------------------------------------------------------------------------------

WORKER = """
import json, sys
import numpy as np
from shitu.training.base import processes
from shitu.training.rec.evaluate import evaluate
from shitu.training.base.processes import gather_rows
from test_train_evaluate import Path, Pixels, settings

rank, world = processes.start()
assert world == 2
rows = np.full((3 * rank, 2), rank + 0.5, np.float32)  # none of the first process
assert gather_rows(rows, world).tolist() == [[1.5, 1.5]] * 3
assert gather_rows(np.empty((0, 2), np.float32), world).shape == (0, 2)
results = []
for query, gallery in json.loads(sys.argv[1]):
    config = settings(Path(query), Path(gallery))
    results.append(evaluate(Pixels(), config.DataLoader.Eval, config, rank=rank, world=world))
with open(f"{sys.argv[2]}/result{rank}.json", "w") as file:
    json.dump(results, file)
"""


def launch(folder: Path, arguments: Sequence[str]) -> None:
    script = folder / "worker.py"
    script.write_text(WORKER, encoding="utf-8")
    tests = Path(__file__).parent
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PADDLE_")},
        "PADDLE_DISTRI_BACKEND": "gloo",
        "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)]),
        "OMP_NUM_THREADS": "1",
    }
    start = [
        sys.executable,
        "-m",
        "paddle.distributed.launch",
        "--nproc_per_node",
        "2",
        "--log_dir",
        str(folder / "log"),
    ]
    done = subprocess.run(
        [*start, str(script), *arguments], env=environment, capture_output=True, timeout=200, check=False
    )
    logs = "".join(path.read_text(encoding="utf-8", errors="replace") for path in folder.glob("log/workerlog.*"))
    assert done.returncode == 0, logs


def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    """Odd counts, one list as both sides, a bad image, and fewer queries than processes."""
    queries, gallery = Pictures(tmp_path, 17, seed=1), Pictures(tmp_path, 31, seed=2)
    (tmp_path / gallery.names[5]).write_bytes(b"no image")
    single = tmp_path / "single.txt"
    lists = queries.write_list("q.txt"), gallery.write_list("g.txt")
    single.write_text(lists[0].read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    cases = [lists, (lists[0], lists[0]), (single, lists[1])]
    alone = [measured(settings(*case)) for case in cases]
    launch(tmp_path, [json.dumps([[str(path) for path in case] for case in cases]), str(tmp_path)])
    for rank in (0, 1):
        together = json.loads((tmp_path / f"result{rank}.json").read_text())
        assert together == [pytest.approx(each, rel=1e-12) for each in alone]
    assert alone[0]["bad_images"] == 1


# --- the command -----------------------------------------------------------------------------------------------

CONFIG = """
Global: {{device: cpu, image_shape: [3, 32, 32]}}
Arch:
  name: RecModel
  Backbone: {{name: PPLCNet_x0_25, class_num: 16}}
  Neck: {{name: BNNeck, num_features: 16}}
  Head: {{name: FC, embedding_size: 16, class_num: 9}}
DataLoader:
  Eval:
    Query: &side
      dataset:
        name: ImageNetDataset
        image_root: {folder}
        cls_label_path: {folder}/l.txt
        transform_ops: [{{ResizeImage: {{size: [32, 32]}}}}, {{NormalizeImage: {{scale: 1/255, order: hwc}}}}]
      sampler: {{name: DistributedBatchSampler, batch_size: 8}}
      loader: {{num_workers: 0}}
    Gallery: *side
"""


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    Pictures(tmp_path, 25).write_list("l.txt")
    path = tmp_path / "x.yaml"
    path.write_text(CONFIG.format(folder=tmp_path), encoding="utf-8")
    return path


def test_the_command_prints_what_the_weights_are_worth(config_file: Path) -> None:
    from shitu.training.rec.networks import build_network
    from shitu.training.rec.schema import load_train_config

    config = load_train_config(config_file)
    network = build_network(config.Arch, 9, image_shape=(3, 32, 32))  # with its head, as the trainer has it
    weights = config_file.parent / "best_model.pdparams"
    paddle.save(network.state_dict(), str(weights))
    options = ["-c", str(config_file), "-o", f"Global.pretrained_model={weights.with_suffix('')}"]

    done = CliRunner().invoke(command, options, catch_exceptions=False)
    record = json.loads(done.stdout.splitlines()[-1])
    wanted = measured(config, network)
    assert record == pytest.approx({name: round(value, 6) for name, value in wanted.items()})
    assert list(record) == ["recall1", "recall5", "mAP", "queries", "left_out", "bad_images"]
    assert len({each.name for each in open_network(load_train_config(config_file, (options[-1],))).parameters()}) > 20

    table = CliRunner().invoke(command, [*options, "--format", "table"], catch_exceptions=False).stdout.split("\n")
    assert any(line.split() == ["recall1", f"{record['recall1']:.4f}"] for line in table)
    assert any(line.split() == ["queries", "25"] for line in table)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Global.pretrained_model is null: which weights"),
        (["-o", "Global.pretrained_model=nowhere"], "no weights nowhere"),
        (["-o", "DataLoader.Eval.Query.dataset.cls_label_path=nix.txt"], "nix.txt: No such file"),
        (["-o", "Metric.Eval=[{Recalk: {}}]"], "did you mean Recallk?"),
        (["--nproc", "2", "--format", "table"], "--format table is printed by one process"),
    ],
)
def test_what_the_command_refuses(config_file: Path, options: list[str], message: str) -> None:
    with pytest.raises((ConfigError, ShituError), match=re.escape(message)):
        CliRunner().invoke(command, ["-c", str(config_file), *options], catch_exceptions=False)
