"""What is counted per request in plain numbers is scraped as ordinary metrics."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from sendward.guard.decide import Decision
from sendward.guard.metrics import Metrics
from sendward.verdict import Reason, Verdict

ALLOWED = Decision(Verdict.ALLOW, Reason.Allowed, account="acme", cost=3)
AUDITED = Decision(Verdict.ALLOW, Reason.AccountLimit, account="acme", cost=1)
THROTTLED = Decision(Verdict.THROTTLE, Reason.AccountLimit, account="acme", cost=1)
UNKNOWN = Decision(Verdict.DENY, Reason.UnknownKey)


def samples(metrics: Metrics, family: str) -> dict[tuple[object, ...], float]:
    (found,) = (f for f in text_string_to_metric_families(metrics.text().decode()) if f.name == family)
    return {(sample.name, *sorted(sample.labels.items())): sample.value for sample in found.samples}


def test_messages_are_counted_by_account_verdict_and_reason() -> None:
    metrics = Metrics("sms")
    for decision in (ALLOWED, ALLOWED, AUDITED, THROTTLED, UNKNOWN):
        metrics.record(decision, 0.0)
    found = samples(metrics, "sendward_messages")
    common = [("namespace", "sms"), ("protocol", "http")]
    expected = {
        ("acme", "Allow", "Allowed"): 6,
        ("acme", "Allow", "AccountLimit"): 1,
        ("acme", "Throttle", "AccountLimit"): 1,
        ("", "Deny", "UnknownKey"): 1,  # a refused request counts, though it has no cost
    }
    assert found == {
        (
            "sendward_messages_total",
            *sorted([*common, ("account", account), ("decision", decision), ("reason", reason)]),
        ): count
        for (account, decision, reason), count in expected.items()
    }


def test_durations_are_a_cumulative_histogram() -> None:
    metrics = Metrics("sms")
    for seconds in (0.00001, 0.00002, 0.00002, 0.3):  # a bound belongs to its bucket
        metrics.record(ALLOWED, seconds)
    name = "sendward_message_decision_duration_seconds"
    found = samples(metrics, name)
    buckets = [found[f"{name}_bucket", ("le", bound)] for bound in ("1e-05", "2.5e-05", "0.1", "+Inf")]
    assert buckets == [1, 3, 3, 4]
    assert found[f"{name}_count",] == 4
    assert found[f"{name}_sum",] == 0.30005
