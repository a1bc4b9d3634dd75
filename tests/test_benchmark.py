"""`shitu benchmark`: its record, what it refuses, what it writes, and the arithmetic of the roofline."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner, Result

from shitu.benchmark import load
from shitu.benchmark.compare import compare_answers
from shitu.benchmark.limits import Limits, Machine
from shitu.benchmark.process import WorkerProcess
from shitu.benchmark.record import Benchmark
from shitu.benchmark.roofline import Work, count_macs, least_seconds
from shitu.benchmark.run import Plan, benchmark
from shitu.benchmark.stages import STAGES, Clock, watch
from shitu.benchmark.variants import Variant, variants_of
from shitu.build.builder import GalleryBuilder
from shitu.cli import main
from shitu.config import load_config
from shitu.errors import EngineError, UsageError
from shitu.images.read import read_image
from shitu.models import Program
from shitu.recognise.from_config import SystemPredictor
from tests.conftest import DEMO, index_overrides

PHOTOS = (str(DEMO / "photos/beach.jpg"), str(DEMO / "photos/fridge.jpg"))
KEYS = {"command", "date", "machine", "load", "models", "images", "rounds", "limits", "variants", "reference",
        "left_out", "failed", "fastest"}  # fmt: skip
ORT = "Global.engine=onnxruntime"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index")
    lines = (DEMO / "gallery.txt").read_text(encoding="utf-8")
    (folder / "list.txt").write_text(lines, encoding="utf-8")
    GalleryBuilder(load_config(None, [*index_overrides(folder / "list.txt", folder / "index"), ORT])).run()
    return folder / "index"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(index: Path, *arguments: object) -> Result:
    options = ["-o", f"IndexProcess.index_dir={index}", "--engine", "onnxruntime", "--precision", "fp32", "--rounds", 1]
    words = ["benchmark", *options, "--threads", 1, "--batch", 1, *arguments]
    return CliRunner().invoke(main, list(map(str, words)), catch_exceptions=False)


def regions(config: Path | None, index: Path, *overrides: str) -> list[list[tuple[str, tuple[int, ...]]]]:
    system = SystemPredictor(load_config(config, [f"IndexProcess.index_dir={index}", *overrides]))
    found = system.predict([read_image(photo) for photo in PHOTOS])
    return [[(region.label, region.bbox) for region in each.regions] for each in found]


def test_the_command_with_a_broken_image_a_plot_and_a_config(index: Path) -> None:
    Path("broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    asked = ["--anyway", "--starts", 1, "--format", "json", "--plot", "p.svg", "--write", "my.yaml"]
    done = run(index, *asked, *PHOTOS, "broken.jpg")
    assert done.exit_code == 1, done.stderr
    assert "Failed: broken.jpg" in done.stderr
    found = json.loads(done.stdout)
    assert set(found) == KEYS
    assert (found["images"], found["rounds"], [name for name, _ in found["failed"]]) == (2, 1, ["broken.jpg"])
    (one,) = found["variants"]
    assert set(one["stages"]) == {"whole", *STAGES}
    assert sum(one["stages"][name]["share"] for name in STAGES) == pytest.approx(1, abs=0.02)
    assert all(one["stages"][name]["median"] > 0 for name in STAGES)
    assert one["answers"] == {"same_labels": True, "others": 0, "pixels": 0.0, "kept": True}
    assert one["cold_start"]["median"] > 0
    assert one["memory_mb"] > 50
    assert {kind: each["macs"] // 10**6 for kind, each in one["networks"].items()} == {
        "detector": 1094,
        "recogniser": 384,
    }
    assert found["limits"][0]["peaks"]["fp32"] > 1e8
    assert found["machine"]["onnxruntime"]
    assert "CPU features" in found["machine"]
    ElementTree.parse("p.svg")
    written = load_config("my.yaml").Global
    assert (written.engine, written.precision, written.cpu_num_threads) == ("onnxruntime", "fp32", 1)
    assert regions(Path("my.yaml"), index) == regions(None, index, ORT)


def test_what_auto_takes_is_told(index: Path) -> None:
    options = ["-o", f"IndexProcess.index_dir={index}", "--engine", "auto", "--precision", "auto", "--rounds", 1]
    options += ["--starts", 0, "--batch", 2, "--anyway", "--format", "json", PHOTOS[0]]
    done = CliRunner().invoke(main, ["benchmark", *map(str, options)], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    for one in json.loads(done.stdout)["variants"]:
        assert {each["engine"] for each in one["networks"].values()} <= {"onnxruntime, fp32", "onnxruntime, int8"}
        assert one["cold_start"] is None


def test_a_variant_that_fails_on_the_way_is_left_out(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = WorkerProcess.ask

    def fail(worker: WorkerProcess, do: str, **arguments: object) -> object:
        if worker.variant.threads == 1 and do == "folder":
            raise EngineError("no more memory")
        return ask(worker, do, **arguments)

    monkeypatch.setattr(WorkerProcess, "ask", fail)
    monkeypatch.setattr("shitu.benchmark.variants.available_cores", lambda: 2)
    plan = Plan(["onnxruntime"], ["fp32"], batches=[1], rounds=1, starts=0, anyway=True)
    found = benchmark(None, [f"IndexProcess.index_dir={index}"], PHOTOS[:1], plan)
    assert found.left_out == [("onnxruntime fp32, 1 thread", "no more memory")]
    assert [each.threads for each in found.variants] == [2]


def test_a_busy_machine_is_refused(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_ticks", lambda: None)
    monkeypatch.setattr("os.getloadavg", lambda: (100.0, 1.0, 1.0))
    done = run(index, PHOTOS[0])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "other processes take 100% of this machine's cores" in done.stderr
    assert "--anyway" in done.stderr


def test_an_idle_machine_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([(1000, 5000), (1010, 5200)])
    monkeypatch.setattr(load, "_ticks", lambda: next(ticks))
    assert load.others_share(0.0) == 0.05
    load.check_load(0.05)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["nothing.jpg"], 2, "no such file"),
        (["--plot", "there/is/none.svg", PHOTOS[0]], 2, "--plot"),
        (["--write", "there/is/none.yaml", PHOTOS[0]], 2, "there is no folder"),
        (["--precision", "int8", "--anyway", "-"], 2, "standard input"),
        (["broken.jpg"], 1, "none of 1 images can be read"),
    ],
)
def test_what_is_refused(index: Path, arguments: list[str], status: int, said: str) -> None:
    Path("broken.jpg").write_bytes(b"no picture")
    done = run(index, *arguments)
    assert (done.exit_code, done.stdout) == (status, "")
    assert said in done.stderr


def test_a_gallery_that_is_missing_is_told(tmp_path: Path) -> None:
    done = run(tmp_path / "none", "--anyway", PHOTOS[0])
    assert done.exit_code == 1
    assert "build-gallery" in done.stderr


def test_variants_are_what_there_is() -> None:
    config = load_config(None, ["Global.cpu_num_threads=1"])
    found, left = variants_of(config, ["onnxruntime"], ["fp32", "bf16"])
    assert found == [Variant("onnxruntime", "fp32", 1)]
    assert [name for name, _ in left] == ["onnxruntime bf16"]
    with pytest.raises(UsageError, match="nothing is left to measure"):
        variants_of(config, ["onnxruntime"], ["bf16"])


# --- stages and answers --------------------------------------------------------------------------------------------


def test_watching_changes_no_answer(index: Path) -> None:
    system = SystemPredictor(load_config(None, [f"IndexProcess.index_dir={index}", ORT]))
    image, clock = read_image(PHOTOS[0]), Clock()
    before = system.predict([image])
    watch(system, clock)
    assert system.predict([image]) == before
    taken = clock.taken(10.0)
    assert sum(taken.values()) == pytest.approx(10.0)
    assert taken["decode"] == taken["drawing"] == 0  # nobody read, nobody drew
    assert min(taken[stage] for stage in STAGES[1:9]) > 0


def test_answers() -> None:
    one = [[["a", [0, 0, 10, 10]], ["b", [5, 5, 9, 9]], ["a", [20, 20, 30, 30]]]]
    other = [[["a", [21, 20, 30, 30]], ["a", [0, 0, 10, 10]], ["b", [5, 5, 9, 9]]]]
    assert vars(compare_answers(one, other, "fp32")) == {"same_labels": True, "others": 0, "pixels": 1.0, "kept": True}
    far = [[["a", [24, 20, 30, 30]], *other[0][1:]]]
    assert not compare_answers(one, far, "bf16").kept
    assert compare_answers(one, far, "int8").kept
    assert not compare_answers(one, [one[0][:2]], "int8").kept
    assert compare_answers([[]], [[]], "fp32").kept


# --- the roofline --------------------------------------------------------------------------------------------------


def test_multiply_adds_of_a_tiny_network(tmp_path: Path) -> None:
    """Convolution 3 -> 4, 3 x 3 on 8 x 8, padded; depthwise with stride 2; matrix product 64 -> 5; Gemm 5 -> 2."""
    onnx = pytest.importorskip("onnx")
    helper, shape = onnx.helper, {"a": (4, 3, 3, 3), "b": (4, 1, 3, 3), "c": (64, 5), "d": (5, 2)}
    weights = [onnx.numpy_helper.from_array(np.ones(size, np.float32), name) for name, size in shape.items()]
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["1"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["1", "b"], ["2"], pads=[1, 1, 1, 1], strides=[2, 2], group=4),
        helper.make_node("Flatten", ["2"], ["3"]),
        helper.make_node("MatMul", ["3", "c"], ["4"]),
        helper.make_node("Gemm", ["4", "d"], ["5"]),
    ]
    floats = onnx.TensorProto.FLOAT
    ends = [
        helper.make_tensor_value_info(name, floats, size) for name, size in (("x", ["n", 3, 8, 8]), ("5", ["n", 2]))
    ]
    graph = helper.make_graph(nodes, "tiny", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "tiny.onnx")
    program = Program("onnx", "fp32", tmp_path / "tiny.onnx")
    wanted = 8 * 8 * 4 * 27 + 4 * 4 * 4 * 9 + 64 * 5 + 5 * 2
    assert count_macs(program, np.zeros((1, 3, 8, 8), np.float32), {}) == wanted == 7818


def test_the_least_time_is_that_of_the_slower_of_two() -> None:
    limits = Limits(1, {"fp32": 100e9, "int8": 400e9}, 10e9)
    work = Work(1_000_000_000, "counted", 40_000_000)
    assert least_seconds(work, limits, "fp32") == 0.01  # 10 ms of products, 4 ms of reading weights
    assert least_seconds(work, limits, "int8") == 0.004
    assert least_seconds(work, limits, "int8", batch=32) == 0.0025
    assert least_seconds(work, limits, "bf16") is None
    assert least_seconds(Work(None, "unknown", 1), limits, "fp32") is None


def test_the_machines_limits(tmp_path: Path) -> None:
    machine = Machine(1, ("fp32", "int8"), tmp_path)
    machine.measure(tries=1)
    assert set(machine.limits.peaks) == {"fp32", "int8"}
    assert min(machine.limits.peaks.values()) > 1e8
    assert machine.limits.bandwidth > 1e8


def test_nothing_keeps_the_answers() -> None:
    empty = Benchmark("", "", {}, {}, {}, 0, 0, [], [], "")
    assert empty.fastest() is None
    assert empty.to_dict()["fastest"] is None
