"""The guard's metrics of limits, and what stays of accounts that are gone."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families

from sendward.document import Limit
from sendward.guard.decide import Decision
from sendward.guard.limiter import Limiter
from sendward.guard.metrics import Metrics
from sendward.guard.policy import Policy
from sendward.protocol import PPM, Portions
from sendward.verdict import Reason, Verdict
from tests.guard import builders

SECOND = 1_000_000_000
LIMITS = (Limit(messages=10, period=1, burst=10),)


def _limiter() -> Limiter:
    limiter = Limiter()
    limiter.set_shares(0, PPM, {}, Portions(PPM))
    return limiter


def _values(metrics: Metrics) -> dict[str, float]:
    families = text_string_to_metric_families(metrics.text().decode())
    return {s.name: s.value for family in families for s in family.samples if not s.labels}


def test_the_fullest_limit_is_told_and_how_many_are_near() -> None:
    limiter = _limiter()
    now = 0
    metrics = Metrics("n", lambda: limiter.used(now))
    assert _values(metrics)["sendward_rate_limit_utilization_ratio"] == 0
    limiter.admit(now, [("calm", LIMITS)], 2)
    limiter.admit(now, [("busy", LIMITS)], 9)
    limiter.admit(now, [("full", LIMITS)], 10)
    assert _values(metrics)["sendward_rate_limit_utilization_ratio"] == 1
    assert _values(metrics)["sendward_rate_limit_subjects_near_limit"] == 2
    now = SECOND // 2
    assert _values(metrics)["sendward_rate_limit_utilization_ratio"] == 0.5
    assert _values(metrics)["sendward_rate_limit_subjects_near_limit"] == 0


def test_what_others_count_is_not_told() -> None:
    metrics = Metrics("n", lambda: None)
    assert not [name for name in _values(metrics) if name.startswith("sendward_rate_limit")]


def test_a_share_without_a_whole_message_is_not_a_limit_that_is_used_up() -> None:
    limiter = Limiter()
    limiter.set_shares(0, PPM // 100, {}, Portions(PPM // 100))
    assert limiter.admit(0, [("a", LIMITS)], 1).refused == 0
    assert limiter.used(0) == (0.0, 0)


def _accounts(metrics: Metrics) -> Iterator[str]:
    for family in text_string_to_metric_families(metrics.text().decode()):
        if family.name == "sendward_messages":
            yield from (sample.labels["account"] for sample in family.samples)


def test_series_of_accounts_that_are_gone_go_too() -> None:
    metrics, policy = Metrics("n"), Policy()
    for number in range(1000):
        metrics.record(Decision(Verdict.ALLOW, Reason.Allowed, account=f"a{number}", cost=1), 0.001)
    metrics.record(Decision(Verdict.DENY, Reason.UnknownKey), 0.001)
    assert len(list(_accounts(metrics))) == 1001
    policy.set_shard(0, builders.shard(builders.account("a7", builders.key("one"))))
    metrics.keep(policy.accounts())
    assert sorted(_accounts(metrics)) == ["", "a7"]
    metrics.record(Decision(Verdict.ALLOW, Reason.Allowed, account="a7", cost=1), 0.001)
    assert (
        'account="a7",decision="Allow",namespace="n",protocol="http",reason="Allowed"} 2.0'
        in metrics.text().decode()
    )
