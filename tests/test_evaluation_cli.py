"""`shitu evaluate` as a user runs it: from a folder of photos to figures, and everything that can be wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from shitu.build.builder import GalleryBuilder
from shitu.cli import main
from shitu.config import load_config
from shitu.errors import ConfigError
from shitu.evaluation.queries import Query, read_queries
from tests.conftest import DEMO, index_overrides

pytestmark = pytest.mark.usefixtures("shared_sessions")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 8 labels of the first 24 demo pictures."""
    folder = tmp_path_factory.mktemp("index")
    lines = (DEMO / "gallery.txt").read_text(encoding="utf-8").splitlines()[:24]
    (folder / "list.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    overrides = index_overrides(folder / "list.txt", folder / "index", index_method="Flat")
    GalleryBuilder(load_config(None, [*overrides, "Global.use_gpu=False"])).run()
    return folder / "index"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)


def evaluate(index: Path, query_list: str, *arguments: object) -> Result:
    """With that list, written to q.txt."""
    Path("q.txt").write_text(query_list, encoding="utf-8")
    where = ["-o", f"IndexProcess.index_dir={index}", "--query", "q.txt", "--image-root", DEMO]
    return run("evaluate", *where, *arguments)


def demo_lines(*photos: str) -> str:
    lines = (DEMO / "photos.txt").read_text(encoding="utf-8").splitlines()
    return "".join(f"{line}\n" for line in lines if Path(line.split("\t")[0]).stem in photos)


# --- lists ---------------------------------------------------------------------------------------------------------


def test_lines_of_a_query_list() -> None:
    Path("q.txt").write_text("a b.jpg\t青 茶\n\nb.jpg\tx\t1,2,30,40\tmore\nc.jpg\ty\t\n", encoding="utf-8")
    assert read_queries("q.txt", "root", "\t") == [
        Query("a b.jpg", "root/a b.jpg", "青 茶", None, 1),
        Query("b.jpg", "root/b.jpg", "x", (1, 2, 30, 40), 3),
        Query("c.jpg", "root/c.jpg", "y", None, 4),
    ]
    Path("q.txt").write_text("b.jpg green tea\t-1,2,30,40\n", encoding="utf-8")
    assert read_queries("q.txt", None, " ") == [Query("b.jpg", "b.jpg", "green tea", (-1, 2, 30, 40), 1)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "q.txt: no line in it; it lists photos with what they show, one `path<delimiter>label`"),
        ("a.jpg\n", "q.txt:1: 'a.jpg': wanted an image and a label"),
        ("a.jpg\tx\nb.jpg\ty\t1,2,3\n", "q.txt:2: '1,2,3' is no box; wanted x1,y1,x2,y2"),
        ("a.jpg\tx\t1,2,3.5,4\n", "is no box"),
        ("a.jpg\tx\t9,2,3,4\n", "left < right"),
        ("a.jpg\tx\tserial\n", "'serial' is no box"),
    ],
)
def test_lines_that_are_none(text: str, said: str, index: Path) -> None:
    Path("q.txt").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_queries("q.txt", None, "\t")
    assert said in str(caught.value)
    done = evaluate(index, text)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr


def test_the_demos_list_is_that_of_its_json() -> None:
    truth = json.loads((DEMO / "photos.json").read_text(encoding="utf-8"))
    expected = [(path, each["label"], tuple(each["bbox"])) for path, objects in truth.items() for each in objects]
    assert [(one.image, one.label, one.box) for one in read_queries(DEMO / "photos.txt", DEMO, "\t")] == expected


# --- the command ---------------------------------------------------------------------------------------------------


def test_json_is_one_object_with_all_figures(index: Path) -> None:
    done = evaluate(index, demo_lines("toy_shelf", "fridge"), "--false-accept", 0.25, "--false-accept", 0.5)
    assert (done.exit_code, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    found = json.loads(done.stdout)
    assert (found["queries"], found["known"], found["unknown"], found["failed"]) == (16, 4, 12, 0)
    assert found["gallery"] == {"path": str(index), "entries": 24, "labels": 8, "model": "efficientnet_lite0_512"}
    assert set(found["recall"]) == {"1", "5"}
    assert found["settings"]["score_thres"] == found["at_threshold"]["threshold"] == 0.4
    open_set = found["open_set"]
    assert (open_set["unknown"], open_set["known_queries"], open_set["unknown_queries"]) == ("listed", 4, 12)
    assert [one["false_accept_rate"] for one in open_set["recall_at"]] == [0.25, 0.5]
    assert set(open_set["curve"]) == {"threshold", "false_accept_rate", "recall"}
    assert {one["label"] for one in found["per_class"]} == {"ambulance", "automobile", "avocado", "ball of yarn"}
    assert found["mean_average_precision"] is not None
    without = json.loads(evaluate(index, demo_lines("toy_shelf", "fridge"), "--no-map").stdout)
    assert without["mean_average_precision"] is None
    assert {one["ap"] for one in without["per_class"]} == {None}


def test_the_table_and_the_report(index: Path) -> None:
    lines = "photos/fridge.jpg\tavocado\nphotos/toy_shelf.jpg\tbackpack\nphotos/desk.jpg\t1e5\n"
    done = evaluate(index, lines, "--format", "table", "--report", "report.html")
    assert (done.exit_code, done.stderr) == (0, "The figures with the worst mistakes as pictures: report.html\n")
    for text in ("2 known, 1 unknown, 0 failed", "24 entries, 8 labels", "Recall@1", "mAP", "AUROC", "worst classes"):
        assert text in done.stdout
    assert "most frequent confusions" in done.stdout
    assert "Recall@1" in Path("report.html").read_text(encoding="utf-8")
    refused = evaluate(index, lines, "--report", "no/folder.html")
    assert (refused.exit_code, refused.stdout) == (2, "")


def test_a_photo_that_cannot_be_read(index: Path) -> None:
    good = demo_lines("fridge")
    done = evaluate(index, f"gone.jpg\tavocado\n{good}gone.jpg\tpretzel\t1,2,3,4\n")
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [f"Failed: {DEMO / 'gone.jpg'}: no such file; check the path"]
    found, alone = json.loads(done.stdout), json.loads(evaluate(index, good).stdout)
    assert found.pop("failed") == 2
    assert found.pop("queries") == alone.pop("queries") + 2
    assert alone.pop("failed") == 0
    assert found == alone


@pytest.mark.parametrize(
    ("lines", "status", "said"),
    [
        (
            "photos/fridge.jpg\tAvocado\n",
            2,
            "none of the 1 labels of the queries is in the gallery (wanted, for example: 'Avo",
        ),
        ("gone.jpg\tavocado\nphotos/desk.jpg\tx\n", 1, "every query with a label of the gallery failed"),
    ],
)
def test_nothing_to_count(index: Path, lines: str, status: int, said: str) -> None:
    done = evaluate(index, lines)
    assert (done.exit_code, done.stdout) == (status, "")
    assert said in done.stderr


def test_what_is_missing_is_told(index: Path, tmp_path: Path) -> None:
    gone = run("evaluate", "--query", "gone.txt", "-o", f"IndexProcess.index_dir={index}")
    assert gone.exit_code == 2
    assert "The query list gone.txt: No such file or directory; check the path: it lists photos" in gone.stderr
    none = run("evaluate", "-o", f"IndexProcess.index_dir={index}")
    assert (none.exit_code, none.stderr) == (2, "Error: no query list; give --query LIST, or set Eval.cls_label_path\n")
    done = evaluate(tmp_path / "no_gallery", demo_lines("desk"))
    assert done.exit_code == 2
    assert "there is no gallery in" in done.stderr
    nothing = ["-o", "Global.whole_image=never", "-o", "Global.det_inference_model_dir=null"]
    done = evaluate(index, demo_lines("fridge"), *nothing)
    assert done.exit_code == 2
    assert "--detector off or given" in done.stderr


def test_the_configs_own_list(index: Path) -> None:
    """PaddleClas's section Eval, as in its evaluation_general.yaml."""
    Path("own.txt").write_text(demo_lines("fridge"), encoding="utf-8")
    common = ["evaluate", "-o", f"IndexProcess.index_dir={index}", "-o", "Eval.cls_label_path=own.txt"]
    own = run(*common, "-o", f"Eval.image_root={DEMO}")
    assert own.exit_code == 0
    assert json.loads(own.stdout) == json.loads(evaluate(index, demo_lines("fridge")).stdout)
    assert run(*common, "-o", f"IndexProcess.image_root={DEMO}").stdout == own.stdout
    assert run(*common, "--image-root", DEMO).stdout == own.stdout


def test_one_label_leaves_nothing_to_tell_apart(tmp_path: Path) -> None:
    lines = (DEMO / "gallery.txt").read_text(encoding="utf-8").splitlines()[:3]
    Path("list.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    overrides = [part for one in index_overrides(Path("list.txt"), tmp_path / "index") for part in ("-o", one)]
    assert run("build-gallery", *overrides).exit_code == 0
    done = evaluate(tmp_path / "index", f"{lines[0]}\n", "--detector", "off", "--leave-one-out")
    assert done.exit_code == 0
    assert "Warning: The gallery has a single label" in done.stderr
    found = json.loads(done.stdout)
    assert (found["open_set"], found["recall"]["1"], found["in_gallery"]) == (None, 1.0, 1)
    assert "AUROC" not in evaluate(tmp_path / "index", f"{lines[0]}\n", "--format", "table").stdout


def test_ctrl_c(index: Path, tmp_path: Path) -> None:
    lines = ["gone.jpg\tx\n"]
    for number in range(300):
        (tmp_path / f"{number}.jpg").symlink_to(DEMO / "photos" / "desk.jpg")
        lines.append(f"{tmp_path / f'{number}.jpg'}\tavocado\n")
    (tmp_path / "q.txt").write_text("".join(lines))
    where = ["-o", f"IndexProcess.index_dir={index}", "--query", "q.txt"]
    command = [sys.executable, "-m", "shitu", "evaluate", *where]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("Failed: ")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (130, "", "\nInterrupted; what was finished is kept.\n")


# --- a folder of one's own -----------------------------------------------------------------------------------------


def test_from_a_folder_of_photos_to_figures(tmp_path: Path) -> None:
    """Two commands of the documentation, then evaluate, with three of eight labels unknown to the gallery.

    Each gallery picture is there whole and cropped.
    """
    lines = [line.split("\t") for line in (DEMO / "gallery.txt").read_text(encoding="utf-8").splitlines()[:24]]
    for image, label in lines:
        source = DEMO / image
        copy = tmp_path / "photos" / label / f"{source.parent.name}{source.suffix}"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.read_bytes())
    shares = ["--split", "query=0.3,gallery=0.7", "--unknown", "0.4"]
    assert run("dataset", "from-folder", "photos", "-o", "lists", *shares, "--gallery").exit_code == 0
    own = ["-o", "IndexProcess.image_root=photos", "-o", "IndexProcess.index_dir=index"]
    assert run("build-gallery", *own, "-o", "IndexProcess.data_file=lists/gallery.txt").exit_code == 0
    done = run("evaluate", *own, "--query", "lists/query.txt", "--detector", "off")
    assert (done.exit_code, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["gallery"]["entries"], found["gallery"]["labels"]) == (20, 5)
    assert (found["known"], found["unknown"], found["in_gallery"]) == (5, 9, 0)
    assert found["open_set"]["unknown"] == "listed"
