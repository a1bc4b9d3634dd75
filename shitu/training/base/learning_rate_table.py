"""The learning rate over a run, to be read before it begins."""

from __future__ import annotations

from collections.abc import Callable


def learning_rate_table(
    lr: Callable[[int], float], *, total_steps: int, warmup_steps: int, steps_per_epoch: int
) -> list[str]:
    """The learning rate at steps over the run, as lines to print."""
    from tabulate import tabulate

    rows = [
        (name, f"{step / steps_per_epoch:.2f}", f"{step:,}", f"{lr(step):.6g}")
        for name, step in _milestones(total_steps, warmup_steps)
    ]
    headers = ("", "epoch", "step", "learning rate")
    table = tabulate(
        rows, headers, tablefmt="plain", colalign=("left", "right", "right", "right"), disable_numparse=True
    )
    return table.splitlines()


def _milestones(total_steps: int, warmup_steps: int) -> list[tuple[str, int]]:
    """Steps at which a learning rate is worth knowing, ascending; the last step that is made stands for the end."""
    last = total_steps - 1
    named = {0: "start"}
    if warmup_steps:
        named.setdefault(min(warmup_steps, last), "after warm-up")
    for share in (25, 50, 75):
        named.setdefault(total_steps * share // 100, f"{share} %")
    named.setdefault(last, "last step")
    return [(name, step) for step, name in sorted(named.items())]
