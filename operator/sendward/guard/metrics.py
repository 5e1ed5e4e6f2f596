"""The guard's Prometheus metrics. No key id, phone number or text is ever a label."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from sendward.guard.decide import Decision

_BUCKETS = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.025, 0.1)


class Metrics:
    """All metrics of one guard, in a registry of their own."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self.registry = CollectorRegistry()
        self._messages = Counter(
            "sendward_messages",
            "Requests judged; a bulk request counts its recipients.",
            ["namespace", "account", "protocol", "decision", "reason"],
            registry=self.registry,
        )
        self._children: dict[tuple[str, str, str], Counter] = {}
        self.duration = Histogram(
            "sendward_message_decision_duration_seconds",
            "Time to judge one request.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.document_age = self._gauge(
            "sendward_guard_document_age_seconds", "Seconds since the hub was last heard of."
        )
        self.hub_connected = self._gauge(
            "sendward_guard_hub_connected", "1 while the stream of the hub is open."
        )
        self.shares_unsynced = self._gauge(
            "sendward_guard_shares_unsynced",
            "1 while this guard limits by a share that the hub never gave: limits may be exceeded.",
        )
        self.counters = self._gauge("sendward_guard_limit_subjects", "Accounts and keys with a rate counter.")
        self.missing_shards = self._gauge(
            "sendward_guard_shards_missing", "Parts of the document that are not there."
        )
        self.rejections = Counter(
            "sendward_sidecar_config_rejections",
            "Parts of the document that were refused.",
            registry=self.registry,
        )

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self.registry)

    def record(self, decision: Decision, seconds: float) -> None:
        """Count one decision that took `seconds`."""
        key = (decision.account, decision.verdict.value, decision.reason.name)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._messages.labels(
                self._namespace, decision.account, "http", decision.verdict.value, decision.reason.name
            )
        child.inc(decision.cost or 1)
        self.duration.observe(seconds)

    def on_scrape(self, gauge: Gauge, value: Callable[[], float]) -> None:
        """Let `gauge` ask for its value when it is scraped."""
        gauge.set_function(value)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
