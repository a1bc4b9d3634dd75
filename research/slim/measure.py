"""The bundled recogniser beside one made of it: size, multiply-adds, time, Recall@1; both in fp32 by ONNX Runtime.

    python -m research.slim.measure output/slim/fpgm/DistillationModel/inference       # after `shitu models convert`

On the photos of `benchmarks/measure_int8.py`, and with its times.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.measure_int8 import recogniser, times
from research.slim.unfold import BUNDLED
from shitu.engines.base import EngineOptions
from shitu.engines.onnxruntime import OnnxRuntime
from shitu.models.folder import open_folder


def main() -> None:
    options, found = EngineOptions(threads=1, engine="onnxruntime", precision="fp32"), []
    for folder in (BUNDLED, Path(sys.argv[1])):
        model = open_folder(folder)
        program = OnnxRuntime().supports(model, options)
        if program is None:
            raise SystemExit(f"{folder} has no ONNX program; make one: shitu models convert {folder}")
        print(f"{folder.name}: {sum(each.stat().st_size for each in program.files):,} bytes; {model.card.architecture}")
        found.append(OnnxRuntime().open(program, options))
    recogniser(model, *found)  # what it calls int8 is the other one
    times(model, (*found, found[0]))


if __name__ == "__main__":
    main()
