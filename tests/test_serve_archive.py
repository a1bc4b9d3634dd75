"""Archives and lists of strangers: labels in any script, and nothing that leads out, links or swells."""

from __future__ import annotations

import random
import stat
import zipfile
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="FastAPI, of the extra serve, is not installed")

from shitu.errors import ConfigError, UsageError
from shitu.serve import archive
from shitu.serve.archive import Sent, entries_of, unpack_zip


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes]) -> BytesIO:
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in members:
            made.writestr(name, data)
    out.seek(0)
    return out


def labels(names: list[str], *lists: str, label: str = "") -> list[tuple[str, str]]:
    sent = [Sent(name, Path(str(number))) for number, name in enumerate(names)]
    return [(each.path, each.label) for each in entries_of(sent, lists, label, "\t")]


def test_names_as_windows_in_china_writes_them(tmp_path: Path) -> None:
    """Without the flag for UTF-8, the bytes are GB18030; Python reads them as cp437."""
    placeholder = zipped(("aaaa/1.jpg", b"x")).getvalue()
    data = placeholder.replace(b"aaaa/1.jpg", "绿茶/1.jpg".encode("gb18030"))
    sent, _ = unpack_zip(BytesIO(data), tmp_path)
    assert [each.name for each in sent] == ["绿茶/1.jpg"]
    assert [path.name for path in tmp_path.iterdir()] == ["000000"]  # no name of theirs is a path here


def test_litter_and_other_files_are_passed_over(tmp_path: Path) -> None:
    members = [(name, b"x") for name in ("a/1.jpg", "__MACOSX/a/._1.jpg", "a/.hidden.jpg", "a/notes.doc", "a/")]
    sent, lists = unpack_zip(zipped(*members, ("list.txt", "a/1.jpg\t茶\n".encode())), tmp_path)
    assert [each.name for each in sent] == ["a/1.jpg"]
    assert lists == ["a/1.jpg\t茶\n"]


def test_a_link_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("a/1.jpg")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(UsageError, match="a link"):
        unpack_zip(zipped((link, b"/etc/passwd")), tmp_path)


@pytest.mark.parametrize("name", ["../a.jpg", "/a.jpg", "a/../../b.jpg", "..\\a.jpg", "C:/a.jpg", "\\a.jpg"])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="leads out"):
        unpack_zip(zipped((name, b"x")), tmp_path)


def test_what_swells_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "LARGEST", 10_000)
    bomb = zipped(("a/1.jpg", bytes(1_000_000)))
    assert len(bomb.getvalue()) < 2_000
    with pytest.raises(UsageError, match="too large"):
        unpack_zip(bomb, tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 10_000
    monkeypatch.setattr(archive, "MOST_FILES", 2)
    with pytest.raises(UsageError, match="at most 2"):
        unpack_zip(zipped(*((f"{number}.jpg", b"x") for number in range(3))), tmp_path)


def test_a_size_that_its_header_lies_about_is_refused(tmp_path: Path) -> None:
    data = zipped(("a/1.jpg", bytes(1000))).getvalue()
    lies = data.replace((1000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    with pytest.raises(UsageError):
        unpack_zip(BytesIO(lies), tmp_path)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"no archive"])
def test_what_is_no_zip_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        unpack_zip(BytesIO(data), tmp_path)


def test_damage_anywhere_is_refused_or_read(tmp_path: Path) -> None:
    """No other error than ours, whatever byte is another."""
    rng = random.Random(1)
    whole = zipped(*((f"茶/{number}.jpg", rng.randbytes(200) + bytes(500)) for number in range(3))).getvalue()
    for number in range(1000):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        folder = tmp_path / str(number)
        folder.mkdir()
        with suppress(UsageError):
            unpack_zip(BytesIO(data), folder)


def test_labels_of_folders_of_one_folder_and_of_names() -> None:
    assert [label for _, label in labels(["茶/1.jpg", "cola/a/2.jpg"])] == ["茶", "cola"]
    assert [label for _, label in labels(["all/茶/1.jpg", "all/cola/2.jpg"])] == ["茶", "cola"]
    assert [label for _, label in labels(["tea_2.jpg", "tea (3).jpg"])] == ["tea", "tea"]
    assert [label for _, label in labels(["茶/1.jpg", "2.jpg"], label="x")] == ["x", "x"]


def test_a_list_finds_its_pictures_by_the_longest_end_of_their_paths() -> None:
    names = ["p/a/1.jpg", "p/b/1.jpg", "2.jpg"]
    assert labels(names, "p/b/1.jpg\tx\n./2.jpg\ty\n\nfar/away/p/a/1.jpg\tz\n") == [("1", "x"), ("2", "y"), ("0", "z")]
    with pytest.raises(UsageError, match=r"line 1 of the list names '3\.jpg'"):
        labels(names, "3.jpg\tx\n")
    with pytest.raises(ConfigError, match="line 1 of the list"):
        labels(names, "2.jpg no tab\n")
