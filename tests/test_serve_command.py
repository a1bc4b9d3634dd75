"""What `shitu serve` is told on its command line, before anything is loaded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from shitu.cli import main
from shitu.errors import UsageError

pytest.importorskip("fastapi", reason="FastAPI, of the extra serve, is not installed")
command: Any = sys.modules["shitu.cli.serve"]  # `shitu.cli.serve` is the command in it


def refused(*arguments: str) -> str:
    done = CliRunner().invoke(main, ["serve", *arguments])
    assert done.exit_code == 2, done.output
    return done.output


def test_without_the_extra_the_install_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = command.find_spec
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "fastapi" else found(name))
    assert "needs fastapi" in (told := refused())
    assert "pip install 'shitu[serve]'" in told


@pytest.mark.parametrize("text", ["../x=folder", "=folder", "a=", "a/b=folder", ".a=folder", f"{'a' * 65}=folder"])
def test_a_gallery_has_a_name_that_is_no_path(text: str) -> None:
    assert "wanted is NAME=FOLDER" in refused("-g", text)


def test_a_name_is_given_once() -> None:
    assert "each name once" in refused("-g", "a=b", "-g", "a=c")


@pytest.mark.parametrize("token", ["short", "  blanks around  ", "中文中文中文中文"])
def test_a_token_is_long_and_plain(token: str) -> None:
    assert "wanted are 8 or more" in refused("-g", "a", "--token", token)


def test_which_galleries_are_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SHITU_GALLERY", raising=False)
    assert command.fixed_of(None, (), ()) == {}  # the bundled config's is not there
    assert command.fixed_of(None, ("IndexProcess.index_dir=茶",), ()) == {"茶": "茶"}
    monkeypatch.setenv("SHITU_GALLERY", "mine")
    assert command.fixed_of(None, (), ()) == {"mine": "mine"}
    assert command.fixed_of(None, (), ("a b=x/y", "z/teas")) == {"a b": "x/y", "teas": "z/teas"}
    assert command.fixed_of(None, (), (".hidden",)) == {"default": ".hidden"}
    with pytest.raises(UsageError):
        command.fixed_of(None, (), (".hidden", ".other"))


def test_the_token_of_the_environment_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setenv("SHITU_TOKEN", "from-the-environment")
    monkeypatch.setattr("shitu.serve.app.run", seen.append)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["serve", "-g", "a", "--host", "0.0.0.0"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "there is no token" not in done.output
    assert (seen[0].token, seen[0].is_loopback, seen[0].fixed) == ("from-the-environment", False, {"a": "a"})


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("10.0.0.1", False)]
)
def test_loopback(host: str, loopback: bool) -> None:
    from shitu.config import load_config
    from shitu.serve.settings import Settings

    assert Settings(load_config(None), host=host).is_loopback is (host in ("127.0.0.1", "::1", "localhost"))
