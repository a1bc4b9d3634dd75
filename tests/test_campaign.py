"""The campaign in short: a few trials of each kind; the long form is `python -m tests.campaign`."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shitu.errors import GalleryError
from shitu.gallery import Item
from shitu.gallery.foreign import read_pickle
from shitu.gallery.read.items import Meta
from shitu.gallery.write.items import ItemWriter
from tests.campaign.full_disks import may_mount
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="trials run in forked processes")


@pytest.mark.parametrize(
    ("kind", "trials", "most"),
    [
        *(("images", 300, "refused"), ("galleries", 30, "refused"), ("models", 10, "")),
        *(("disks", 12, "full"), ("kills", 1, "old"), ("readers", 1, "changes")),
    ],
)
def test_nothing_is_found(kind: str, trials: int, most: str) -> None:
    if kind == "disks" and not may_mount():
        pytest.skip("no tmpfs may be mounted here")
    command = [sys.executable, "-m", "tests.campaign", "--only", kind, "--seed", "7", "--trials", str(trials)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{kind}: {trials} " in done.stdout
    assert ", 0 findings" in done.stdout
    assert most in done.stdout


def test_what_the_campaign_finds_is_told(tmp_path: Path) -> None:
    """A trial that fails, one that ends its process, and one behind it: all are counted."""
    code = """if True:
        import os, signal, sys
        from pathlib import Path
        from tests.campaign.trials import Counts, run_trials

        def trial(seed, folder):
            if seed == 1:
                os.kill(os.getpid(), signal.SIGSEGV)
            assert seed != 2, "wrong"
            return "well"

        counts = Counts()
        run_trials(trial, range(5), Path(sys.argv[1]), counts)
        print(dict(counts.happened), [(seed, reason.split(" (")[0]) for seed, reason in counts.findings], counts.trials)
    """
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "{'well': 3} [(1, 'died by SIGSEGV'), (2, 'AssertionError: wrong')] 5\n"


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
PIXEL = st.integers(-(2**31), 2**31 - 1)
ITEM = st.builds(Item, TEXT, TEXT, TEXT, st.none() | st.tuples(PIXEL, PIXEL, PIXEL, PIXEL))


@settings(max_examples=60, deadline=None)
@given(st.lists(ITEM, max_size=5))
def test_items_come_back_as_they_were_written(items: list[Item]) -> None:
    """Whatever labels and paths hold, their checksum is that of what is read."""
    db = ItemWriter.create(None)
    with db.transaction():
        db.insert((Item(i.label, i.image, i.sha256, i.box, number), number, 0) for number, i in enumerate(items))
        db.set_meta(Meta(8, "IP", "Flat", rows=len(items), next_id=len(items)))
    assert [(i.label, i.image, i.sha256, i.box) for i in db.items()] == [
        (i.label, i.image, i.sha256, i.box) for i in items
    ]
    assert db.changed() == []
    assert db.meta().rows == len(items)


SIMPLE = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
ANYTHING = st.recursive(
    SIMPLE, lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(SIMPLE, inner)
)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.integers(0, 2**63 - 1), st.text()) | ANYTHING, st.integers(0, 5))
def test_a_pickle_is_an_id_map_or_refused(
    tmp_path_factory: pytest.TempPathFactory, value: object, protocol: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.pkl"
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    try:
        assert read_pickle(path) == value
    except GalleryError:
        honest = isinstance(value, dict) and all(
            type(key) is int and 0 <= key < 2**63 and isinstance(each, str) for key, each in value.items()
        )
        assert not honest
