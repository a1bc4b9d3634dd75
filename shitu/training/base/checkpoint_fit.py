"""Whether a checkpoint and a run belong together: the same network, and what else has changed since."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from shitu.config.values import Section
from shitu.errors import ModelError


def check_fits(path: object, found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], advice: str) -> None:
    """Raises ModelError, with `advice`, where a checkpoint's arrays are not those of the network."""
    problems = [
        f"{name} is {list(found[name].shape) if name in found else 'not there'}, wanted {list(value.shape)}"
        for name, value in wanted.items()
        if name not in found or found[name].shape != value.shape
    ]
    problems += [f"{name} is in the checkpoint alone" for name in found if name not in wanted]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ModelError(f"the checkpoint {path} is of another network: {'; '.join(problems[:3])}{more}. {advice}")


def plain(config: Section) -> Any:
    """As JSON brings it back."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def changes(before: Any, after: Any, may_change: Collection[str], key: str = "") -> Iterator[str]:
    """What differs between two configs in their plain form, but for the keys that may."""
    if key in may_change:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for name in {**before, **after}:
            yield from changes(before.get(name), after.get(name), may_change, f"{key}.{name}" if key else name)
    elif before != after:
        yield f"{key} {before} -> {after}"
