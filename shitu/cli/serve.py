"""`shitu serve`: recognition and teaching over HTTP, and the studio in the browser."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shitu.cli import out
from shitu.cli.options import config_options, example, read_config
from shitu.errors import UsageError

if TYPE_CHECKING:
    from shitu.serve.settings import Settings

TOKEN = "SHITU_TOKEN"
NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


@click.command(
    epilog=example("serve -g my_gallery", "serve --gallery drinks=my_drinks --host 0.0.0.0 --token a-long-secret")
)
@config_options("score", "threshold", "device")
@click.option(
    "-g",
    "--gallery",
    "named",
    multiple=True,
    metavar="[NAME=]FOLDER",
    help="A gallery to serve; made, empty, where it is not there. May be repeated.  [default: $SHITU_GALLERY, else the "
    "config's]",
)
@click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("galleries"),
    show_default=True,
    help="Where galleries lie that are made in the browser or over the API.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; 0.0.0.0: everywhere.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True)
@click.option(
    "--token",
    metavar="SECRET",
    help="What every request has to bring; other users of this machine see it here, and not in the variable.  "
    f"[default: ${TOKEN}, else none]",
)
@click.option(
    "--allow-url",
    "hosts",
    multiple=True,
    metavar="HOST",
    help="A host from which a request may have pictures fetched; may be repeated.  [default: none]",
)
@click.option(
    "--collect",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Keep photos there that were recognised below --collect-below, to be looked through.",
)
@click.option("--collect-below", type=float, default=0.5, show_default=True, help="The best match's score.")
@click.option(
    "--max-upload", type=click.IntRange(min=1), default=64, show_default=True, metavar="MB", help="Of a request."
)
@click.option(
    "--waiting",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Requests that may wait for their turn.",
)
@click.option(
    "--time-limit", type=click.FloatRange(min=1), default=60, show_default=True, metavar="SECONDS", help="Of a request."
)
@click.option(
    "--busy-wait",
    type=click.FloatRange(min=0),
    default=10,
    show_default=True,
    metavar="SECONDS",
    help="For a gallery that another process is changing.",
)
def serve(config_path: str | None, overrides: tuple[str, ...], named: tuple[str, ...], **given: object) -> None:
    """Serve galleries over HTTP: recognise, teach, look through them; a page in the browser does all of it.

    Without a gallery that is there, an empty one is made: teach it. Stops at Ctrl-C when what it accepted is answered.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UsageError(f"shitu serve needs {', '.join(missing)}, which are not installed: pip install 'shitu[serve]'")
    settings = settings_of(config_path, overrides, named, **given)  # type: ignore[arg-type]
    if not settings.token and not settings.is_loopback:
        out.log.warning(
            "whoever reaches %s:%d may change the galleries: there is no token; give one by --token or $%s",
            *(settings.host, settings.port, TOKEN),
        )
    from shitu.serve.app import run

    run(settings)


def settings_of(
    config_path: str | None,
    overrides: tuple[str, ...],
    named: tuple[str, ...],
    *,
    root: Path,
    host: str,
    port: int,
    token: str | None,
    hosts: tuple[str, ...],
    collect: Path | None,
    collect_below: float,
    max_upload: int,
    waiting: int,
    time_limit: float,
    busy_wait: float,
) -> Settings:
    """Raises UsageError, ConfigError, GalleryError."""
    from shitu.serve.settings import Settings

    config, fixed = read_config(config_path, overrides), fixed_of(config_path, overrides, named)
    token = token if token is not None else os.environ.get(TOKEN, "")
    if token != token.strip() or not token.isascii() or (token and len(token) < 8):
        raise UsageError("the token is too short, or has blanks or other than ASCII characters; wanted are 8 or more")
    return Settings(
        config,
        config_path,
        overrides,
        root,
        fixed,
        host,
        port,
        token,
        frozenset(hosts),
        collect,
        collect_below,
        max_upload << 20,
        waiting=waiting,
        time_limit=time_limit,
        busy_wait=busy_wait,
    )


def fixed_of(config_path: str | None, overrides: tuple[str, ...], named: tuple[str, ...]) -> dict[str, str]:
    """The galleries that -g names, else the config's: name -> folder. Raises UsageError."""
    from shitu.made_with import ENVIRONMENT, gallery_of
    from shitu.serve.settings import DEFAULT_GALLERY, is_gallery_name

    if not named:
        own = gallery_of(config_path, overrides)
        said = config_path or os.environ.get(ENVIRONMENT) or any("index_dir" in one for one in overrides)
        named = (own,) if own and (said or os.path.isdir(own)) else ()  # the bundled config's is only the demo's
    found: dict[str, str] = {}
    for text in named:
        name, equals, folder = text.partition("=")
        if not equals:
            name, folder = Path(text).resolve().name, text
            name = name if is_gallery_name(name) else DEFAULT_GALLERY
        if not is_gallery_name(name) or not folder or name in found:
            raise UsageError(
                f"--gallery {text}: wanted is NAME=FOLDER, each name once, of up to 64 letters, digits, blanks, . _ -"
            )
        found[name] = folder
    return found
