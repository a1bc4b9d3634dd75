"""Figures for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route")
        self.requests = Counter("shitu_requests", "Requests answered", (*labels, "status"), registry=self.registry)
        self.seconds = Histogram(
            "shitu_request_seconds",
            "To the end of the answer",
            labels,
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.stages = Histogram(
            "shitu_stage_seconds", "What a photo takes, by stage", ("stage",), registry=self.registry, buckets=_SECONDS
        )
        self.pictures = Counter(
            "shitu_pictures", "Pictures, by what became of them", ("outcome",), registry=self.registry
        )
        self.crops = Histogram(
            "shitu_crops_per_call", "Crops that share a call of the extractor", registry=self.registry,
            buckets=(1, 2, 4, 8, 16, 32, 64),
        )  # fmt: skip
        self.in_work = Gauge("shitu_requests_in_work", "Requests accepted and not yet answered", registry=self.registry)
        self.refused = Counter("shitu_requests_refused", "Requests told to come again", registry=self.registry)
        self.changes = Counter("shitu_changes", "Changes committed", ("gallery", "change"), registry=self.registry)

    def text(self) -> bytes:
        return generate_latest(self.registry)
