"""What makes everyday use short: names, layers, short options, folders of photos, and what a gallery remembers."""

from __future__ import annotations

import csv
import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from shitu import made_with
from shitu.cli import main, out
from shitu.cli.options import as_text
from shitu.config import load_config
from shitu.config.layers import names
from shitu.gallery import open_reader, settings_of
from tests.conftest import DEMO, ROOT, refusal

pytestmark = pytest.mark.usefixtures("shared_sessions")
THINGS = {"tea": ("google/beer_mug.jpg", "google/carrot.jpg"), "可乐": ("fluent/banana.jpg",)}
Run = Callable[..., Result]


def run(*arguments: object, status: int = 0, **more: str) -> Result:
    done = CliRunner(env=more).invoke(main, [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == status, done.stderr
    return done


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is no checkout, with a folder of photos for each of two things."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SHITU_GALLERY", raising=False)
    for label, files in THINGS.items():
        (tmp_path / "photos" / label).mkdir(parents=True)
        for file in files:
            shutil.copy(DEMO / "gallery" / file, tmp_path / "photos" / label)
    return tmp_path


def entries(folder: str) -> list[tuple[str, str]]:
    """Without repetitions, since a picture is entered whole and cropped."""
    return list(dict.fromkeys((item.image, item.label) for item in open_reader(folder).items()))


def settings(folder: str) -> dict[str, object]:
    found = json.loads(settings_of(folder))
    assert isinstance(found, dict)
    return found


def set_settings(folder: Path, text: str) -> None:
    (database,) = folder.glob("gen-*/items.db")
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE meta SET value = ? WHERE key = 'settings'", (text,))
        connection.execute("DELETE FROM meta WHERE key = 'crc'")  # a stranger makes it fit
    connection.close()


# --- configs --------------------------------------------------------------------------------------------------------


def test_three_lines_over_the_bundled_config(here: Path) -> None:
    Path("my.yaml").write_text("base: general\nIndexProcess:\n  score_thres: 0.7\n", encoding="utf-8")
    assert load_config("my.yaml") == replace(
        load_config(None).replace("IndexProcess", score_thres=0.7), source="my.yaml"
    )
    Path("my.yaml").write_text("base: paddleclas\nGlobal: {threshold: 0.7}\n", encoding="utf-8")
    Path("same.yaml").write_text("Global: {threshold: 0.7}\n", encoding="utf-8")
    assert load_config("my.yaml") == replace(load_config("same.yaml"), source="my.yaml"), "PaddleClas's defaults"
    Path("my.yaml").write_text("base: generl\nGlobal: {}\n", encoding="utf-8")
    assert refusal("my.yaml").startswith("base is 'generl' in my.yaml; one of ")
    Path("my.yaml").write_text("base: drink\nRecPreProcess: null\n", encoding="utf-8")
    config = load_config("my.yaml")
    assert config.RecPreProcess.transform_ops is None, "null, and not what the base says"
    assert config.DetPreProcess == load_config("drink").DetPreProcess


def test_bundled_configs_have_names(here: Path) -> None:
    assert set(names()) >= {"general", "drink", "logo", "product", "vehicle", "cartoon", "det", "rec"}
    for name, path in names().items():
        assert load_config(name) == load_config(path)
    Path("drink").write_text("Global: {threshold: 0.9}", encoding="utf-8")
    assert load_config("drink").Global.threshold == 0.9, "a file of that name comes first"
    rows = run("config", "show", "-c", "logo", "-g", "x").stdout
    assert "inference_logo.yaml:" in rows
    assert '# -o IndexProcess.index_dir="x"' in rows


def test_pplcnetv2_by_one_word(here: Path) -> None:
    """A bundled config over another: what it does not say is the general one's."""
    wanted = load_config(None).replace("Global", rec_inference_model_dir="pplcnetv2_base_512")
    wanted = wanted.replace("IndexProcess", index_dir="./output/demo_index_pplcnetv2", score_thres=0.5)
    assert replace(load_config("pplcnetv2"), source="") == replace(wanted, source="")
    Path("my.yaml").write_text("base: pplcnetv2\nGlobal: {threshold: 0.7}\n", encoding="utf-8")
    wanted = wanted.replace("Global", threshold=0.7)
    assert replace(load_config("my.yaml"), source="") == replace(wanted, source="")
    run("build-gallery", "-c", "pplcnetv2", "photos", "-g", "mine")
    done = run("predict", "-g", "mine", "--no-pictures", "photos/tea")
    assert {region["rec_docs"] for line in done.stdout.splitlines() for region in json.loads(line)["regions"]} == {
        "tea"
    }, "the gallery remembers its recogniser"


def test_the_demo_and_the_configs_are_found_from_anywhere(here: Path) -> None:
    done = run("predict-det", "-c", "configs/inference_general.yaml", "--no-pictures", "demo/photos/beach.jpg")
    assert json.loads(done.stdout)["image"] == str(ROOT / "demo" / "photos" / "beach.jpg")
    assert run("build-gallery").stderr.endswith("demo_index holds 480.\n")


@pytest.mark.parametrize("path", ["[1]", "yes", "a: b", "~x", "1e3", "#1", "下 面", "😀", "a\udcffb", "x\x85y", '"'])
def test_a_short_option_takes_any_path(path: str) -> None:
    config = load_config(None, [as_text("Global.output_dir", path)])
    assert config.Global.output_dir == path


def test_short_options_come_after_all_overrides(here: Path) -> None:
    short = ["--score", "0.1", "--top-k", "2", "--threshold", "0.5", "--out", "drawn", "--device", "cpu", "-g", "mine"]
    run("build-gallery", "photos", "-g", "mine")
    done = run("predict", *short, "-o", "Global.output_dir=no", "-o", "IndexProcess.return_k=1", "photos")
    assert done.stderr.endswith("; 3 annotated pictures in drawn\n")
    assert {len(region["matches"]) for line in done.stdout.splitlines() for region in json.loads(line)["regions"]} == {
        2
    }


def test_init_writes_what_later_commands_read(here: Path) -> None:
    run("build-gallery", "photos", "-g", "mine")
    assert run("init").stderr.endswith("next: shitu predict PHOTOS\n")
    text = Path("shitu.yaml").read_text(encoding="utf-8")
    assert Path(text.splitlines()[0].partition("$schema=")[2]).is_file()
    done = run("predict", "--no-pictures", "photos/tea")
    assert done.stderr.startswith("Config: shitu.yaml\n2 images: ")
    assert "shitu.yaml" not in run("predict", "--no-pictures", "-c", "general", "-g", "mine", "photos/tea").stderr
    assert "there already" in run("init", status=2).stderr
    Path("shitu.yaml").write_text(text.replace("# ", ""), encoding="utf-8")
    uncommented = "\n".join(line.replace("# ", "", 1) if ": " in line else line for line in text.splitlines()[4:])
    Path("all.yaml").write_text(f"base: general\n{uncommented}\n", encoding="utf-8")
    assert load_config("all.yaml").IndexProcess.vote_k == 10, "every commented key is one"


# --- galleries ------------------------------------------------------------------------------------------------------


def test_a_folder_per_thing_needs_no_list(here: Path) -> None:
    run("build-gallery", "photos", "-g", "mine")
    paths = [("tea/beer_mug.jpg", "tea"), ("tea/carrot.jpg", "tea"), ("可乐/banana.jpg", "可乐")]
    assert entries("mine") == paths
    shutil.copy(DEMO / "gallery" / "google" / "axe.jpg", "photos/axe_2.jpg")
    assert "passed over, since they lie in no folder" in run("build-gallery", "photos", "-g", "mine").stderr
    run("build-gallery", "photos", "-g", "mine", "--labels", "from-names")
    assert entries("mine") == [
        ("axe_2.jpg", "axe"),
        *((image, Path(image).stem) for image, _ in paths),
    ]
    Path("photos/list.txt").write_text("axe_2.jpg\tan axe\n", encoding="utf-8")
    run("build-gallery", "photos/list.txt", "-g", "mine")
    assert entries("mine") == [("axe_2.jpg", "an axe")]
    assert "which pictures?" in run("build-gallery", "-g", "mine", status=2).stderr
    assert "no such folder" in run("build-gallery", "none", "-g", "mine", status=2).stderr


def test_every_gallery_command_takes_it_in_the_same_way(here: Path) -> None:
    run("build-gallery", "photos", "-g", "mine")
    Path("my.yaml").write_text("base: general\nIndexProcess: {index_dir: mine}\n", encoding="utf-8")
    wanted = run("gallery", "list", "mine").stdout
    ways: list[tuple[list[str], dict[str, str]]] = [
        (["-g", "mine"], {}),
        (["-c", "my.yaml"], {"SHITU_GALLERY": "other"}),
        (["-o", "IndexProcess.index_dir=mine"], {"SHITU_GALLERY": "other"}),
        ([], {"SHITU_GALLERY": "mine"}),
    ]
    for words, environment in ways:
        assert run("gallery", "list", *words, **environment).stdout == wanted
        assert "The gallery is sound" in run("gallery", "verify", *words, **environment).stderr
        done = run("predict", "--no-pictures", *words, "photos/tea", **environment)
        assert '"rec_docs": "tea"' in done.stdout
    table = run("gallery", "list", "-g", "mine", "--format", "table").stdout.splitlines()
    assert [line.split() for line in table[2:]] == [["tea", "2"], ["可乐", "1"]]
    assert "which gallery?" in run("gallery", "list", status=2).stderr


def test_appended_paths_are_of_the_gallerys_kind(here: Path) -> None:
    run("build-gallery", "photos", "-g", "mine")
    shutil.copy(DEMO / "gallery" / "google" / "axe.jpg", "photos/tea")
    shutil.copy(DEMO / "gallery" / "google" / "bell.jpg", "bell.jpg")
    run("gallery", "append", "-g", "mine", "--label", "x", "photos/tea/axe.jpg", "bell.jpg")
    assert entries("mine")[3:] == [("tea/axe.jpg", "x"), ("bell.jpg", "x")]
    shutil.move("photos", "elsewhere")
    shutil.copy(DEMO / "gallery" / "google" / "crab.jpg", "crab.jpg")
    run("gallery", "append", "-g", "mine", "--label", "x", "crab.jpg")
    assert entries("mine")[5:] == [("crab.jpg", "x")], "the folder is gone; nothing is relative to it"


def test_a_gallery_remembers_how_it_was_made(here: Path) -> None:
    made = ["-o", "IndexProcess.dist_type=L2", "-o", "IndexProcess.score_thres=0.5", "-o", "IndexProcess.crop=largest"]
    run("build-gallery", "photos", "-g", "mine", *made)
    done = run("predict", "--no-pictures", "-g", "mine", "photos/tea/carrot.jpg")
    assert "As mine was made: " in done.stderr
    (region,) = json.loads(done.stdout)["regions"]
    assert (region["rec_docs"], region["rec_scores"] < 0.5) == ("tea", True), "a squared distance"
    run("gallery", "append", "-g", "mine", "--label", "b", DEMO / "photos" / "desk.jpg")
    assert [item.box is not None for item in open_reader("mine").items()] == [True] * 4
    run("gallery", "compact", "mine")
    assert settings("mine")["IndexProcess.dist_type"] == "L2"
    done = run("predict", "--no-pictures", "-g", "mine", "-o", "IndexProcess.dist_type=IP", "photos/tea", status=2)
    assert "has dist_type L2" in done.stderr, "what the user says wins"


def test_a_strangers_gallery_chooses_no_model_folder(here: Path) -> None:
    run("build-gallery", "photos", "-g", "mine")
    kept = settings("mine")
    assert kept["Global.rec_inference_model_dir"] == "efficientnet_lite0_512"
    key = "Global.rec_inference_model_dir"
    shutil.copytree(ROOT / "models" / "efficientnet_lite0_512", "model")
    for path in ("model", "./model", str(here / "model"), "../x", "models/../model", 7, ["a"]):
        set_settings(here / "mine", json.dumps({**kept, key: path}))
        done = run("predict", "-g", "mine", "photos", status=2)
        assert "does not make shitu load a folder" in " ".join(done.stderr.split())
        assert repr(path) in done.stderr
        assert run("gallery", "info", "mine").exit_code == 0, "which loads no model"
    done = run("predict", "--no-pictures", "-g", "mine", "-o", f"{key}=model", "photos/tea")
    assert '"rec_docs": "tea"' in done.stdout, "the user may name it"
    hostile = {"Global.output_dir": "/tmp/x", "RecPreProcess.transform_ops": [{"x": {}}], "IndexProcess.index_dir": "y"}
    set_settings(here / "mine", json.dumps(hostile))
    assert run("predict", "--no-pictures", "-g", "mine", "photos/tea").stderr.startswith("2 images: "), "other keys"
    for text in ("[" * 10_000, "nonsense", "[1]", '{"a": "' + "x" * 50_000 + '"}'):
        set_settings(here / "mine", text)
        made_with._SAID.clear()
        assert "not say legibly" in run("predict", "--no-pictures", "-g", "mine", "photos/tea").stderr
    set_settings(here / "mine", '{"IndexProcess.embedding_size": "many"}')
    assert "the gallery mine" in run("predict", "-g", "mine", "photos/tea", status=2).stderr


def test_the_official_models_are_remembered_by_name(here: Path) -> None:
    """So that `-c drink` is said once: its config has paths, at the end of which stand known names."""
    Path("my.yaml").write_text("base: drink\nIndexProcess: {index_dir: mine}\n", encoding="utf-8")
    kept = json.loads(made_with.settings_to_keep(load_config("my.yaml")))
    assert kept["Global.rec_inference_model_dir"] == "general_PPLCNetV2_base_pretrained_v1.0_infer"
    assert kept["Global.det_inference_model_dir"] == "picodet_PPLCNet_x2_5_mainbody_lite_v1.0_infer"
    run("build-gallery", "photos", "-g", "mine")
    set_settings(here / "mine", json.dumps(kept))
    asked = load_config("drink")
    config = made_with.load_config_for_gallery(None, [as_text("IndexProcess.index_dir", "mine")])
    for key in ("threshold", "max_det_results", "whole_image", "rec_nms_within_labels"):
        assert getattr(config.Global, key) == getattr(asked.Global, key)
    assert config.Global.rec_inference_model_dir == kept["Global.rec_inference_model_dir"]


def test_an_older_gallery_remembers_nothing(here: Path) -> None:
    run("build-gallery", "photos", "-g", "mine")
    (database,) = Path("mine").glob("gen-*/items.db")
    with sqlite3.connect(database) as connection:
        connection.execute("DELETE FROM meta WHERE key IN ('settings', 'crc')")
    connection.close()
    assert settings_of("mine") == ""
    assert '"rec_docs": "tea"' in run("predict", "--no-pictures", "-g", "mine", "photos/tea").stdout


def test_a_map_finds_the_pictures_where_they_were(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths of entries begin in the folder of the photos, and the command is run elsewhere."""
    run("build-gallery", "photos", "-g", "mine")
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    run("gallery", "map", "-g", "../mine", "--html", "map.html")
    page = Path("map.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/jpeg') >= len(entries("../mine"))


# --- by mistake -----------------------------------------------------------------------------------------------------


def test_a_folder_with_its_own_output_does_not_grow(here: Path) -> None:
    run("build-gallery", "photos", "-g", "mine")
    for _ in range(3):
        assert len(run("predict", "-g", "mine", ".").stdout.splitlines()) == 3
        run("predict", "-g", "mine", "--out", "photos/tea", "photos/可乐")
    assert "shitu's own pictures passed over" in run("predict", "-g", "mine", "photos/**/*.jpg").stderr
    assert "already there" in run("gallery", "append", "-g", "mine", "--label", "x", "photos").stderr
    assert len(entries("mine")) == 3
    assert "holds only pictures that shitu drew itself" in run("predict", "-g", "mine", "output", status=2).stderr
    named = run("predict", "-g", "mine", "output/carrot.jpg")
    assert named.stdout, "named itself, it is taken"
    assert "output/carrot.jpg: shitu drew boxes and names into it" in named.stderr


def test_a_good_gallery_is_not_replaced_while_its_images_are_missing(here: Path) -> None:
    shutil.copytree("photos", "disk")
    lines = [f"{label}/{Path(file).name}\t{label}\n" for label, files in THINGS.items() for file in files]
    Path("list.txt").write_text("".join(lines), encoding="utf-8")
    build = ["build-gallery", "list.txt", "-o", "IndexProcess.image_root=disk", "-g", "mine", "--skip-missing"]
    run(*build)
    shutil.rmtree("disk/tea")
    done = run(*build, status=2)
    assert "2 of 3 listed images are missing, such as disk/tea/beer_mug.jpg" in done.stderr
    assert len(entries("mine")) == 3
    run(*build, "--yes")
    assert len(entries("mine")) == 1


def test_what_a_list_says_twice(here: Path) -> None:
    shutil.copy("photos/tea/carrot.jpg", "photos/可乐/same.jpg")
    lines = ["tea/carrot.jpg\ttea", "tea/carrot.jpg\ttea", "可乐/same.jpg\tcarrot", "tea/beer_mug.jpg\ttea"]
    Path("photos/list.txt").write_text("\n".join(lines), encoding="utf-8")
    done = run("build-gallery", "photos/list.txt", "-g", "mine")
    assert "可乐/same.jpg is listed as carrot, and as tea; it is indexed under each" in done.stderr
    assert "3 images indexed, 6 vectors, 1 repeated line passed over; mine holds 6." in done.stderr


# --- what is told ---------------------------------------------------------------------------------------------------


def test_objects_without_a_name(here: Path) -> None:
    run("build-gallery", "photos", "-g", "mine")
    photo = DEMO / "photos" / "beach.jpg"
    found = json.loads(run("predict-det", "--no-pictures", photo).stdout)["regions"]
    words = ["predict", "-g", "mine", "--unnamed", photo]
    done = run(*words, "--score", "1")
    record = json.loads(done.stdout)
    assert record["regions"] == []
    boxes = [each["bbox"] for each in record["unnamed"]]
    assert all(box in [each["bbox"] for each in found] for box in boxes)
    assert found[0]["bbox"] == boxes[0], "the surest first"
    assert list(record["unnamed"][0]) == ["bbox", "det_score", "matches"]
    assert done.stderr == f"1 image: 0 objects named, {len(boxes)} without a name; 1 annotated picture in ./output\n"
    named = json.loads(run(*words, "--score", "-1").stdout)
    assert (named["unnamed"], len(named["regions"]) > 0) == ([], True)
    assert "unnamed" not in json.loads(run("predict", "-g", "mine", photo).stdout)
    assert "(no name)" in run(*words, "--score", "1", "--format", "table", "--no-pictures").stdout
    rows = list(csv.DictReader(run(*words, "--score", "1", "--format", "csv", "--no-pictures").stdout.splitlines()))
    assert [[int(row[name]) for name in ("x1", "y1", "x2", "y2")] for row in rows] == boxes
    assert {(row["label"], row["score"], row["gallery_image"]) for row in rows} == {("", "", "")}
    assert [float(row["det_score"]) for row in rows] == [each["det_score"] for each in record["unnamed"]]


def test_a_table_is_printed_as_its_rows_come(capsys: pytest.CaptureFixture[str]) -> None:
    rows = out.Rows(["image", "label"])
    rows.add([["a.jpg", "苹果汁"], ["a.jpg", "tea"]])
    first = capsys.readouterr().out
    assert first == "image  label\n-----  ------\na.jpg  苹果汁\na.jpg  tea\n"
    rows.add([["longer.jpg", "x\ty"]])
    rows.add([["b.jpg", "z"]])
    assert capsys.readouterr().out == "longer.jpg  x y\nb.jpg       z\n"


def test_colour_on_a_terminal_only(here: Path) -> None:
    for colour, environment, coloured in ((True, {}, True), (False, {}, False), (True, {"NO_COLOR": "1"}, False)):
        done = CliRunner(env=environment).invoke(main, ["gallery", "info", "none"], color=colour)
        assert ("\x1b[31mError: " in done.stderr) == coloured


def test_a_shell_completes(here: Path) -> None:
    words = {"_SHITU_COMPLETE": "bash_complete", "COMP_WORDS": "shitu gallery l", "COMP_CWORD": "2"}
    done = CliRunner(env=words).invoke(main, [], prog_name="shitu")
    assert done.stdout == "plain,list\n"
    for shell in ("bash", "zsh", "fish"):
        assert "_SHITU_COMPLETE" in run("completion", "--shell", shell).stdout
