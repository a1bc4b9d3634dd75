"""What a service is started with."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path

from shitu.config import Config

NAME = r"^\w[\w .-]{0,63}$"  # of a gallery: letters of any script, digits, _ . - and blanks; never a path
DEFAULT_GALLERY = "default"


@dataclass(frozen=True)
class Settings:
    """`config`: models and thresholds; `config_path` and `overrides` are what it was read from, read anew per gallery.

    `root`: the folder of the galleries that are made over the API. `fixed`: others by their names, each a folder or a
    URL. `token`: "" for none. `allow_urls`: hosts from which images may be fetched. Sizes in bytes, times in seconds.
    """

    config: Config
    config_path: str | None = None
    overrides: tuple[str, ...] = ()
    root: Path = Path("galleries")
    fixed: dict[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"
    port: int = 8080
    token: str = ""
    allow_urls: frozenset[str] = frozenset()
    collect: Path | None = None
    collect_below: float = 0.5
    max_upload: int = 64 << 20  # a request; a photo of 50 megapixels has 20 MB
    max_import: int = 2 << 30
    max_files: int = 64  # pictures in a request
    workers: int = 0  # photos in work at a time; 0: one more than there are cores, as for `shitu predict`
    waiting: int = 32  # requests that wait beside those; more are told to come again
    time_limit: float = 60.0
    import_limit: float = 3600.0
    busy_wait: float = 10.0  # for a gallery that another process is changing
    keep_answers: int = 64 << 20  # of pictures, so that their regions can be taught
    keep_seconds: float = 600.0

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def is_gallery_name(name: str) -> bool:
    """
    >>> is_gallery_name("饮料 2"), is_gallery_name("../x"), is_gallery_name("a/b"), is_gallery_name(".hidden")
    (True, False, False, False)
    """
    return re.fullmatch(NAME.strip("^$"), name) is not None and name == name.strip()
