"""Long loads on a service: whether answers stay whole, changes stay, and memory stays flat. See serve.py."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.serving import DEMO, Server, demo_gallery
from shitu.api.client import Client
from shitu.errors import ServiceError

ASKERS, ALIVE = 4, 6  # clients that ask; labels that are there at a time
GROWS = 1.1  # memory of the last fifth to that of the second
SIDE = 96
WHOLE = (0, 0, SIDE, SIDE)


def noise(path: Path, number: int) -> Path:
    pixels = np.random.default_rng(number).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


class Book:
    """What is certain of the labels: present or not, since which change; None while one is under way."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[bool, int] | None] = {}
        self._changes, self._lock = 0, threading.Lock()

    def change(self, after: dict[str, bool], work: Callable[[], Any]) -> Any:
        """`after`: of which labels the change decides, and how."""
        with self._lock:
            self._known |= dict.fromkeys(after)
        found = work()
        with self._lock:
            self._changes += 1
            self._known |= {label: (there, self._changes) for label, there in after.items()}
        return found

    def now(self) -> dict[str, tuple[bool, int] | None]:
        with self._lock:
            return dict(self._known)


def wrong(before: dict[str, Any], after: dict[str, Any], seen: Counter[str]) -> list[str]:
    """What an answer that shows the whole gallery gets wrong; every change is of two entries of one label."""
    found = [f"{label} is there with {count} of its 2 entries" for label, count in seen.items() if count != 2]
    for label, state in before.items():
        if state is not None and state == after.get(label) and state[0] != (label in seen):
            found.append(f"{label} is {'missing' if state[0] else 'there'}, against what was acknowledged before")
    return found


def teach(client: Client, book: Book, scratch: Path, stop: threading.Event) -> int:
    """Adds, renames, removes pairs and takes removals back, until told to stop; how many changes that were."""
    dice, alive, count = random.Random(0), dict[str, tuple[int, ...]](), 0
    pair = [scratch / "a.png", scratch / "b.png"]
    while not stop.is_set():
        number, count = count, count + 1
        if len(alive) < ALIVE:
            for place, path in enumerate(pair):
                noise(path, 2 * number + place)
            label = f"v{number}"
            alive[label] = book.change({label: True}, lambda label=label: client.add(pair, label=label, bbox=WHOLE)).ids
            continue
        old = dice.choice(sorted(alive))
        ids = alive.pop(old)
        if number % 3 == 0:
            new = f"v{number}"
            work = lambda old=old, new=new: client.rename(old, new)  # noqa: E731
            alive[new] = book.change({old: False, new: True}, work)
            continue
        book.change({old: False}, lambda ids=ids: client.remove(ids))
        if number % 3 == 1:
            book.change({old: True}, client.undo)
            alive[old], count = ids, count + 1
    return count


def soak(requests: int) -> bool:
    """Whether all was well."""
    problems, memory, lock = list[str](), list[float](), threading.Lock()
    left = iter(range(requests))
    stop, book = threading.Event(), Book()
    photos = sorted(str(path) for path in (DEMO / "photos").glob("*.jpg"))
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        config, picture = demo_gallery(scratch), str(noise(scratch / "asked.png", 10**9))
        with Server(scratch, f"demo={config.IndexProcess.index_dir}") as server:
            demo = Client(server.url, "demo")
            small = demo.create("soak")
            wanted = {photo: demo.predict(photo)[0].to_dict() for photo in photos}
            whole: dict[str, Any] = {"regions": [WHOLE], "return_k": 4 * ALIVE, "score_thres": -1.0}

            def ask() -> None:
                while (number := next_of(left, lock)) is not None:
                    if number % max(1, requests // 50) == 0:
                        memory.append(server.memory())
                    if number % 2:
                        photo = photos[number // 2 % len(photos)]
                        if demo.predict(photo)[0].to_dict() != wanted[photo]:
                            problems.append(f"another answer for {Path(photo).name}")
                        continue
                    before = book.now()
                    (answer,) = small.predict(picture, **whole)
                    regions = (*answer.found.regions, *answer.found.unnamed)
                    seen = Counter(match.label for region in regions[:1] for match in region.matches)
                    problems.extend([answer.error] if answer.error else wrong(before, book.now(), seen))

            start, changes = time.monotonic(), list[int]()
            teacher = threading.Thread(target=lambda: changes.append(teach(small, book, scratch, stop)))
            askers = [threading.Thread(target=ask) for _ in range(ASKERS)]
            for thread in (teacher, *askers):
                thread.start()
            for thread in askers:
                thread.join()
            stop.set()
            teacher.join()
            took = time.monotonic() - start
            left_over = Counter(item["label"] for item in small.items())
            problems += wrong(book.now(), book.now(), left_over)
    fifth = max(1, len(memory) // 5)
    first, last = median(memory[fifth : 2 * fifth] or memory), median(memory[-fifth:])
    rest = next_of(left, lock)
    print(f"{requests} requests and {sum(changes)} changes in {took:.0f} s; memory {first:.0f} -> {last:.0f} MB")
    if rest is not None or not changes:
        problems.append("a client ended before the last request")
    if last > GROWS * first:
        problems.append(f"memory grew by {last - first:.0f} MB")
    return told("soak", problems)


def next_of(numbers: Any, lock: threading.Lock) -> int | None:
    with lock:
        return next(numbers, None)


def kills(times: int) -> bool:
    """Whether everything that was acknowledged before a SIGKILL is there after it, and nothing half."""
    problems, acknowledged, begun = list[str](), set[str](), set[str]()
    dice = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for number in range(times + 1):
            with Server(scratch) as server:
                client = Client(server.url, "kills") if number else Client(server.url).create("kills")
                there = Counter(item["label"] for item in client.items())
                problems += [f"{label} was acknowledged and is lost" for label in acknowledged - set(there)]
                problems += [f"{label} is there with {count} of 2" for label, count in there.items() if count != 2]
                problems += [f"{label} was never taught" for label in set(there) - begun]
                acknowledged = set(there)
                if number == times:  # a change clears up what the one that was killed left
                    client.add(noise(scratch / "last.png", 10**9), label="last", bbox=WHOLE)
                    break
                killed = threading.Timer(0.5 + 4 * dice.random(), server.stop, [signal.SIGKILL])
                killed.start()
                try:
                    for place in range(10**6):
                        pair = [noise(scratch / f"{side}.png", number * 10**7 + 2 * place + side) for side in (0, 1)]
                        label = f"{number}-{place}"
                        begun.add(label)
                        client.add(pair, label=label, bbox=WHOLE)
                        acknowledged.add(label)
                except ServiceError:
                    killed.join()
        command = [sys.executable, "-m", "shitu", "gallery", "verify", str(scratch / "root" / "kills")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        problems += [done.stdout + done.stderr] if done.returncode else []
    print(f"{times} kills, {len(acknowledged)} changes acknowledged or there")
    return told("kills", problems)


def told(name: str, problems: list[str]) -> bool:
    for problem, count in Counter(problems).most_common(20):
        print(f"{name}: {problem}" + f" ({count} times)" * (count > 1))
    print(f"{name}: {'ok' if not problems else 'FAILED'}")
    return not problems
