"""Where the time of a training step goes, on the CPU: waiting for data, forward pass, losses, backward pass, optimizer.

The network and losses of a config on the demo's drawings, with as many classes as wanted; medians over the steps of one
run, as shares. A GPU works while Python goes on, so there only the log's `data_wait` and images/s tell anything.

    python benchmarks/training_step.py [--batch 16] [--size 224] [--classes 10000] [--steps 8]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "configs" / "train" / "GeneralRecognitionV2_PPLCNetV2_base.yaml"
DEMO = ROOT / "demo"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("batch", 16), ("size", 224), ("classes", 10_000), ("steps", 8), ("workers", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    wanted = parser.parse_args()

    from shitu.training.base.ema import MovingAverage
    from shitu.training.rec.run import RecTask
    from shitu.training.rec.schema import load_train_config

    with tempfile.TemporaryDirectory() as temporary:
        paths = [line.split("\t")[0] for line in (DEMO / "gallery.txt").read_text(encoding="utf-8").splitlines()]
        listed = Path(temporary) / "list.txt"
        images = max(4 * wanted.classes, wanted.batch * (wanted.steps + 1))
        lines = (f"{paths[n % len(paths)]} {n % wanted.classes}\n" for n in range(images))
        listed.write_text("".join(lines), encoding="utf-8")
        overrides = (
            *(f"Global.output_dir={temporary}", "Global.device=cpu", f"DataLoader.Train.dataset.image_root={DEMO}"),
            *(f"DataLoader.Train.dataset.cls_label_path={listed}", f"Arch.Head.class_num={wanted.classes}"),
            *(f"DataLoader.Train.sampler.batch_size={wanted.batch}", "DataLoader.Train.sampler.id_list=[]"),
            *("DataLoader.Train.sampler.ratio=[]", f"DataLoader.Train.loader.num_workers={wanted.workers}"),
            *("Arch.Backbone.pretrained=null", "Global.eval_during_train=False"),
            f"Global.image_shape=[3,{wanted.size},{wanted.size}]",
        )
        task = RecTask(load_train_config(CONFIG, overrides), 0, 1, resumes=False)
        average = MovingAverage(task.network, 0.999)
        parts: dict[str, list[float]] = {}
        task.train_mode()
        with closing(task.batches(0, 0)) as batches:
            for step in range(wanted.steps + 1):
                times = [time.perf_counter()]
                batch = next(batches)
                times.append(time.perf_counter())
                outputs = task.network(batch.images, batch.labels)
                times.append(time.perf_counter())
                loss = task.losses(outputs, batch.labels)["loss"]
                times.append(time.perf_counter())
                loss.backward()
                times.append(time.perf_counter())
                task.optimizer.step()
                task.optimizer.clear_grad()
                times.append(time.perf_counter())
                average.update()
                times.append(time.perf_counter())
                if step:  # the first one makes the optimizer's buffers
                    names = ("waiting for data", "forward", "losses", "backward", "optimizer", "moving average")
                    for name, begin, end in zip(names, times, times[1:], strict=False):
                        parts.setdefault(name, []).append(end - begin)
    whole = sum(median(each) for each in parts.values())
    for name, each in parts.items():
        print(f"{name:<18}{100 * median(each) / whole:5.1f} %")
    print(f"{wanted.batch / whole:.1f} images/s")


if __name__ == "__main__":
    main()
