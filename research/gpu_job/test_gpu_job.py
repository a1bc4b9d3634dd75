"""The GPU job as it will be run, on a small pack of the demo's pictures: pack, job.pyz, a second call, the way back.

Needs torch (make research). What is learnt here is worthless; that it runs to its end, writes what it should and comes
back equal is what counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make research")

from research.gpu_job.job.detector import precision_and_recall  # noqa: E402
from research.gpu_job.job.detector_views import DetectorViews  # noqa: E402
from research.gpu_job.job.losses import triplet_angular_margin  # noqa: E402
from research.gpu_job.job.muon import orthogonal  # noqa: E402
from research.gpu_job.job.packed import TRAIN, Pack  # noqa: E402
from research.gpu_job.job.state import Learner  # noqa: E402
from research.gpu_job.pack_photos import ROOT, choose, held_out  # noqa: E402

DATA = ROOT.parent / "shared" / "data"
FILE_LIMIT = 16_000_000


def run(*arguments: object) -> str:
    """A command from the repository's root; its output."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "2"}
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pack")
    printed = run("-m", "research.gpu_job.pack", "--demo", "--out", out)
    # the packer itself stops at 1e-4; its line says that it compared
    assert "recogniser: largest difference" in printed
    assert "detector, scores: largest difference" in printed
    return out


@pytest.fixture(scope="module")
def trained(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    assert "finished" in run(packed / "job.pyz", "--pack", packed / "pack.npz", "--out", out, "--smoke")
    return out


@pytest.fixture
def pack(packed: Path) -> Pack:
    return Pack(packed / "pack.npz", torch.device("cpu"))


def test_smoke_writes_weights_curve_and_log(trained: Path) -> None:
    files = {path.name: path.stat().st_size for path in trained.iterdir()}
    results = {"teacher.pt", "recogniser.pt", "detector.pt", "curve.json", "log.txt"}
    assert results < set(files)
    resumes = [name.split(".")[0] for name in files if ".resume" in name]
    assert len(results) + max(map(resumes.count, resumes)) <= 8, "more do not come home from the lent machine"
    assert max(files.values()) < FILE_LIMIT
    curve = json.loads((trained / "curve.json").read_text())
    assert {point["half"] for point in curve} == {"teacher", "recogniser", "detector"}
    assert curve[-1]["step"] >= 3
    assert "missed" in (trained / "log.txt").read_text()  # the teacher's pooled features
    assert "metric learning begins" in (trained / "log.txt").read_text()


def test_second_call_goes_on(packed: Path, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run_files = [path for path in trained.iterdir() if path.is_file()]
    out.mkdir()
    for path in run_files:
        (out / path.name).write_bytes(path.read_bytes())
    before = torch.load(out / "detector.pt", weights_only=True)["about"]
    run(packed / "job.pyz", "--pack", packed / "pack.npz", "--out", out, "--smoke", "--halves", "detector")
    after = torch.load(out / "detector.pt", weights_only=True)["about"]
    assert f"detector: going on at step {before['step']}" in (out / "log.txt").read_text()
    assert after["step"] > before["step"]
    assert after["seconds"] > before["seconds"]


def test_the_way_back_is_equal_and_serves(trained: Path, tmp_path: Path) -> None:
    printed = run("-m", "research.gpu_job.back", "--run", trained, "--out", tmp_path, "--data", tmp_path / "none")
    assert "largest difference from PyTorch" in printed  # it stops at 1e-4
    for name in ("efficientnet_lite0_512", "pplcnetv2_base_512", "picodet_efficientnet_lite0_mainbody"):
        assert (tmp_path / name / "model.yaml").is_file()
    models = [
        f"Global.rec_inference_model_dir={tmp_path / 'pplcnetv2_base_512'}",
        f"Global.det_inference_model_dir={tmp_path / 'picodet_efficientnet_lite0_mainbody'}",
    ]
    options = [part for model in models for part in ("-o", model)]
    lines = run("-m", "shitu", "predict-rec", *options, "demo/photos/desk.jpg").splitlines()
    assert len(lines) == 1
    assert run("-m", "shitu", "predict-det", *options, "demo/photos/desk.jpg").strip()


def test_files_of_different_steps_are_noticed(tmp_path: Path) -> None:
    said: list[str] = []
    network = torch.nn.Linear(4, 3)
    learner = Learner("small", network, lr=0.1, decay=0.0, ema=0.9)
    for step in (1, 2):
        learner.learn(network(torch.ones(2, 4)).square().mean(), 2, 1.0, 5.0)
        learner.save(tmp_path, float(step))
        if step == 1:
            old = (tmp_path / "small.resume1.pt").read_bytes()
    (tmp_path / "small.resume1.pt").write_bytes(old)
    other = Learner("small", torch.nn.Linear(4, 3), lr=0.1, decay=0.0, ema=0.9)
    other.load(tmp_path, said.append)
    assert "of different steps" in said[0]
    assert other.step == 2
    for mine, average in zip(other.network.parameters(), learner.average.parameters(), strict=True):
        assert torch.allclose(mine, average, atol=2e-3)  # float16


def test_resume_brings_weights_and_moments_back(tmp_path: Path) -> None:
    network, twin = (
        torch.nn.Sequential(
            torch.nn.Conv2d(4, 6, 1), torch.nn.Flatten(), torch.nn.Linear(6, 3), torch.nn.BatchNorm1d(3)
        )
        for _ in range(2)
    )
    learner = Learner("small", network, lr=0.1, decay=0.0, ema=0.9, muon=0.1)
    for _ in range(3):
        learner.learn(network(torch.randn(8, 4, 1, 1)).square().mean(), 8, 1.0, 5.0)
    learner.save(tmp_path, 3.0)
    other = Learner("small", twin, lr=0.1, decay=0.0, ema=0.9, muon=0.1)
    other.load(tmp_path, lambda _: None)
    for name, value in learner.network.state_dict().items():
        assert torch.allclose(other.network.state_dict()[name].float(), value.float(), atol=2e-3), name
    seen = 0
    for optimizers in zip(other.optimizers, learner.optimizers, strict=True):
        mine, theirs = (list(optimizer.state.values()) for optimizer in optimizers)
        for state, wanted in zip(mine, theirs, strict=True):
            assert torch.allclose(state["exp_avg"], wanted["exp_avg"], atol=1e-3, rtol=1e-2)
            assert float(state.get("step", 3)) == 3
            seen += 1
    assert seen == len(list(network.parameters()))


def test_muon_steps_are_orthogonal() -> None:
    """Against the singular value decomposition: the same directions, each of a length near 1."""
    matrices = torch.randn(3, 24, 16, generator=torch.Generator().manual_seed(1))
    found = orthogonal(matrices).float()
    u, _, vt = torch.linalg.svd(matrices, full_matrices=False)
    lengths = (u * (found @ vt.mT)).sum(1)
    assert ((lengths > 0.6) & (lengths < 1.3)).all()
    assert torch.allclose(u.mT @ found @ vt.mT, torch.diag_embed(lengths), atol=0.03)


def test_boxes_follow_what_is_drawn(pack: Pack) -> None:
    """A red field is the only object of every photo: after any augmentation its box is where red is."""
    pack.images[:] = 0
    pack.boxes, pack.real = pack.boxes[:, :1], torch.ones(len(pack.boxes), 1, dtype=torch.bool)
    pack.crowd = torch.zeros_like(pack.real)
    pack.boxes[:] = torch.tensor([0.25, 0.375, 0.75, 0.625])
    pack.images[:, 0, 60:100, 40:120] = 255
    views = DetectorViews(pack, torch.device("cpu"), 1, 320)
    views.colours = lambda images: images  # type: ignore[method-assign]
    rows = pack.rows(TRAIN)[:1]
    checked = 0
    for _ in range(20):
        place = tuple(
            views.uniform(1, low=low, high=high) for low, high in ((-0.4, 0.4), (-0.4, 0.4), (0.6, 1.5), (0.6, 1.5))
        )
        drawn = views.placed(rows, place)  # type: ignore[arg-type]
        red = drawn.images[0, 0] > 240
        if not drawn.real[0, 0] or not red.any():
            continue
        y, x = red.nonzero().T
        seen = torch.tensor([x.min(), y.min(), x.max() + 1, y.max() + 1])
        assert torch.allclose(drawn.truth[0, 0], seen.float(), atol=2.5)
        checked += 1
    assert checked > 8


def test_triplet_loss_by_hand() -> None:
    """Three unit vectors at 0, 60 and 90 degrees, the first two of one class."""
    rows = torch.tensor([[1.0, 0.0], [0.5, 3**0.5 / 2], [0.0, 1.0]])
    s_ap, s_an = np.array([0.5, 0.5, 1.0]), np.array([0.0, 3**0.5 / 2, 3**0.5 / 2])
    ranking = np.maximum(0.5 - (s_ap - s_an), 0).mean()
    absolute = np.maximum(0.8 - s_ap, 0).mean() + np.maximum(s_an - 0.4, 0).mean()
    found = triplet_angular_margin(rows, torch.tensor([0, 0, 1]))
    assert float(found) == pytest.approx(ranking + 0.1 * absolute, abs=1e-6)


def test_recall_is_pycocotools() -> None:
    """Recall of ten boxes at IoU 0.5 against COCOeval on random boxes."""
    coco_api, evaluation = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    rng = np.random.default_rng(0)
    truth, found, rows, detections = [], [], [], []
    for image in range(12):
        corner, size = rng.uniform(0, 0.6, (5, 2)), rng.uniform(0.1, 0.4, (5, 2))
        boxes = np.concatenate([corner, corner + size], 1)
        near = boxes + rng.normal(0, 0.04, boxes.shape)
        scores = rng.uniform(0, 1, 5)
        truth.append((torch.tensor(boxes), torch.zeros(0, 4, dtype=torch.double)))
        order = np.argsort(-scores)
        found.append((torch.tensor(scores[order]), torch.tensor(near[order])))
        for i, (x1, y1, x2, y2) in enumerate(boxes):
            box = [x1, y1, x2 - x1, y2 - y1]
            rows.append({"id": 100 * image + i + 1, "image_id": image, "category_id": 1, "bbox": box, "iscrowd": 0})
            rows[-1]["area"] = box[2] * box[3]
        for (x1, y1, x2, y2), score in zip(near, scores, strict=True):
            detections.append({"image_id": image, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score})
    coco = coco_api.COCO()
    coco.dataset = {"images": [{"id": i} for i in range(12)], "annotations": rows, "categories": [{"id": 1}]}
    coco.createIndex()
    judged = evaluation.COCOeval(coco, coco.loadRes(detections), "bbox")
    judged.params.maxDets = [1, 5, 10]
    judged.evaluate()
    judged.accumulate()
    wanted = judged.eval["recall"][0, 0, 0, 2]
    assert 0.2 < wanted < 0.95
    assert precision_and_recall(found, truth)["recall_of_10"] == pytest.approx(wanted, abs=1e-6)


def test_nothing_to_choose_or_test_by_is_learnt_from() -> None:
    if not DATA.is_dir():
        pytest.skip("../shared/data is not there: its lists are what is checked")
    learn, choosing = choose(DATA)
    assert len(learn) >= 5000
    files = {entry.path.resolve() for entry in learn}
    assert not files & {entry.path.resolve() for entry in choosing}
    lists = [DATA / "juice" / name for name in ("val.txt", "test.txt")]
    forbidden = [path.parent / line.split("\t")[0] for path in lists for line in path.read_text().splitlines() if line]
    for folder, name in (("ecssd", "val.json"), ("boxes", "val.json"), ("coco128", "foreground.json")):
        images = json.loads((DATA / folder / name).read_text())["images"]
        forbidden += [DATA / folder / "images" / image["file_name"] for image in images]
    assert not files & {path.resolve() for path in forbidden}
    assert not {path.parent.name for path in files if "caltech101" in path.parts} & held_out()
    articles = {
        part: {e.label for e in entries if e.source == "products"} for part, entries in (("l", learn), ("c", choosing))
    }
    assert not articles["l"] & articles["c"]
