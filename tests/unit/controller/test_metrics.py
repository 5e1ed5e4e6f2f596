"""What the operator exposes: valid, bounded, and what it says of conditions and propagation."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from sendward import names
from sendward.apply.statuses import canonical
from sendward.controller import hub_metrics
from sendward.controller.metrics import Metrics as OperatorMetrics
from sendward.controller.propagation import Propagation
from sendward.graph.store import Store
from sendward.guard.decide import Decision
from sendward.guard.metrics import Metrics as GuardMetrics
from sendward.resources.parse import parse
from sendward.resources.status import Condition, SenderAccountStatus
from sendward.verdict import Reason, Verdict
from sendward.webhook.server import Metrics as WebhookMetrics

ACCOUNTS = 10_000
HOSTILE = 'a"b\\c\nd{e="f"} 1'
UNITS = ("_seconds", "_ratio", "_total", "_bytes", "_info")
# Counts of things, as of now.
WITHOUT_UNIT = re.compile(
    r"sendward_(resource_condition|leader|reconcile_queue_length|hub_guards|sidecars_out_of_sync|"
    r"rate_limit_subjects_near_limit|guard_(counters_reachable|hub_connected|shares_unsynced|limit_subjects|shards_missing))"
)
BOUNDED = {  # labels: each has a closed list of values, or as many as there are gateways or accounts
    "verb", "kind", "operation", "code", "version", "trigger", "result", "reason", "namespace", "gateway",
    "type", "status", "decision", "protocol", "account", "le",
}  # fmt: skip


def _store(count: int) -> Store:
    store = Store()
    for number in range(count):
        _put(store, f"a{number}", "True")
    return store


def _put(store: Store, name: str, ready: str) -> None:
    raw: dict[str, Any] = {
        "apiVersion": names.API_VERSION,
        "kind": "SenderAccount",
        "metadata": {"name": name, "namespace": "n", "uid": f"uid-{name}", "generation": 1},
        "spec": {"gateways": ["g"]},
    }
    condition = Condition(
        type="Ready",
        status=ready,
        reason="Ready",
        message="",
        last_transition_time=datetime(2026, 1, 1, tzinfo=UTC),
        observed_generation=1,
    )
    store.apply(parse(raw), canonical(SenderAccountStatus(conditions=[condition])), "1")


def _registries() -> dict[str, CollectorRegistry]:
    """Of every process, each metric with at least one sample, and what others may put into labels."""
    calls = Counter({("get", HOSTILE): 3})
    operator = OperatorMetrics(calls, calls)
    operator.shows(_store(3).tally.conditions)
    operator.leads(lambda: True)
    operator.observe_pass(0.1, 3, 1)
    operator.issued("Nonce")
    operator.reconciled(HOSTILE, "success")
    for metric in (hub_metrics.GUARDS, hub_metrics.OUT_OF_SYNC, hub_metrics.REJECTIONS):
        metric.labels("n", HOSTILE)
    guard = GuardMetrics("n", lambda: (0.25, 1))
    guard.record(Decision(Verdict.DENY, Reason.UnknownKey, account=HOSTILE), 0.0001)
    webhook = WebhookMetrics()
    webhook.requests.labels("Pod", "CREATE", "allowed").inc()
    return {
        "operator": operator.registry,
        "hub": REGISTRY,
        "guard": guard.registry,
        "webhook": webhook.registry,
    }


@pytest.fixture(params=["operator", "hub", "guard", "webhook"])
def registry(request: pytest.FixtureRequest) -> CollectorRegistry:
    return _registries()[request.param]


def _ours(families: Any) -> list[Metric]:
    found = [family for family in families if family.name.startswith("sendward_")]
    assert found
    return found


def test_the_exposition_is_valid_whatever_labels_hold(registry: CollectorRegistry) -> None:
    """Both formats, read back by their parsers: the same samples."""
    plain = _ours(text_string_to_metric_families(generate_latest(registry).decode()))
    text = generate_openmetrics(registry).decode()  # type: ignore[no-untyped-call]
    strict = _ours(parse_openmetrics(text))  # type: ignore[no-untyped-call]

    def samples(families: list[Metric]) -> set[Any]:
        found = [s for family in families for s in family.samples if not s.name.endswith("_created")]
        return {(s.name, tuple(sorted(s.labels.items())), s.value) for s in found}

    assert samples(plain) == samples(strict)
    assert {family.type for family in strict} <= {"counter", "gauge", "histogram", "info"}


def test_names_say_the_unit_and_labels_are_bounded(registry: CollectorRegistry) -> None:
    for family in _ours(registry.collect()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        name = f"{name}_info" if family.type == "info" else name
        assert re.fullmatch(r"sendward_[a-z][a-z_]*[a-z]", name)
        assert name.endswith(UNITS) or WITHOUT_UNIT.fullmatch(name), name
        assert len(family.documentation) >= 10
        for sample in family.samples:
            assert sample.labels.keys() <= BOUNDED, name


def test_conditions_follow_every_change() -> None:
    store = _store(3)
    assert store.tally.conditions() == {("SenderAccount", "Ready", "True"): 3}
    _put(store, "a1", "False")
    _put(store, "a1", "False")  # the echo of our own write
    assert store.tally.conditions() == {
        ("SenderAccount", "Ready", "True"): 2,
        ("SenderAccount", "Ready", "False"): 1,
    }
    for record in list(store.group("n").accounts.values()):
        store.delete(record.meta.key)
    assert store.tally.conditions() == {}


def test_ten_thousand_accounts_are_no_more_series_than_ten() -> None:
    def series(count: int) -> int:
        metrics = OperatorMetrics(Counter(), Counter())
        metrics.shows(_store(count).tally.conditions)
        return len(generate_latest(metrics.registry).splitlines())

    assert series(ACCOUNTS) == series(10)


def test_the_oldest_change_on_its_way_is_what_counts() -> None:
    observed: list[float] = []
    propagation = Propagation(observed.append)
    propagation.begin("g", ["gateway", "3"], 10.0)
    propagation.begin("g", ["3"], 11.0)
    propagation.begin("other", ["3"], 11.0)
    propagation.end("g", "3", 12.5)
    propagation.end("g", "3", 13.0)
    assert observed == [2.5]
    assert propagation.waiting("g") == ["gateway"]
    propagation.forget("g")
    propagation.end("g", "gateway", 14.0)
    assert observed == [2.5]
    assert propagation.waiting("other") == ["3"]
