"""Images into train, val, query and gallery: by class or by image, the same for a seed whatever is added later."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping

from shitu.datasets.rows import Row
from shitu.errors import UsageError

NAMES = ("train", "val", "query", "gallery")
WANTED = "wanted such as train=0.8,query=0.1,gallery=0.1, of train, val, query and gallery, which add up to 1"


def parse_shares(text: str) -> dict[str, float]:
    """`train=0.8,val=0.2` -> the share of each part, in the order of NAMES. Raises UsageError.

    >>> parse_shares("query=0.1,train=0.8,gallery=0.1")
    {'train': 0.8, 'query': 0.1, 'gallery': 0.1}
    """
    shares: dict[str, float] = {}
    for item in text.split(","):
        name, _, value = (part.strip() for part in item.partition("="))
        try:
            share = float(value)
        except ValueError:
            share = math.nan
        if name not in NAMES or name in shares or not 0 < share <= 1:
            raise UsageError(f"--split: {item.strip()!r}: {WANTED}")
        shares[name] = share
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise UsageError(f"--split: the shares add up to {sum(shares.values()):g}; {WANTED}")
    if ("query" in shares) != ("gallery" in shares):
        raise UsageError("--split: query and gallery go together; one list that is both is called val")
    return {name: shares[name] for name in NAMES if name in shares}


def split_rows(
    rows: Iterable[Row], shares: Mapping[str, float], *, seed: int, by_class: bool, unknown: float = 0.0
) -> dict[str, list[Row]]:
    """The rows of each part, in their order.

    By class, a class is in train, in val, or in query and gallery: the measured recall is that of things never
    trained on. By image, every class is shared out; one that is too small for a query and its answer stays in train.
    unknown: the share of query's classes all of whose images go to query, so that the gallery does not know them.
    Raises UsageError where fewer than two classes are left to tell apart.
    """
    images: dict[str, list[str]] = {}
    for row in rows:
        images.setdefault(row.label, []).append(row.path)
    parts: dict[str, list[Row]] = {name: [] for name in shares}
    for group, labels in _groups(images, shares, seed, by_class):
        whole = sum(group.values())
        asked_only: set[str] = set()
        if unknown and "query" in group:  # one class at least
            asked_only = set(_shuffled(labels, seed, "unknown")[: max(1, round(unknown * len(labels)))])
        for label in labels:
            if label in asked_only:
                parts["query"] += [Row(path, label) for path in images[label]]
                continue
            ordered = _shuffled(images[label], seed, label)
            start = 0
            for name, count in _counts(len(ordered), {name: share / whole for name, share in group.items()}).items():
                parts[name] += [Row(path, label) for path in ordered[start : start + count]]
                start += count
    for name in set(shares) - {"train"}:
        if len({row.label for row in parts[name]}) < 2:
            raise UsageError(
                f"{name} would hold fewer than 2 of the {len(images)} classes, where every answer is right; give it a "
                "greater share"
                + (", or split --by-image" if by_class else "")
                + (", or lower --unknown" * bool(unknown))
            )
    return {name: sorted(found, key=lambda row: (row.label, row.path)) for name, found in parts.items()}


def shared_classes(parts: Mapping[str, list[Row]]) -> list[list[str]]:
    """The parts in groups that have classes in common, in the order of NAMES."""
    groups: list[tuple[list[str], set[str]]] = []
    for name in sorted(parts, key=NAMES.index):
        labels = {row.label for row in parts[name]}
        kin = next((group for group in groups if labels & group[1]), None)
        if kin is None:
            groups.append(([name], labels))
        else:
            kin[0].append(name)
            kin[1].update(labels)
    return [names for names, _ in groups]


def _groups(
    images: Mapping[str, list[str]], shares: Mapping[str, float], seed: int, by_class: bool
) -> Iterator[tuple[dict[str, float], list[str]]]:
    """(parts that share classes, with their shares; their classes)."""
    if not by_class:
        yield dict(shares), list(images)
        return
    labels = _shuffled(images, seed, "")
    start, share = 0, 0.0
    for names in (("train",), ("val",), ("query", "gallery")):
        group = {name: shares[name] for name in names if name in shares}
        share += sum(group.values())
        end = round(share * len(labels))
        if group:
            yield group, labels[start:end]
        start = end


def _counts(images: int, shares: Mapping[str, float]) -> dict[str, int]:
    """How many of a class's images go to each part; the sum is `images`."""
    counts, before, share = {}, 0, 0.0
    for name in shares:
        share += shares[name]
        until = math.floor(images * share + 0.5)
        counts[name], before = until - before, until
    if counts.get("train") == 0:  # or its label would be a gap among those of train
        largest = max(counts, key=lambda name: counts[name])
        counts["train"], counts[largest] = 1, counts[largest] - 1
    rest = "train" if "train" in counts else "gallery"
    if counts.get("val") == 1 and rest in counts:  # nothing else of its class to find
        counts["val"], counts[rest] = 0, counts[rest] + 1
    if "query" in counts:
        held = counts["query"] + counts["gallery"]
        if held >= 2:
            counts["query"] = min(max(counts["query"], 1), held - 1)
            counts["gallery"] = held - counts["query"]
        elif held == 1:
            counts["query"] = counts["gallery"] = 0
            counts[rest] += 1
    return counts


def _shuffled(names: Iterable[str], seed: int, salt: str) -> list[str]:
    """In the order of a hash: what is added later moves none of the others to another place among them."""

    def mark(name: str) -> bytes:
        return hashlib.sha256(f"{seed}\0{salt}\0{name}".encode("utf-8", "surrogateescape")).digest()

    return sorted(names, key=mark)
