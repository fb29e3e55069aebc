"""What a Prometheus server may scrape, and the page's few numbers."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from edgekit.hybrid.events import HybridAnswer

SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Metrics:
    """Counts of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        named: dict[str, Any] = {"registry": self.registry}
        self._answers = Counter("edgekit_answers", "Prompts answered.", ["route", "reason"], **named)
        self._refused = Counter("edgekit_refused", "Requests not taken.", ["why"], **named)
        self._stopped = Counter("edgekit_stopped", "Requests whose client went away.", **named)
        self._tokens = Counter("edgekit_device_tokens", "Tokens the device model wrote.", **named)
        self._cost = Counter("edgekit_cloud_cost_usd", "What the cloud cost, in US dollars.", **named)
        self._local = Histogram(
            "edgekit_device_seconds", "Time of the device, waits included.", buckets=SECONDS, **named
        )
        self._cloud = Histogram("edgekit_cloud_seconds", "Time of the cloud.", buckets=SECONDS, **named)
        self.under_way = Gauge("edgekit_requests_under_way", "Requests under way, waiting ones included.", **named)

    def answered(self, answer: HybridAnswer) -> None:
        """Count an answer."""
        self._answers.labels(answer.route, answer.reason).inc()
        self._tokens.inc(answer.generated_tokens)
        self._cost.inc(answer.cost_usd or 0.0)
        self._local.observe(answer.local_ms / 1000)
        if answer.cloud_ms is not None:
            self._cloud.observe(answer.cloud_ms / 1000)

    def refused(self, why: str) -> None:
        """Count a request that was not taken."""
        self._refused.labels(why).inc()

    def stopped(self) -> None:
        """Count a request whose client went away."""
        self._stopped.inc()

    def text(self) -> bytes:
        """In Prometheus' own format."""
        return generate_latest(self.registry)
