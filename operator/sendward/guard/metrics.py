"""The guard's Prometheus metrics. No key id, phone number or text is ever a label.

What is counted per request is counted in plain numbers and becomes metrics when it is scraped: a
counter object for each of ten thousand accounts would cost more than the decision.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Set
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from sendward.guard.decide import Decision
from sendward.verdict import Reason, Verdict

_BUCKETS: Final = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.025, 0.1)
_REASONS: Final = {reason.code: reason.name for reason in Reason}


class _Messages(Collector):
    """Messages by account, verdict and reason."""

    # Named as in prometheus_client's own collectors: a family without samples tells no labels.
    _labelnames = ("namespace", "account", "protocol", "decision", "reason")

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._counts: dict[tuple[Verdict, str], dict[str, int]] = {}

    def add(self, decision: Decision) -> None:
        outcome = (decision.verdict, decision.reason.code)
        accounts = self._counts.get(outcome)
        if accounts is None:
            accounts = self._counts[outcome] = {}
        accounts[decision.account] = accounts.get(decision.account, 0) + (decision.cost or 1)

    def keep(self, accounts: Set[str]) -> None:
        for outcome, counts in self._counts.items():
            kept = {account: count for account, count in counts.items() if not account or account in accounts}
            self._counts[outcome] = kept

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(
            "sendward_messages",
            "Requests judged; a bulk request counts its recipients.",
            labels=self._labelnames,
        )
        for (verdict, code), accounts in self._counts.items():
            for account, count in accounts.items():
                labels = (self._namespace, account, "http", verdict.value, _REASONS[code])
                family.add_metric(labels, count)
        yield family


class _Duration(Collector):
    """How long decisions took."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_BUCKETS) + 1)  # by bucket, not cumulated
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(_BUCKETS, seconds)] += 1
        self._sum += seconds

    def collect(self) -> Iterator[HistogramMetricFamily]:
        bounds = (*(str(bound) for bound in _BUCKETS), "+Inf")
        yield HistogramMetricFamily(
            "sendward_message_decision_duration_seconds",
            "Time to judge one request.",
            buckets=list(zip(bounds, accumulate(self._counts), strict=True)),
            sum_value=self._sum,
        )


class _Limits(Collector):
    """What is used up of limits, without a series for each account: the messages tell whose."""

    def __init__(self, used: Callable[[], tuple[float, int] | None]) -> None:
        self._used = used

    def collect(self) -> Iterator[GaugeMetricFamily]:
        most, near = self._used() or (None, None)
        yield GaugeMetricFamily(
            "sendward_rate_limit_utilization_ratio",
            "Part of its limit that the account or key nearest to its limit has used up, 0 to 1; absent while"
            " shared counters count.",
            value=most,
        )
        yield GaugeMetricFamily(
            "sendward_rate_limit_subjects_near_limit",
            "Accounts and keys that have used up four fifths of a limit or more; absent while shared counters"
            " count.",
            value=near,
        )


class Metrics:
    """All metrics of one guard, in a registry of their own. `limits`: as `Limiter.used`; None: not known."""

    def __init__(
        self, namespace: str, limits: Callable[[], tuple[float, int] | None] = lambda: (0.0, 0)
    ) -> None:
        self.registry = CollectorRegistry()
        self._messages = _Messages(namespace)
        self._duration = _Duration()
        for collector in (self._messages, self._duration, _Limits(limits)):
            self.registry.register(collector)
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
        self.counters_reachable = self._gauge(
            "sendward_guard_counters_reachable",
            "1 while the gateway has shared counters and they answer this guard; 0 otherwise.",
        )
        self.limit_subjects = self._gauge(
            "sendward_guard_limit_subjects", "Accounts and keys with a rate counter."
        )
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
        self._messages.add(decision)
        self._duration.add(seconds)

    def keep(self, accounts: Set[str]) -> None:
        """Drop the series of accounts that are none of these; of nobody's messages they stay."""
        self._messages.keep(accounts)

    def on_scrape(self, gauge: Gauge, value: Callable[[], float]) -> None:
        """Let `gauge` ask for its value when it is scraped."""
        gauge.set_function(value)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
