"""Whether cores idle over a folder of photos and over a gallery that is built; also where others keep the machine busy.

python -m benchmarks.busy_cores [--photos 30] [--rounds 2] [-o KEY=VALUE]
Every 20 ms it looks at the state of this process's threads: the share of moments in which as many as there are cores
run or wait for a core. Beside it milliseconds and processor milliseconds for each photo. The photos are the demo's, as
often as it takes; the first round warms up. "photo by photo" is a folder by a predictor for one photo at a time.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from shitu.build.builder import GalleryBuilder
from shitu.config import load_config
from shitu.cores import available_cores
from shitu.draw import draw_recognition
from shitu.draw.annotated_writer import PictureWriter
from shitu.images.read_ahead import read_ahead
from shitu.recognise.files import recognize_files
from shitu.recognise.from_config import SystemPredictor

DEMO = Path(__file__).resolve().parent.parent / "demo"
PAUSE = 0.02
TASKS = Path("/proc/self/task")


def runnable(most: int, stop: threading.Event, seen: list[float]) -> None:
    """Append shares of `most` until `stop`; this thread, which sleeps meanwhile, does not count itself."""
    own = str(threading.get_native_id())
    while not stop.wait(PAUSE):
        states = []
        for task in TASKS.iterdir():
            try:
                states.append(task.name != own and (task / "stat").read_text().rpartition(")")[2].split()[0] == "R")
            except OSError:  # it ended
                continue
        seen.append(min(sum(states), most) / most)


def measured(work: Callable[[], object], cores: int) -> tuple[float, float, float]:
    """Seconds, processor seconds, share of the cores."""
    stop, seen = threading.Event(), list[float]()
    watcher = threading.Thread(target=runnable, args=(cores, stop, seen))
    watcher.start()
    start, busy = time.perf_counter(), time.process_time()
    work()
    taken = time.perf_counter() - start, time.process_time() - busy
    stop.set()
    watcher.join()
    return (*taken, sum(seen) / max(1, len(seen)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("-o", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    photos = sorted(str(path) for path in (DEMO / "photos").glob("*.jpg"))
    names = [photos[number % len(photos)] for number in range(args.photos)]
    with tempfile.TemporaryDirectory() as scratch:
        listed = Path(scratch) / "list.txt"
        listed.write_text("".join(f"{name}\tlabel {i}\n" for i, name in enumerate(names)), encoding="utf-8")
        config = load_config(
            "configs/inference_general.yaml", [f"IndexProcess.index_dir={scratch}/demo", *args.overrides]
        )
        GalleryBuilder(config).run()
        list_of = config.replace("IndexProcess", data_file=str(listed), index_dir=f"{scratch}/new", image_root=None)

        def folder(predictor: SystemPredictor) -> None:
            with PictureWriter(f"{scratch}/pictures", draw_recognition) as pictures:
                for image, record in recognize_files(predictor, read_ahead(names), config.Global.batch_size):
                    assert image is not None
                    pictures.write(record.image, image, record)

        one, many = SystemPredictor(config), SystemPredictor(config, many=True)
        works: dict[str, Callable[[], object]] = {
            "folder, photo by photo": lambda: folder(one),
            "folder, side by side": lambda: folder(many),
            "gallery": lambda: GalleryBuilder(list_of).run(),
        }
        cores = min(available_cores(), config.Global.cpu_num_threads)
        rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in works}
        for number in range(args.rounds + 1):
            for name, work in works.items():
                found = measured(work, cores)
                rows[name] += [found] if number else []
    print(f"{'':26}{'ms':>8}{'processor ms':>14}{'runnable':>10}   of {cores} cores, load {os.getloadavg()[0]:.1f}")
    for name, values in rows.items():
        seconds, busy, share = (median(column) for column in zip(*values, strict=True))
        print(f"{name:26}{1000 * seconds / len(names):8.1f}{1000 * busy / len(names):14.1f}{share:10.0%}")


if __name__ == "__main__":
    main()
