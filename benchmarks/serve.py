"""What a photo costs over HTTP: requests/s and waiting times by number of clients, beside the same work in one process.

python -m benchmarks.serve [--seconds 10] [--rounds 3] [--clients 1 4 16] [--paddlex URL] [--json FILE]
    The service and the demo's gallery are started here. Each round measures all in turn: the photos in this process
    (as `shitu predict` does a folder), then the service by so many clients that each ask again as soon as they are
    answered. "of one process" is the rate as a share of that of this process: what is missing, HTTP took; "processor
    ms" is what the service's process uses for a photo, which others on the machine change less. --paddlex: a server of
    PaddleX at that address (`paddlex --serve --pipeline PP-ShiTuV2`) is asked what ours is, by its /shitu-infer without
    pictures; its index is made of the demo's pictures first. Ratios within one run tell.
python -m benchmarks.serve --soak 10000 [--kills 10]
    So many requests by four clients while a fifth teaches and removes things, and then a service killed (SIGKILL) while
    it is taught, so many times. Ends with status 1 where an answer shows half a change, an acknowledged change is lost,
    or memory grows.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.serve_soak import kills, soak
from benchmarks.serving import DEMO, Server, demo_gallery
from shitu.api.client import Client
from shitu.config import Config
from shitu.images.read_ahead import read_ahead
from shitu.recognise.files import recognize_files
from shitu.recognise.from_config import SystemPredictor

PHOTOS = sorted(str(path) for path in (DEMO / "photos").glob("*.jpg"))
PICTURES = 60  # of the demo's gallery go into PaddleX's index


def asked(ask: Callable[[str], object], clients: int, seconds: float) -> list[float]:
    """How long each answer took, of `clients` threads that ask for the photos in turn."""
    until, waits, failed = time.monotonic() + seconds, list[float](), list[BaseException]()

    def run(number: int) -> None:
        try:
            while time.monotonic() < until and not failed:
                start = time.perf_counter()
                ask(PHOTOS[number % len(PHOTOS)])
                waits.append(time.perf_counter() - start)
                number += 1
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return waits


def in_process(predictor: SystemPredictor, config: Config, seconds: float) -> tuple[float, float]:
    """Photos a second, and processor seconds a photo."""
    start, busy, count = time.monotonic(), time.process_time(), 0

    def names() -> Iterator[str]:
        while time.monotonic() < start + seconds:
            yield from PHOTOS

    for _ in recognize_files(predictor, read_ahead(names()), config.Global.batch_size):
        count += 1
    return count / (time.monotonic() - start), (time.process_time() - busy) / count


def infer_by(url: str) -> Callable[[str], object]:
    """PaddleX's protocol: an index of pictures of the demo, then a function that asks about a photo."""

    def post(route: str, **body: Any) -> Any:
        data = json.dumps(body).encode()
        request = urllib.request.Request(f"{url}/{route}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=600) as response:
            return json.load(response)["result"]

    def encoded(path: str | Path) -> str:
        return base64.b64encode(Path(path).read_bytes()).decode()

    lines = (DEMO / "gallery.txt").read_text(encoding="utf-8").splitlines()[:PICTURES]
    pairs = [{"image": encoded(DEMO / path), "label": label} for path, label in (line.split("\t") for line in lines)]
    key = post("shitu-index-build", imageLabelPairs=pairs)["indexKey"]
    photos = {path: encoded(path) for path in PHOTOS}
    return lambda path: post("shitu-infer", image=photos[path], indexKey=key, visualize=False)


@dataclass
class Measured:
    """Of all rounds: photos a second, processor seconds a photo of the service, how long each answer took."""

    rates: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)


def measure(
    works: dict[str, Callable[[str], object]],
    alone: Callable[[], tuple[float, float]],
    busy: Callable[[], float],
    args: argparse.Namespace,
) -> tuple[Measured, dict[str, Measured]]:
    """This process, and by work and number of clients; `busy`: processor seconds of the service until now."""
    own, found = Measured(), dict[str, Measured]()
    for number in range(args.rounds + 1):
        rate, each = alone()
        if number:  # the first warms up
            own.rates.append(rate)
            own.busy.append(each)
        for name, work in works.items():
            for count in args.clients:
                start, before = time.monotonic(), busy()
                waits = asked(work, count, args.seconds if number else 2.0)
                if number:
                    one = found.setdefault(f"{name}, {count} client{'s' * (count > 1)}", Measured())
                    one.rates.append(len(waits) / (time.monotonic() - start))
                    one.busy.append((busy() - before) / len(waits))
                    one.waits += waits
        print(f"round {number} of {args.rounds}", file=sys.stderr, flush=True)
    return own, found


def at(waits: Sequence[float], share: float) -> float:
    """Milliseconds within which so many are answered."""
    return 1000 * sorted(waits)[min(len(waits) - 1, int(share * len(waits)))]


def load(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        config = demo_gallery(Path(scratch))
        predictor = SystemPredictor(config, many=True)
        with Server(Path(scratch), f"demo={config.IndexProcess.index_dir}") as server:
            client = Client(server.url, "demo")
            works: dict[str, Callable[[str], object]] = {"shitu /v1": client.predict}
            if args.paddlex:
                works |= {"shitu, PaddleX's route": infer_by(server.url), "PaddleX": infer_by(args.paddlex.rstrip("/"))}
            else:
                print("PaddleX is not measured: --paddlex names no server of it", file=sys.stderr)
            alone = lambda: in_process(predictor, config, args.seconds)  # noqa: E731
            own, found = measure(works, alone, server.processor, args)
    print(f"{'':38}{'photos/s':>10}{'of one process':>16}{'p50 ms':>9}{'p95':>8}{'p99':>8}{'processor ms':>14}")
    print(f"{'one process, photos side by side':38}{median(own.rates):10.1f}{'':41}{1000 * median(own.busy):14.1f}")
    told = []
    for name, each in found.items():
        shares = [rate / alone for rate, alone in zip(each.rates, own.rates, strict=True)]
        p50, p95, p99 = (at(each.waits, share) for share in (0.5, 0.95, 0.99))
        busy = "" if name.startswith("PaddleX") else f"{1000 * median(each.busy):.1f}"  # another's process
        print(f"{name:38}{median(each.rates):10.1f}{median(shares):16.0%}{p50:9.0f}{p95:8.0f}{p99:8.0f}{busy:>14}")
        told.append({"name": name, "share": median(shares), "p50": p50, "p95": p95, "p99": p99, "rates": each.rates})
    if args.json:
        machine = {"cores": os.cpu_count(), "load": os.getloadavg()[0], "command": sys.argv}
        Path(args.json).write_text(json.dumps({"one process": own.rates, "served": told, **machine}, indent=1), "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--paddlex", metavar="URL")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--soak", type=int, metavar="REQUESTS")
    parser.add_argument("--kills", type=int, default=10)
    args = parser.parse_args()
    if args.soak is None:
        load(args)
        return
    if not (soak(args.soak) & kills(args.kills)):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
