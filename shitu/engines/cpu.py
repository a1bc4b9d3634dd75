"""What this machine's processor can do: its flags as Linux names them, none elsewhere."""

from __future__ import annotations

from functools import cache
from pathlib import Path

BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # the last is Arm's
INT8 = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})  # the last two are Arm's


@cache
def cpu_flags() -> frozenset[str]:
    """Of the first core, lower case."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    found = (line.partition(":")[2] for line in lines if line.lower().startswith(("flags", "features")))
    return frozenset(next(found, "").lower().split())


def has_bf16() -> bool:
    """Whether bfloat16 products are faster here than float32's."""
    return bool(BF16 & cpu_flags())


def has_int8() -> bool:
    """Whether int8 products are: without these instructions they cost more than float32's."""
    return bool(INT8 & cpu_flags())


def processor_name() -> str:
    """As the maker calls it; empty where Linux does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
