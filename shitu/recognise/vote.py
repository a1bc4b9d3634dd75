"""Which label the nearest gallery entries agree on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from shitu.measure import Measure
from shitu.results import Match

# A match counts exp(similarity / TEMPERATURE): a cosine smaller by 0.1 counts a third. By this weight, of those tried,
# a vote of 5, 10 or 20 never did worse than the nearest alone: benchmarks/measure_votes.py, docs/models.md.
TEMPERATURE = 0.1


def elect(matches: Sequence[Match], vote_k: int, measure: Measure, dimension: int) -> int:
    """The place in `matches`, which are nearest first, of the nearest one with the label that the first `vote_k` elect.

    0 for no matches. `dimension` is the number of bits of hamming codes. Distances count as the cosines they stand for.
    """
    votes: dict[str, float] = {}
    for match in matches[:vote_k]:
        gap = measure.cosine(match.score, dimension) - measure.cosine(matches[0].score, dimension)
        votes[match.label] = votes.get(match.label, 0.0) + math.exp(gap / TEMPERATURE)
    winner = max(votes, key=lambda label: votes[label], default="")  # a tie goes to the nearer
    return next((place for place, match in enumerate(matches) if match.label == winner), 0)
