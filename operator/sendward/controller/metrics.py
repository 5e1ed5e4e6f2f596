"""Prometheus metrics of the operator: every name in one place. Never a key id or a number as label."""

from __future__ import annotations

from collections import Counter as Calls
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from sendward import names


class _CallCollector(Collector):
    """Requests to the API server and Vault, as the clients count them."""

    def __init__(self, kube: Calls[tuple[str, str]], vault: Calls[tuple[str, str]]) -> None:
        self._kube = kube
        self._vault = vault

    def collect(self) -> Iterable[CounterMetricFamily]:
        api = CounterMetricFamily(
            "sendward_api_requests", "Requests to the API server", labels=["verb", "kind"]
        )
        for (verb, kind), count in list(self._kube.items()):
            api.add_metric([verb, kind], count)
        vault = CounterMetricFamily(
            "sendward_vault_requests", "Requests to Vault", labels=["operation", "code"]
        )
        for (operation, code), count in list(self._vault.items()):
            vault.add_metric([operation, code], count)
        return [api, vault]


class _ConditionCollector(Collector):
    """Numbers of objects, not objects: ten thousand accounts are no more series than ten."""

    # Named as in prometheus_client's own collectors: a family without samples tells no labels.
    _labelnames = ("kind", "type", "status")

    def __init__(self, conditions: Callable[[], Mapping[tuple[str, str, str], int]]) -> None:
        self._conditions = conditions

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "sendward_resource_condition",
            "Objects of a kind with this status of a condition",
            labels=self._labelnames,
        )
        for labels, count in sorted(self._conditions().items()):
            family.add_metric(labels, count)
        return [family]


class Metrics:
    """One instance per operator process."""

    def __init__(self, kube: Calls[tuple[str, str]], vault: Calls[tuple[str, str]]) -> None:
        self.registry = CollectorRegistry()
        Info("sendward_build", "Version of the operator", registry=self.registry).info(
            {"version": names.VERSION}
        )
        self.registry.register(_CallCollector(kube, vault))
        self._reconciles = Counter(
            "sendward_reconciles", "Reconciles", ["kind", "result"], registry=self.registry
        )
        self._passes = Histogram(
            "sendward_reconcile_duration_seconds", "Duration of a pass", registry=self.registry
        )
        self._objects = Counter(
            "sendward_reconciled_objects", "Objects looked at in passes", registry=self.registry
        )
        self._queue = Gauge("sendward_reconcile_queue_length", "Jobs that wait", registry=self.registry)
        self.bugs = Counter(
            "sendward_internal_errors", "Objects whose compile failed", registry=self.registry
        )
        self._issued = Counter(
            "sendward_credential_rotations",
            "Versions of keys that were issued, by what asked for them",
            ["trigger"],
            registry=self.registry,
        )
        self._leader = Gauge("sendward_leader", "1 while this process leads", registry=self.registry)

    def leads(self, leader: Callable[[], bool]) -> None:
        """Show leadership from now on."""
        self._leader.set_function(lambda: 1.0 if leader() else 0.0)

    def shows(self, conditions: Callable[[], Mapping[tuple[str, str, str], int]]) -> None:
        """Show how many objects there are by (kind, type of condition, status) from now on."""
        self.registry.register(_ConditionCollector(conditions))

    def observe_pass(self, seconds: float, objects: int, queued: int) -> None:
        """One pass is done."""
        self._passes.observe(seconds)
        self._objects.inc(objects)
        self._queue.set(queued)

    def issued(self, trigger: str) -> None:
        """A version was issued: a reason of `rotation.CHECKS`, or Recovered."""
        self._issued.labels(trigger).inc()

    def reconciled(self, kind: str, result: str) -> None:
        """One object outside of a pass is done."""
        self._reconciles.labels(kind, result).inc()
