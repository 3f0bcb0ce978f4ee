"""What a service tells Prometheus."""

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from ridefense.serve.model import Answer

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1200)


class Metrics:
    """Counts and times of one service, in a registry of its own."""

    content_type = CONTENT_TYPE_LATEST
    """Of `text`."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "ridefense_requests", "Requests for a class, by status", ["status"], registry=registry
        )
        self.seconds = Histogram(
            "ridefense_request_seconds",
            "Seconds from arrival to answer of requests that were answered with a class",
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_progress = Gauge(
            "ridefense_requests_in_progress", "Accepted, not yet answered", registry=registry
        )
        self.queue = Gauge(
            "ridefense_queue_images", "Images that wait for a batch", registry=registry
        )
        self.batch_images = Histogram(
            "ridefense_batch_images",
            "Images of a batch",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            registry=registry,
        )
        self.batch_seconds = Histogram(
            "ridefense_batch_seconds",
            "Seconds of computing a batch",
            buckets=_SECONDS,
            registry=registry,
        )
        self.collapses = Counter(
            "ridefense_collapses", "Purified images without contrast or colours", registry=registry
        )
        self.refits = Counter(
            "ridefense_refits", "Fits repeated after a collapse", registry=registry
        )

    def text(self) -> bytes:
        """All of it, in Prometheus's text format."""
        return generate_latest(self._registry)

    def batch(self, images: int, seconds: float) -> None:
        self.batch_images.observe(images)
        self.batch_seconds.observe(seconds)

    def waiting(self, images: int) -> None:
        self.queue.set(images)

    def answered(self, answer: Answer, seconds: float) -> None:
        """An image was classified."""
        self.seconds.observe(seconds)
        self.collapses.inc(answer.collapsed)
        self.refits.inc(answer.refits)
