"""Which engine runs a model."""

from __future__ import annotations

from shitu.engines.base import Engine, EngineOptions, Session
from shitu.engines.paddle import Paddle
from shitu.errors import EngineError
from shitu.models import ModelFolder, Program

ENGINES: dict[str, Engine] = {"paddle": Paddle()}  # in the order in which they are asked


def open_model_session(model: ModelFolder, options: EngineOptions) -> tuple[Program, Session]:
    """The model's program for the first engine that supports it, opened. Raises EngineError and ModelError."""
    for engine in ENGINES.values():
        if program := engine.supports(model, options):
            return program, engine.open(program, options)
    there = ", ".join(sorted({f"{each.engine} {each.precision}" for each in model.programs}))
    raise EngineError(
        f"{model.path} has programs for {there}, and the engines here, {', '.join(ENGINES)}, run none of them in "
        f"{options.precision}; export the model for one of them, or take another model"
    )
