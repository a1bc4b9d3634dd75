"""unpack against archives made to do harm: refused whole, with nothing written."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from shitu.errors import DownloadError
from shitu.models.unpack import unpack


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, size, 0o6777
    return info


def archive(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as tar:
        for info in members:
            tar.addfile(info, io.BytesIO(b"x" * info.size))
    return path


HARM = {
    "is outside the destination": member("m/../../evil", size=3),
    "has an absolute path": member("/etc/evil", size=3),
    "another system": member("C:\\evil", size=3),
    "is a link, to '/etc/passwd'": member("m/link", tarfile.SYMTYPE, "/etc/passwd"),
    "is a link, to '../../x'": member("m/link", tarfile.LNKTYPE, "../../x"),
    "is a link, to 'inference.json'": member("m/link", tarfile.SYMTYPE, "inference.json"),
    "is a special file": member("m/device", tarfile.CHRTYPE),
    "a special file": member("m/pipe", tarfile.FIFOTYPE),
}


@pytest.mark.parametrize(("reason", "harm"), HARM.items(), ids=list(HARM))
def test_refused_whole(tmp_path: Path, reason: str, harm: tarfile.TarInfo) -> None:
    tar = archive(tmp_path / "m.tar", member("m/inference.json", size=9), harm)
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(DownloadError) as caught:
        unpack(tar, folder)
    assert reason in str(caught.value)
    assert repr(harm.name) in str(caught.value)
    assert list(folder.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "m.tar"]


def test_a_python_without_tar_filters_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(DownloadError, match=r"cannot unpack archives safely; update it to 3\.10\.12"):
        unpack(archive(tmp_path / "m.tar", member("m/a", size=3)), tmp_path)


def test_huge_is_refused_by_its_header(tmp_path: Path) -> None:
    header = member("m/huge", size=3_000_000_000).tobuf()
    (tmp_path / "m.tar").write_bytes(header + b"\0" * 1024)
    with pytest.raises(DownloadError, match="larger than 2000000000 bytes"):
        unpack(tmp_path / "m.tar", tmp_path)


def test_many_that_are_huge_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shitu.models.unpack.MAX_BYTES", 25)
    tar = archive(tmp_path / "m.tar", *(member(f"m/{number}", size=9) for number in range(3)))
    with pytest.raises(DownloadError, match=r"up to 'm/2' it is larger"):
        unpack(tar, tmp_path)


@pytest.mark.parametrize("keep", [0, 100, 700, 1100])
def test_truncated(tmp_path: Path, keep: int) -> None:
    tar = archive(tmp_path / "m.tar", member("m/a", size=300), member("m/b", size=2000))
    tar.write_bytes(tar.read_bytes()[:keep] if keep < 1100 else tar.read_bytes()[: 512 * 3 + keep])
    with pytest.raises(DownloadError, match="is damaged"):
        unpack(tar, tmp_path)


def test_not_an_archive(tmp_path: Path) -> None:
    (tmp_path / "m.tar").write_bytes(b"<html>login</html>" * 100)
    with pytest.raises(DownloadError, match="is damaged"):
        unpack(tmp_path / "m.tar", tmp_path)


@pytest.mark.parametrize("second", ["m/a", "m/a/b", "./m/a"])
def test_name_twice(tmp_path: Path, second: str) -> None:
    tar = archive(tmp_path / "m.tar", member("m/a", size=1), member(second, size=2))
    with pytest.raises(DownloadError, match="twice"):
        unpack(tar, tmp_path)


def test_a_folder_that_is_a_file_later(tmp_path: Path) -> None:
    tar = archive(tmp_path / "m.tar", member("m/a/b", size=1), member("m/a", size=2))
    with pytest.raises(DownloadError, match="twice"):
        unpack(tar, tmp_path)


def test_contents_without_litter_and_permissions(tmp_path: Path) -> None:
    litter = [
        member("m/._a", size=5),
        member("._m", size=5),
        member("m/.DS_Store", size=5),
        member("__MACOSX/m", size=5),
    ]
    tar = archive(
        tmp_path / "m.tar", member("m", tarfile.DIRTYPE), member("m/a", size=3), *litter, member("m/s/b", size=4)
    )
    folder = tmp_path / "folder"
    folder.mkdir()
    unpack(tar, folder)
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in files.items()} == {"m/a": b"xxx", "m/s/b": b"xxxx"}
    assert not files["m/a"].stat().st_mode & 0o6111
