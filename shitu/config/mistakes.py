"""What is wrong in a configuration: where pydantic's errors lie in the YAML, and the words for them.

Two things depend on where a value stands, which pydantic does not tell its validators; they are mended here: a key
without effect is taken out, and an override's value becomes the text that it was typed as.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from shitu.config.keys import NoTextError
from shitu.config.layers import Layer, says
from shitu.config.values import UNKNOWN, BadValueError, Section, keys_of, section_in
from shitu.errors import ConfigError

_log = logging.getLogger("shitu")

_CLASSIFICATION = (
    "that is a configuration of PaddleClas's image classification (predict_cls.py), whose models have their labels "
    "inside; shitu names things from a gallery: start from inference_general.yaml, and give a feature extractor as "
    "Global.rec_inference_model_dir"
)
_PIPELINE = (
    "that is a pipeline of PaddleX; the same in shitu's keys: det_threshold is Global.threshold, rec_threshold "
    "IndexProcess.score_thres, rec_topk IndexProcess.return_k, hamming_radius IndexProcess.hamming_radius, index "
    "IndexProcess.index_dir, model_dir Global.det_inference_model_dir and Global.rec_inference_model_dir"
)
_MODULE = "that is a configuration of a PaddleX module; shitu trains by PaddleClas's: see `shitu train --help`"
_TRAINING = "that is a training configuration: see `shitu train --help` and `shitu eval --help`"
# What a key that stands in a file says of it, where recognition's sections were wanted.
_OTHER_FILES = {
    "Global.inference_model_dir": _CLASSIFICATION,
    **dict.fromkeys(("pipeline_name", "SubModules"), _PIPELINE),
    **dict.fromkeys(("Global.model", "Global.mode", "CheckDataset"), _MODULE),
    **dict.fromkeys(
        ("Arch", "DataLoader", "Global.device", "Global.pretrained_model", "Global.checkpoints"), _TRAINING
    ),
}


@dataclass(frozen=True)
class Mistakes:
    """Of a file of kind `root`; `name` and `overrides` (dotted key -> `key=value`) say where values came from."""

    root: type[Section]
    name: str
    overrides: dict[str, str]
    layers: Sequence[Layer] = ()

    def mend(self, kind: type[Section], value: Any, key: str, found: Sequence[Any]) -> None:
        """Mend `value`, which lies below `key`, in place; `found` are pydantic's errors.

        Raises ConfigError for the mistakes, all at once, where nothing can be mended.
        """
        problems = [Mistake(kind, value, key, each) for each in found]
        mended = [self._mended(problem) for problem in problems]
        if not any(mended):
            told = [self._told(problem) for problem in sorted(problems, key=lambda problem: problem.order)]
            if len(texts := dict.fromkeys(map(str, told))) == 1:
                raise told[0]
            listed = "".join(f"\n  {number}. {each}" for number, each in enumerate(texts, 1))
            raise ConfigError(f"{len(texts)} things are wrong in {self.name}:{listed}")

    def _mended(self, problem: Mistake) -> bool:
        """Whether a key without effect was taken out, or an override's value became the text that it was typed as."""
        if problem.unknown and problem.last in problem.section.no_effect:
            _log.warning("%s in %s has no effect", problem.key, self._where(problem.path))
            del problem.holder[problem.last]
            return True
        override = self.overrides.get(problem.path)
        typed = isinstance(problem.error, NoTextError) and not isinstance(problem.value, (list, dict))
        if override and typed:  # `-o Global.infer_imgs=2024`: a folder of that name
            problem.holder[problem.last] = override.partition("=")[2].strip()
        return bool(override) and typed

    def _told(self, problem: Mistake) -> ConfigError:
        if problem.unknown:
            return self._unknown(problem)
        return BadValueError(problem.key, problem.value, problem.wanted, self._where(problem.path))

    def _where(self, key: str) -> str:
        parts = key.split(".")
        for end in range(len(parts), 0, -1):
            if override := self.overrides.get(".".join(parts[:end])):
                return f"-o {override}"
        return next((layer.name for layer in reversed(self.layers) if says(layer.raw, key)), self.name)

    def _unknown(self, problem: Mistake) -> ConfigError:
        prefix, _, name = problem.key.rpartition(".")
        beside = [f"{prefix}.{each}" if prefix else each for each in keys_of(problem.section)]
        known = [*_dotted(self.root), *beside]
        by_name = {each.rpartition(".")[2].lower(): each for each in beside}
        elsewhere = [each for each in known if each.rpartition(".")[2] == name]
        near = elsewhere or [by_name[each] for each in difflib.get_close_matches(name.lower(), by_name, n=1)]
        what, where = "key" if prefix else "section", self._where(problem.path)
        if where == self.name and problem.key in _OTHER_FILES and "IndexProcess" in keys_of(self.root):
            advice = _OTHER_FILES[problem.key]
        elif near:
            advice = f"did you mean {near[0]}?"
        elif beside:
            names = ", ".join(each.rpartition(".")[2] for each in beside)
            advice = f"the {what}s {'of ' + prefix if prefix else 'there are'}: {names}"
        else:
            advice = f"{prefix} takes no keys: write {prefix}: {{}}"
        return ConfigError(f"Unknown {what} {problem.key} in {where}; {advice}")


class Mistake:
    """One of pydantic's errors, and where it lies.

    `key` is dotted, as messages write it; `path` as overrides do, with the key that names a kind. `section` is the kind
    of section around it, `holder` what the YAML has there, and `last` the place in that. `order` is that of the YAML.
    """

    def __init__(self, kind: type[Section], raw: Any, key: str, found: Any) -> None:
        self.unknown, self.value, context = found["type"] == UNKNOWN, found["input"], found.get("ctx", {})
        self.error, self.section, self.holder, self.last = context.get("error"), kind, raw, None
        self.wanted = getattr(self.error, "wanted", None) or str(self.error or found["msg"])
        shown, steps, here, self.order = [key] * bool(key), [key] * bool(key), raw, list[int]()
        for part in found["loc"]:
            kinds = self.section.kinds()
            if part not in kinds or (isinstance(here, dict) and part in here):
                # where there is no such key, a mapping has another one that names what it holds: {Student: {...}}
                other = isinstance(here, dict) and part not in here and len(here) == 1
                self.holder, self.last = here, next(iter(here)) if other else part
                self.order.append(list(here).index(self.last) if isinstance(here, dict) else int(part))
                here = here[self.last]
                steps.append(str(self.last))
                if part not in kinds:
                    shown.append(steps[-1])
            self.section = kinds.get(part) or section_in(keys_of(self.section).get(part)) or self.section
        # what a section says of itself as a whole
        if inner := getattr(self.error, "key", None) or context.get("name"):
            shown, steps = [*shown, inner], [*steps, inner]
        if isinstance(self.error, BadValueError):
            self.value = self.error.value
        self.key, self.path = ".".join(shown), ".".join(steps)


def _dotted(kind: type[Section], prefix: str = "") -> Iterator[str]:
    for name, hint in keys_of(kind).items():
        yield prefix + name
        if inner := section_in(hint):
            yield from _dotted(inner, f"{prefix}{name}.")
