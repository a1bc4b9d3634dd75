"""What test_bad_inputs.py offers to the command line: damaged files, wrong configs, galleries of others."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sqlite3
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner

from shitu.cli import main
from shitu.gallery import Item
from shitu.gallery.gallery import Gallery
from shitu.resources import bundled
from tests.conftest import DEMO, index_overrides

PHOTO = (DEMO / "photos" / "desk.jpg").read_bytes()
DET, REC = "picodet_lcnet_x1_0_mainbody", "efficientnet_lite0_512"


def make_images(folder: Path) -> None:
    for name, data in {"ok.jpg": PHOTO, "cut.jpg": PHOTO[:5000], "empty.jpg": b"", "text.jpg": b"some text"}.items():
        (folder / name).write_bytes(data)
    (folder / "phone.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    for name, size in (("huge.png", 100_000), ("broken.png", 100)):
        header = b"IHDR" + struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
        chunks = (header, b"IDATno zlib")
        parts = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
        (folder / name).write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    (folder / "dangling.jpg").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "folder.jpg").mkdir()


def make_configs(folder: Path) -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for old, new in zip("abcde", "bcdef", strict=True):
        bomb += f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
    operators = "[{ResizeImage: {size: [99, 99]}}, {NormalizeImage: {scale: 1, order: hwc}}, {ToCHWImage: }]"
    good = (
        f"Global: {{det_inference_model_dir: {DET}, rec_inference_model_dir: {REC}, label_list: [thing]}}\n"
        f"IndexProcess: {{index_dir: gallery, image_root: '', data_file: list.txt, index_method: Flat}}\n"
    )
    texts = {
        "c": good,
        "sizes": f"{good}RecPreProcess: {{transform_ops: {operators}}}",
        "empty": "# nothing\n",
        "list": "- Global\n",
        "bad": "Global:\n  threshold: [1\n",
        "tab": "Global:\n\tthreshold: 1\n",
        "key": "Global: {treshold: 0.2}",
        "section": "Globl: {threshold: 0.2}",
        "type": "Global: {batch_size: many}",
        "tag": "Global: !!python/object/apply:os.system ['touch owned']",
        "twice": "Global: {}\nIndexProcess: {}\nGlobal: {threshold: 0.3}\n",
        "bomb": bomb,
    }
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


def make_lists(folder: Path) -> None:
    lines = (DEMO / "gallery.txt").read_text(encoding="utf-8").splitlines()[:6]
    (folder / "list.txt").write_text("".join(f"{DEMO / line}\n" for line in lines), encoding="utf-8")
    (folder / "gbk.txt").write_bytes("ok.jpg\t苹果\n".encode("gb18030"))
    (folder / "nolabel.txt").write_text("ok.jpg apple\n", encoding="utf-8")
    (folder / "blank.txt").write_text("\n \n", encoding="utf-8")
    (folder / "bad.txt").write_text("text.jpg\ta\ngone.jpg\tb\n", encoding="utf-8")


def make_models(folder: Path) -> None:
    (folder / "no_weights").mkdir()
    shutil.copy(bundled("models") / REC / "inference.json", folder / "no_weights")


class _Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch owned",)


def make_galleries(folder: Path) -> None:
    build = ["build-gallery", "-c", str(folder / "c.yaml")]
    for override in index_overrides(folder / "list.txt", folder / "gallery"):
        build += ["-o", override]
    assert CliRunner().invoke(main, build, catch_exceptions=False).exit_code == 0
    for name in ("foreign", "cut", "pointer", "future"):
        shutil.copytree(folder / "gallery", folder / name)
    generation = json.loads((folder / "cut" / "gallery.json").read_text(encoding="utf-8"))["generation"]
    (folder / "foreign" / generation / "items.db").unlink()
    database = sqlite3.connect(folder / "foreign" / generation / "items.db")
    database.execute("create table people (name text)")
    database.commit()
    database.close()
    os.truncate(folder / "cut" / generation / "vectors.bin", 5000)
    (folder / "pointer" / "gallery.json").write_text("{", encoding="utf-8")
    pointer = {"format": "shitu-gallery", "version": 9, "generation": generation}
    (folder / "future" / "gallery.json").write_text(json.dumps(pointer), encoding="utf-8")
    for name, dimension, fingerprint in (("other", 512, "0" * 64), ("small", 64, "")):
        vectors = np.eye(2, dimension, dtype=np.float32)
        more = {"index_method": "Flat", "dist_type": "IP", "fingerprint": fingerprint, "model_name": "their_model"}
        Gallery.create(folder / name, vectors, [Item("a", "a.jpg"), Item("b", "b.jpg")], **more)
    for name in ("evil", "half"):
        (folder / name).mkdir()
        (folder / name / "id_map.pkl").write_bytes(pickle.dumps(_Evil() if name == "evil" else {0: "a.jpg\ta"}))
