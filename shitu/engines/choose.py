"""Which engine runs a model, and in which precision."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from shitu.engines.base import Engine, EngineOptions, Session
from shitu.engines.cpu import has_bf16, has_int8
from shitu.engines.onnxruntime import OnnxRuntime
from shitu.engines.openvino import INSTALL, OPENVINO, OpenVino
from shitu.engines.paddle import Paddle
from shitu.errors import EngineError
from shitu.models import ModelFolder, Program
from shitu.models.folder import enough
from shitu.models.model_yaml import DETECTION

log = logging.getLogger("shitu")

AUTO = "auto"
ENGINES: dict[str, Engine] = {"onnxruntime": OnnxRuntime(), "paddle": Paddle(), "openvino": OpenVino()}
# Which `auto` asks, in this order: docs/performance.md has the measurements. OpenVINO starts later, and is quicker with
# detectors in int8 alone. Engines that others add come after.
RANKED = ("onnxruntime", "paddle")


@dataclass(frozen=True)
class Opened:
    """A session, the program that it runs, and in which engine and precision."""

    program: Program
    session: Session
    engine: str
    precision: str


def open_model_session(model: ModelFolder, options: EngineOptions) -> Opened:
    """The model's program for the engine and precision of the options, opened.

    `auto`: the first engine of RANKED that supports it; int8 where this processor is fast in it and the model's int8
    was measured to agree, else fp32. Raises EngineError and ModelError.
    """
    if options.precision == "bf16" and not has_bf16():
        raise EngineError(
            "Global.precision is bf16, and this processor has no bfloat16 instructions (avx512_bf16, amx_bf16); "
            "set it to fp32, int8 or auto"
        )
    for precision in precisions(model, options):
        wanted = replace(options, precision=precision)
        for name in _asked(options):
            if program := ENGINES[name].supports(model, wanted):
                log.debug("%s: %s, %s", model.name, name, precision)
                return Opened(program, ENGINES[name].open(program, wanted), name, precision)
    raise EngineError(_none(model, options))


def precisions(model: ModelFolder, options: EngineOptions) -> list[str]:
    """What to try, best first."""
    if options.precision != AUTO:
        return [options.precision]
    task, wanted = model.card.task, replace(options, precision="int8")
    twin = next(filter(None, (ENGINES[name].supports(model, wanted) for name in _asked(options))), None)
    agrees = twin and enough((twin.agreement if task == DETECTION else twin.cosine) or 0, task)
    return ["int8", "fp32"] if agrees and has_int8() else ["fp32"]


def _asked(options: EngineOptions) -> list[str]:
    """Engines to try, best first."""
    rest = [name for name in ENGINES if name not in (*RANKED, OPENVINO)]
    return [*RANKED, *rest] if options.engine == AUTO else [options.engine]


def _none(model: ModelFolder, options: EngineOptions) -> str:
    there = ", ".join(sorted({f"{each.engine} {each.precision}" for each in model.programs}))
    says = f"{model.path} has programs for {there}; Global.engine {options.engine} runs none of them in "
    says += "fp32" if options.precision == AUTO else options.precision
    if options.precision == "int8" and not any(each.precision == "int8" for each in model.programs):
        return f"{says}; set Global.precision to auto, which takes fp32 here, or make one: shitu quantize {model.path}"
    if options.precision == "int8" and any(each.engine == OPENVINO for each in model.programs):
        return (
            f"{says}; its int8 is for OpenVINO: set Global.engine to openvino ({INSTALL}), or Global.precision to auto"
        )
    if options.engine in ("onnxruntime", "openvino") and not any(each.engine == "onnx" for each in model.programs):
        return f"{says}; make one: shitu models convert {model.path}"
    return f"{says}; set Global.engine or Global.precision to auto, or take another model"
