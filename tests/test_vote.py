"""The label on which the nearest entries agree."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from shitu.config import load_config
from shitu.gallery import Item
from shitu.gallery.gallery import Gallery
from shitu.images.read import read_image
from shitu.measure import HAMMING, IP, L2
from shitu.recognise.from_config import RecPredictor, SystemPredictor
from shitu.recognise.vote import TEMPERATURE, elect
from shitu.results import Match
from tests.conftest import DEMO


def matches(*pairs: tuple[str, float]) -> list[Match]:
    return [Match(label, score, number, "") for number, (label, score) in enumerate(pairs)]


def test_one_vote_is_the_nearest() -> None:
    assert elect(matches(("a", 0.9), ("b", 0.89), ("b", 0.89)), 1, IP, 4) == 0


def test_two_near_ones_outvote_the_nearest() -> None:
    found = matches(("a", 0.90), ("b", 0.88), ("b", 0.87))
    assert elect(found, 2, IP, 4) == 0
    assert elect(found, 3, IP, 4) == 1


def test_far_ones_do_not() -> None:
    """Ten votes of exp(-0.3 / 0.1) = 0.05 each stay below the one of the nearest."""
    assert elect(matches(("a", 0.9), *[("b", 0.6)] * 10), 11, IP, 4) == 0


@pytest.mark.parametrize("seed", range(20))
def test_against_counting_by_hand(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = np.sort(rng.uniform(0.2, 0.9, 12))[::-1]
    labels = rng.choice(list("abc"), 12)
    sums = {name: sum(math.exp(s / TEMPERATURE) for s in scores[:8][labels[:8] == name]) for name in set(labels[:8])}
    winner = max(sums, key=lambda name: sums[name])
    pairs = [(str(label), float(score)) for label, score in zip(labels, scores, strict=True)]
    assert elect(matches(*pairs), 8, IP, 4) == labels.tolist().index(winner)


def test_distances_vote_as_the_cosines_they_stand_for() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        cosines = np.sort(rng.uniform(0.2, 0.9, 6))[::-1]
        labels = [str(label) for label in rng.choice(list("ab"), 6)]
        ip = matches(*zip(labels, cosines.tolist(), strict=True))
        l2 = matches(*zip(labels, (2 - 2 * cosines).tolist(), strict=True))
        hamming = matches(*zip(labels, ((1 - cosines) * 64).tolist(), strict=True))
        assert elect(ip, 6, IP, 128) == elect(l2, 6, L2, 128) == elect(hamming, 6, HAMMING, 128)


def test_no_matches() -> None:
    assert elect([], 5, IP, 4) == 0


def test_a_voted_label_in_the_pipeline(tmp_path: Path) -> None:
    """Two entries a little farther away take the name; the record shows the entry that gave it."""
    options = [f"IndexProcess.index_dir={tmp_path / 'index'}", "Global.det_inference_model_dir=null"]
    config = load_config(None, options)
    recogniser = RecPredictor(config)
    photo = read_image(DEMO / "gallery/fluent/banana.jpg")
    query = recogniser.predict([photo])[0]
    noise = np.random.default_rng(0).normal(size=(3, 512)).astype(np.float32)
    noise -= np.outer(noise @ query, query)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    cosines = np.array([[0.90], [0.89], [0.88]], np.float32)
    vectors = cosines * query + np.sqrt(1 - cosines**2) * noise
    items = [Item("near", "1.jpg"), Item("agreed", "2.jpg"), Item("agreed", "3.jpg")]
    Gallery.create(
        tmp_path / "index",
        vectors,
        items,
        index_method="Flat",
        dist_type="IP",
        fingerprint=recogniser.fingerprint,
    )
    for vote_k, label, score in ((1, "near", 0.90), (3, "agreed", 0.89)):
        config = load_config(None, [*options, f"IndexProcess.vote_k={vote_k}", "IndexProcess.return_k=1"])
        (region,) = SystemPredictor(config).predict([photo])[0].regions
        assert region.label == label
        assert region.score == pytest.approx(score, abs=1e-4)
        assert region.to_dict()["rec_docs"] == label
        assert len(region.matches) == (1 if vote_k == 1 else 2)
