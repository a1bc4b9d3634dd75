"""The report's plots against counting, and the whole page in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from shitu.evaluation.report_plots import LEFT, RIGHT, WIDTH, Axis, histogram, open_set_plot
from tests.report_page import make_answers, make_files, written

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.parametrize("seed", range(10))
def test_the_open_set_curve_tells_the_most_at_each_rate(seed: int) -> None:
    random = np.random.default_rng(seed)
    rates, recalls = random.random(30).tolist(), random.random(30).tolist()
    path = open_set_plot(rates, recalls, 1000)["steps"]
    x, y = Axis(0.001, 1.0, LEFT, WIDTH - RIGHT, log=True), Axis(0.0, 1.0, 262, 24)
    height = float(path.split("H")[0].split(" ")[1])
    steps = [(LEFT - 1.0, height)] + [(float(a), float(b)) for a, b in re.findall(r"H([\d.]+)V([\d.]+)", path)]
    for rate in np.geomspace(0.0011, 1, 50):
        best = max(
            (recall for at, recall in zip(rates, recalls, strict=True) if x.place(at) <= x.place(rate)), default=0
        )
        drawn = [height for at, height in steps if at <= x.place(rate)][-1]
        assert drawn == y.place(best)


def test_the_histogram_counts_every_score() -> None:
    random = np.random.default_rng(0)
    groups = {name: random.normal(0.5, 0.2, size) for name, size in (("right", 70), ("wrong", 0), ("unknown", 9))}
    drawn = histogram(groups, 0.5, 1.0)["groups"]
    titles = [tooltip for _, _, bars in drawn for _, _, _, tooltip in bars]
    counts = [int(re.fullmatch(r"[-\d.e]+ to [-\d.e]+: (\d+)", title)[1]) for title in titles]  # type: ignore[index]
    assert sum(counts) == 79
    assert [(name, count) for name, count, _ in drawn] == [(name, len(values)) for name, values in groups.items()]


def test_one_score_is_enough_for_a_histogram() -> None:
    found = histogram({"right": np.array([0.5])}, 0.5, 1.0)
    assert found["threshold"] == 0.5
    assert len(found["groups"][0][2]) == 1


# --- in a browser --------------------------------------------------------------------------------------------------


def browse(page: Path, folder: Path) -> tuple[str, list[str], list[str]]:
    """The page as Chromium understands it, what its console says, and who sent requests other than Chromium itself."""
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    command += [
        "--disable-background-networking",
        "--disable-component-update",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ]
    command += [f"--user-data-dir={folder / 'profile'}", f"--log-net-log={folder / 'net.json'}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, check=True, timeout=120)
    console = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if ":CONSOLE:" in line]
    senders = re.findall(r'"initiator":"([^"]*)"', (folder / "net.json").read_text(encoding="utf-8"))
    return done.stdout.decode("utf-8"), console, [sender for sender in senders if sender != "not an origin"]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine (apt-get install chromium)")
def test_a_browser_shows_it_without_complaint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = written(make_files(tmp_path), make_answers())
    shown, console, senders = browse(tmp_path / "out.html", tmp_path)
    assert (console, senders) == ([], [])
    assert "<script" not in shown
    assert shown.count("<article") == 5
    # That this would be seen at all: a picture from elsewhere, with the page's policy and without.
    foreign = page.html.replace("</main>", '<img src="http://127.0.0.1:9/x.png"></main>')
    Path("foreign.html").write_text(foreign, encoding="utf-8")
    _, console, senders = browse(tmp_path / "foreign.html", tmp_path)
    assert [len(console), senders] == [1, []]
    assert "Content Security Policy" in console[0]
    Path("foreign.html").write_text(foreign.replace("Content-Security-Policy", "x"), encoding="utf-8")
    assert browse(tmp_path / "foreign.html", tmp_path)[2] == ["null"]
