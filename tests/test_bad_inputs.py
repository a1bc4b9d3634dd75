"""What people get wrong, and what they are told: one table. No case may end in a traceback or harm the gallery."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from shitu.cli import main
from shitu.gallery.gallery import Gallery
from shitu.resources import bundled
from tests.bad_things import DET, PHOTO, REC, make_configs, make_galleries, make_images, make_lists, make_models
from tests.conftest import Run

pytestmark = pytest.mark.usefixtures("shared_sessions")

DOWNLOADABLE = "picodet_PPLCNet_x2_5_mainbody_lite_v1.0_infer"


class Case(NamedTuple):
    """`line` follows `shitu`; `told` is a regular expression of what stderr says."""

    name: str
    line: str
    status: int
    told: str
    stdin: bytes = b""


# fmt: off
IMAGES = [
    Case("cut short", "predict -c c.yaml cut.jpg", 1, r"cut\.jpg: damaged or cut short JPEG"),
    Case("empty", "predict -c c.yaml empty.jpg", 1, r"empty\.jpg: is empty \(0 bytes\)"),
    Case("text", "predict -c c.yaml text.jpg", 1, r"text\.jpg: not an image; shitu reads JPEG, PNG"),
    Case("huge header", "predict -c c.yaml huge.png", 1, r"huge\.png: too large: .* pixels, at most 256 million"),
    Case("broken pixels", "predict-det -c c.yaml broken.png", 1, r"broken\.png: damaged or cut short PNG"),
    Case("no HEIC photo", "predict-rec -c c.yaml phone.jpg", 1, r"phone\.jpg: .*HEIC.*(copy or download|pip install)"),
    Case("dangling link", "predict -c c.yaml dangling.jpg", 1, r"dangling\.jpg: no such file"),
    Case("pipe", "predict -c c.yaml pipe.jpg", 1, r"pipe\.jpg: is not a regular file"),
    Case("missing", "predict -c c.yaml gone.jpg", 2, r"gone\.jpg: no such file or folder; check the path"),
    Case("folder named as image", "predict -c c.yaml folder.jpg", 2, r"folder\.jpg: no image in this folder"),
    Case("no match", "predict -c c.yaml 'x/*.jpg'", 2, r"x/\*\.jpg: no image matches this pattern"),
    Case("empty name", "predict -c c.yaml ''", 2, r"\(an empty name\): no such file"),
    Case("missing in list", "predict -c c.yaml -", 1, r"gone\.jpg: no such file", b"gone.jpg\n"),
    Case("folder in list", "predict -c c.yaml -", 1, r"folder\.jpg: is a folder", b"folder.jpg\n"),
    Case("NUL in list", "predict -c c.yaml -", 1, r"cannot be opened: .*embedded", b"ok.jpg\nb\0.jpg\n"),
    Case("empty stdin", "predict -c c.yaml -", 2, r"standard input is empty; pipe an image"),
    Case("noise on stdin", "predict -c c.yaml -", 1, r"standard input: not an image", b"\xfe\xfd\xfc" * 99),
    Case("half an image on stdin", "predict -c c.yaml -", 1, r"standard input: damaged", PHOTO[:999]),
    Case("stdin and files", "predict -c c.yaml - ok.jpg", 2, r"`-` .*cannot be mixed with other images"),
]
CONFIGS = [
    Case("missing", "predict -c gone.yaml ok.jpg", 2, r"No file gone\.yaml; the bundled ones, in /"),
    Case("folder", "predict -c folder.jpg ok.jpg", 2, r"folder\.jpg is a directory; a YAML file is wanted"),
    Case("image", "predict -c ok.jpg ok.jpg", 2, r"ok\.jpg, line 1: not UTF-8 text"),
    Case("empty", "predict -c empty.yaml ok.jpg", 2, r"empty\.yaml is empty; sections such as Global: are wanted"),
    Case("list", "predict -c list.yaml ok.jpg", 2, r"list\.yaml holds a list; a mapping of sections"),
    Case("bad YAML", "predict -c bad.yaml ok.jpg", 2, r"bad\.yaml, line 3, column \d+: "),
    Case("tab", "predict -c tab.yaml ok.jpg", 2, r"tab\.yaml, line 2, .*indent with spaces, not tabs"),
    Case("unknown key", "predict -c key.yaml ok.jpg", 2, r"Unknown key Global\.treshold .*mean Global\.threshold\?"),
    Case("unknown section", "predict -c section.yaml ok.jpg", 2, r"Unknown section Globl .*did you mean Global\?"),
    Case("wrong type", "predict -c type.yaml ok.jpg", 2, r"Global\.batch_size is 'many' .*an int is wanted"),
    Case("Python object", "predict -c tag.yaml ok.jpg", 2, r"tag\.yaml, .*only plain values are read, no objects"),
    Case("twice", "predict -c twice.yaml ok.jpg", 2, r"twice\.yaml, line 3: Global is there already, in line 1"),
    Case("a bomb", "predict -c bomb.yaml ok.jpg", 2, r"bomb\.yaml grows beyond 100,000 values"),
]
OVERRIDES = [
    Case("no =", "predict -c c.yaml -o Global.threshold ok.jpg", 2, r"Cannot read -o Global\.threshold; write section"),
    Case("no key", "predict -c c.yaml -o =1 ok.jpg", 2, r"Cannot read -o =1; write section\.key=value"),
    Case("unknown", "predict -c c.yaml -o Global.k=1 ok.jpg", 2, r"Unknown key Global\.k in -o Global\.k=1"),
    Case("index", "predict -c c.yaml -o Global.label_list.5=x ok.jpg", 2, r"label_list has no entry 5; its last is 0"),
    Case("code", "predict -c c.yaml -o \"Global.infer_imgs=__import__('os').system('touch owned')\"", 2,
         r"__import__\('os'\)\.system\('touch owned'\): no such file"),
    Case("limit", "predict -c c.yaml -o Global.threshold=2 ok.jpg", 2, r"between 0 and 1 is wanted"),
    Case("choice", "predict -c c.yaml -o IndexProcess.dist_type=cos ok.jpg", 2, r"one of IP, L2, hamming is wanted"),
    Case("operator", "predict -c c.yaml -o 'RecPreProcess.transform_ops=[{Blur: {}}]' ok.jpg", 2, r"Blur"),
    Case("no sizes", "predict -c c.yaml -o 'RecPreProcess.transform_ops=[{ResizeImage: {}}]' ok.jpg", 2, r"size"),
]
MODELS = [
    Case("can be downloaded", f"predict -c c.yaml -o Global.det_inference_model_dir={DOWNLOADABLE} ok.jpg", 2,
         f"no detection model {DOWNLOADABLE}.*get it by: shitu models download {DOWNLOADABLE}"),
    Case("unknown", "predict -c c.yaml -o Global.rec_inference_model_dir=efficientnet_lite_512 ok.jpg", 2,
         f"no recognition model .*did you mean {REC}"),
    Case("detector as recogniser", f"predict-rec -c c.yaml -o Global.rec_inference_model_dir={DET} ok.jpg", 2,
         r"is a detection model; .*wants a recognition model; you may have swapped"),
    Case("recogniser as detector", f"predict-det -c c.yaml -o Global.det_inference_model_dir={REC} ok.jpg", 2,
         r"is a recognition model; .*wants a detection model; you may have swapped"),
    Case("empty folder", "predict-rec -c c.yaml -o Global.rec_inference_model_dir=folder.jpg ok.jpg", 2,
         r"folder\.jpg holds no model"),
    Case("file", "predict-rec -c c.yaml -o Global.rec_inference_model_dir=ok.jpg ok.jpg", 2,
         r"ok\.jpg is a file; wanted the folder of a model"),
    Case("weights missing", "predict-rec -c c.yaml -o Global.rec_inference_model_dir=no_weights ok.jpg", 2,
         r"inference\.pdiparams.*missing"),
    Case("other preprocessing", "predict-rec -c sizes.yaml ok.jpg", 2,
         r"RecPreProcess\.transform_ops in the config and preprocess in .*model\.yaml disagree"),
    Case("no detector", "predict-det -c c.yaml -o Global.det_inference_model_dir= ok.jpg", 2,
         r"Global\.det_inference_model_dir is empty; give a model folder"),
    Case("no recogniser", "predict -c c.yaml -o Global.rec_inference_model_dir= ok.jpg", 2,
         r"Global\.rec_inference_model_dir is empty; give a model folder"),
    Case("nothing to recognise", "predict -c c.yaml -o Global.det_inference_model_dir= -o Global.whole_image=never "
         "ok.jpg", 2, r"there is nothing to recognise; set whole_image to always, or give a detector"),
    Case("download of unknown", "models download nonsense", 2, r"no model nonsense can be downloaded"),
    Case("verify of unknown", "models verify nonsense", 2, r"no model nonsense"),
]
GALLERIES = [
    Case("missing", "predict -c c.yaml -o IndexProcess.index_dir=gone ok.jpg", 2,
         r"there is no gallery in gone: build one with `shitu build-gallery"),
    Case("not set", "predict -c c.yaml -o IndexProcess.index_dir= ok.jpg", 2, r"IndexProcess\.index_dir is empty"),
    Case("empty folder", "predict -c c.yaml -o IndexProcess.index_dir=folder.jpg ok.jpg", 2, r"no gallery in folder"),
    Case("file", "predict -c c.yaml -o IndexProcess.index_dir=ok.jpg ok.jpg", 2, r"ok\.jpg"),
    Case("another program's SQLite", "predict -c c.yaml -o IndexProcess.index_dir=foreign ok.jpg", 2, r"items\.db"),
    Case("cut vectors", "predict -c c.yaml -o IndexProcess.index_dir=cut ok.jpg", 2, r"vectors\.bin has \d+ bytes"),
    Case("damaged pointer", "predict -c c.yaml -o IndexProcess.index_dir=pointer ok.jpg", 2, r"is damaged"),
    Case("of the future", "predict -c c.yaml -o IndexProcess.index_dir=future ok.jpg", 2, r"update shitu"),
    Case("another model's", "predict -c c.yaml -o IndexProcess.index_dir=other ok.jpg", 2,
         r"made by another model.*rebuild it with `shitu build-gallery`, or use model their_model"),
    Case("another size", "predict -c c.yaml -o IndexProcess.index_dir=small ok.jpg", 2, r"has dimension 64, .* 512"),
    Case("another measure", "predict -c c.yaml -o IndexProcess.dist_type=L2 ok.jpg", 2, r"has dist_type IP, .* L2"),
    Case("malicious", "predict -c c.yaml -o IndexProcess.index_dir=evil ok.jpg", 2, r"would load posix\.system"),
    Case("half of another", "predict -c c.yaml -o IndexProcess.index_dir=half ok.jpg", 2, r"vector\.index is miss"),
    Case("verify nothing", "gallery verify folder.jpg", 2, r"there is no gallery in folder\.jpg"),
    Case("remove nothing", "gallery remove gallery", 2, r"give --id, --label, --image or --list"),
    Case("remove unknown", "gallery remove gallery --label nobody", 1, r"--label nobody: no such entry"),
    Case("export into itself", "gallery export gallery --to gallery", 2, r"export to another folder"),
    Case("append, images unnamed", "gallery append -c c.yaml ok.jpg", 2, r"name images and their --label"),
]
LISTS = [
    Case("missing", "build-gallery -c c.yaml -o IndexProcess.data_file=gone.txt", 2, r"gone\.txt: No such file"),
    Case("not set", "build-gallery -c c.yaml -o IndexProcess.data_file=", 2, r"data_file is empty; it lists"),
    Case("GBK", "build-gallery -c c.yaml -o IndexProcess.data_file=gbk.txt", 2, r"iconv -f GB18030 -t UTF-8 gbk\.txt"),
    Case("no label", "build-gallery -c c.yaml -o IndexProcess.data_file=nolabel.txt", 2, r"nolabel\.txt:1: 'ok\.jpg "),
    Case("no line", "build-gallery -c c.yaml -o IndexProcess.data_file=blank.txt", 2, r"blank\.txt: no line in it"),
    Case("only bad images", "build-gallery -c c.yaml -o IndexProcess.data_file=bad.txt", 2,
         r"no image could be indexed, the gallery is left as it was\. text\.jpg: not an image"),
    Case("an image", "build-gallery -c c.yaml -o IndexProcess.data_file=ok.jpg", 2, r"ok\.jpg is not UTF-8 text"),
    Case("index method", "build-gallery -c c.yaml -o IndexProcess.index_method=HNSWx", 2, r"HNSWx.*HNSW32"),
    Case("gallery is a file", "build-gallery -c c.yaml -o IndexProcess.index_dir=ok.jpg", 2, r"ok\.jpg"),
    Case("below a file", "build-gallery -c c.yaml -o IndexProcess.index_dir=ok.jpg/x", 2, r"ok\.jpg/x"),
    Case("append to nothing", "build-gallery -c c.yaml -o IndexProcess.index_operation=append -o "
         "IndexProcess.index_dir=gone", 2, r"there is no gallery in gone"),
    Case("crops not asked for", "build-gallery -c c.yaml --crops new", 2, r"crop is none, so there are no crops"),
    Case("crops on others", "build-gallery -c c.yaml -o IndexProcess.crop=all --crops gallery", 2, r"not an empty"),
]
PLACES = [
    Case("output is a file", "predict -c c.yaml -o Global.output_dir=ok.jpg ok.jpg", 2, r"ok\.jpg: is a file"),
    Case("output below a file", "predict -c c.yaml -o Global.output_dir=ok.jpg/x ok.jpg", 2, r"make this folder"),
    Case("npy in no folder", "predict-rec -c c.yaml --npy nowhere/v.npy ok.jpg", 2, r"there is no folder nowhere"),
    Case("npy is a folder", "predict-rec -c c.yaml --npy folder.jpg ok.jpg", 2, r"folder\.jpg: cannot be written"),
    Case("no images at all", "predict -c c.yaml -o Global.infer_imgs=", 2, r"no images given; name images, folders"),
    Case("unknown command", "recognise ok.jpg", 2, r"No such command 'recognise'"),
    Case("unknown option", "predict --config-file x", 2, r"No such option"),
    Case("unknown format", "predict --format xml ok.jpg", 2, r"'xml' is not one of"),
]
# fmt: on
TABLE = {"image": IMAGES, "config": CONFIGS, "override": OVERRIDES, "model": MODELS, "gallery": GALLERIES}
TABLE |= {"list": LISTS, "place": PLACES}
CASES = [pytest.param(case, id=f"{group}: {case.name}") for group, cases in TABLE.items() for case in cases]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the table names, and a sound gallery of six pictures."""
    folder = tmp_path_factory.mktemp("place")
    for make in (make_images, make_configs, make_lists, make_models, make_galleries):
        make(folder)
    return folder


def check(case: Case, status: int, told: str, place: Path) -> None:
    assert re.search(case.told, told), f"said: {told}"
    assert status == case.status, told
    assert "Traceback" not in told
    assert len(told) < 1500, "an answer, not a lecture"
    assert not {"owned", "gone", "nowhere"} & {path.name for path in place.iterdir()}
    gallery = Gallery.open(place / "gallery")
    assert (len(gallery), gallery.verify()) == (6, [])


@pytest.mark.parametrize("case", CASES)
def test_bad_input(case: Case, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("SHITU_HOME", str(place / "home"))
    done = CliRunner().invoke(main, shlex.split(case.line), input=case.stdin, catch_exceptions=False)
    check(case, done.exit_code, done.stderr, place)
    if case.status == 1 and case.line.startswith("predict"):
        (record,) = [each for each in map(json.loads, done.stdout.splitlines()) if "error" in each][:1]
        assert record["error"] in done.stderr.replace("\\u0000", "\0")


def test_the_table_is_not_small() -> None:
    assert len(CASES) >= 45


def test_a_damaged_model(place: Path, shitu: Run) -> None:
    """In a process of its own: it is Paddle's own reader that meets the damage."""
    for cut in ("inference.pdiparams", "inference.json"):
        folder = place / f"cut_{cut}"
        shutil.copytree(bundled("models") / REC, folder)
        os.truncate(folder / cut, 1000)
        setting = ["-c", "c.yaml", "-o", f"Global.rec_inference_model_dir={folder}"]
        done = shitu("predict-rec", *setting, "ok.jpg", cwd=place)
        check(Case("", "", done.returncode, f"{folder.name}.*shitu models verify"), done.returncode, done.stderr, place)
        assert done.returncode in (1, 2)
        done = shitu("models", "verify", folder, cwd=place)
        assert (done.returncode, "WRONG" in done.stdout, "Traceback" in done.stderr) == (1, True, False)


def test_a_gallery_that_is_being_written(place: Path, shitu: Run) -> None:
    code = "from shitu.gallery.write.lock import write_lock\n"
    code += "with write_lock('gallery'): print('locked', flush=True); input()"
    line = [sys.executable, "-c", code]
    with subprocess.Popen(line, cwd=place, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        done = shitu("build-gallery", "-c", "c.yaml", cwd=place)
        check(Case("", "", 1, r"gallery.*(writ|lock|process)"), done.returncode, done.stderr, place)
        done = shitu("predict", "-c", "c.yaml", "--no-pictures", "ok.jpg", cwd=place)
        assert done.returncode == 0, "readers do not wait for writers"
        holder.communicate(b"\n")
