"""One service and one browser for the tests of a file. Imported late: where Playwright is missing, the files skip."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from tests.studio.looking import studio

    folder = tmp_path_factory.mktemp("studio")
    with studio(folder, "--collect", str(folder / "collected"), "--collect-below", "0.9") as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from tests.studio.looking import chromium

    with chromium() as found:
        yield found


@pytest.fixture
def page(browser: Any, server: Any) -> Iterator[Any]:
    from tests.studio.looking import looking

    with looking(browser, server) as found:
        yield found


@pytest.fixture
def fruit(server: Any) -> str:
    """A gallery of three labels with three entries each."""
    from tests.studio.looking import pictures_of

    gallery = server.make()
    for name in ("banana", "tangerine", "avocado"):
        server.teach(gallery, name, *pictures_of(name), box="[0,0,9999,9999]")  # the whole picture, one entry
    return str(gallery)
