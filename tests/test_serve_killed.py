"""A service that is killed while it is taught: what it acknowledged is there, and nothing half."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from pathlib import Path

import pytest

from shitu import Client, ServiceError
from tests.conftest import Run
from tests.serving import drawn, serving

BEFORE, BOX = 4, (0, 0, 160, 160)


def pair(folder: Path, number: int) -> list[Path]:
    """Two pictures that are taught in one change."""
    paths = [folder / "a.png", folder / "b.png"]
    for place, path in enumerate(paths):
        path.write_bytes(drawn(2 * number + place))
    return paths


def test_nothing_acknowledged_is_lost(tmp_path: Path, shitu: Run) -> None:
    begun, acknowledged, enough = set[str](), set[str](), threading.Event()
    with serving(tmp_path, "-g", "taught") as service:
        client = Client(service.url)

        def kill() -> None:
            assert enough.wait(60)
            service.process.send_signal(signal.SIGKILL)

        def teach() -> None:
            for number in range(1000):  # goes on while the signal is on its way
                label = f"thing {number}"
                begun.add(label)
                client.add(pair(tmp_path, number), label=label, bbox=BOX)
                acknowledged.add(label)
                if len(acknowledged) == BEFORE:
                    enough.set()

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(ServiceError, match="no answer"):
            teach()
        killer.join(60)
    with serving(tmp_path, "-g", "taught") as service:
        client = Client(service.url)
        there = Counter(item["label"] for item in client.items())
        assert acknowledged <= set(there) <= begun
        assert set(there.values()) == {2}, "each change as a whole"
        client.add(pair(tmp_path, 9999), label="afterwards", bbox=BOX)  # clears up what the killed change left
    done = shitu("gallery", "verify", "taught")
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
