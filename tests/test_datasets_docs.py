"""Every set has a page; the commands in the pages run on the miniatures, and the tables are right."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from shitu.cli.dataset import dataset
from shitu.datasets.public_sets import PUBLIC_SETS, PublicSet
from tests.conftest import ROOT
from tests.dataset_commands import run
from tests.miniatures import write_all, write_lists

DOCS = ROOT / "docs" / "datasets"


def commands(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    return re.findall(r"^shitu dataset .*", text, re.MULTILINE)


def test_there_is_a_page_for_every_set_and_no_other() -> None:
    assert {page.stem for page in DOCS.glob("*.md")} == {known.name for known in PUBLIC_SETS} | {"README", "mainbody"}


@pytest.mark.parametrize("known", PUBLIC_SETS, ids=lambda known: known.name)
def test_page_says_what_it_must(known: PublicSet) -> None:
    text = (DOCS / f"{known.name}.md").read_text(encoding="utf-8")
    for words in (f"shitu dataset convert {known.name} ", known.homepage, "\nLicence: ", "\n## How sure is this?\n"):
        assert words in text
    assert f"{known.counts[0]:,} images, {known.counts[1]:,} classes" in text
    for split in known.splits:
        assert split in text


def test_commands_of_all_pages_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README last, for it merges what the pages convert."""
    monkeypatch.chdir(tmp_path)
    write_all(tmp_path / "datasets")
    pages = [DOCS / f"{known.name}.md" for known in PUBLIC_SETS] + [DOCS / "README.md"]
    for page in pages:
        assert commands(page)
        for command in commands(page):
            done = run(*shlex.split(command)[2:])
            assert done.exit_code == 0, f"{page.name}: {command}\n{done.stderr}"
    merged = (tmp_path / "datasets" / "train_reg_all_data_v2.txt").read_text(encoding="utf-8").splitlines()
    for line in merged:
        assert (tmp_path / "datasets" / line.split("\t")[0]).is_file(), "one image_root serves all"
    ranges = (tmp_path / "datasets" / "train_reg_all_data_v2.offsets.tsv").read_text(encoding="utf-8").splitlines()[1:]
    order = [Path(row.split("\t")[-1]).stem for row in ranges]
    assert order[:4] == ["aliproduct", "veri-wild", "sop", "inshop"]
    assert sorted(order) == sorted(known.name for known in PUBLIC_SETS)


def test_examples_of_the_help_texts_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_all(tmp_path / "datasets")
    write_lists(tmp_path)
    for name in (None, "convert", "merge", "unpack"):
        command = dataset.commands[name] if name else dataset
        for example in re.findall(r"^  shitu dataset .*", command.epilog or "", re.MULTILINE):
            done = run(*shlex.split(example)[2:])
            assert (done.exit_code, bool(done.stdout or done.stderr)) == (0, True), example


def test_ranges_in_the_index() -> None:
    table = [line.strip("| ").split("|") for line in (DOCS / "README.md").read_text().splitlines() if "](" in line]
    rows = {re.search(r"\[(.*?)\]", row[0])[1]: [cell.strip().replace(",", "") for cell in row[1:]] for row in table}  # type: ignore[index]
    in_order = [known.name for known in PUBLIC_SETS]
    front = ["aliproduct", "veri-wild", "sop", "inshop"]
    assert list(rows) == in_order
    assert [(int(row[0]), int(row[1])) for row in rows.values()] == [known.counts for known in PUBLIC_SETS]
    for column, order in ((2, in_order), (3, front + [name for name in in_order if name not in front])):
        first = 0
        for name in order:
            size = int(rows[name][1])
            assert rows[name][column] == f"{first} - {first + size - 1}"
            first += size
        assert first == 192_613
