"""The judgement of the crash matrix finds what it is there to find."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pytest

from tests.faults.matrix import report, state
from tests.faults.matrix.report import Run
from tests.faults.matrix.runner import points
from tests.faults.matrix.scenarios import SCENARIOS, Scenario
from tests.faults.matrix.witness import Sample, Seen, judge
from tests.faults.proxy_calls import kube_call, vault_call

_BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
ROTATE, REVOKE = _BY_NAME["rotate by nonce"], _BY_NAME["revoke"]


def _seen(
    *, accepted: Iterable[float] = (), refused: Iterable[float] = (), told: float | None = None
) -> Seen:
    """Messages of version 1, sent at these times and answered 0.01 s later; the act is at 10."""
    samples = [Sample(1, at, at + 0.01, 202) for at in accepted]
    samples += [Sample(1, at, at + 0.01, 401, "SW2101") for at in refused]
    return Seen(samples, {1: 0.0}, most_live=1, acted=10.0, told=told)


def _invariants(scenario: Scenario, seen: Seen) -> list[str]:
    return [found.partition(":")[0] for found in judge(scenario, seen)]


@pytest.mark.parametrize(
    ("scenario", "seen", "violated"),
    [
        (ROTATE, _seen(accepted=[9, 11, 12]), []),
        (ROTATE, _seen(accepted=[9, 12], refused=[11]), ["I1"]),
        (REVOKE, _seen(accepted=[9, 11], refused=[12, 13], told=11.5), []),
        (REVOKE, _seen(accepted=[9, 11, 12], refused=[13], told=11.5), ["I2"]),
        (REVOKE, _seen(accepted=[9, 13], refused=[12]), ["I2"]),
        (REVOKE, _seen(accepted=[9, 11, 12, 13]), ["I2"]),
        (REVOKE, _seen(accepted=[8], refused=[9, 12]), ["I1"]),
    ],
)
def test_messages_are_judged(scenario: Scenario, seen: Seen, violated: list[str]) -> None:
    assert _invariants(scenario, seen) == violated


def test_no_answer_counts_as_not_accepted() -> None:
    seen = _seen(accepted=[9, 12])
    seen.samples.append(Sample(1, 11, 11.1, 0, "ClientOSError"))
    assert _invariants(ROTATE, seen) == ["I1"]


def test_too_many_versions_in_vault_are_found() -> None:
    seen = dataclasses.replace(_seen(accepted=[9]), most_live=3, seen_in_vault={1: 0.0, 2: 11.0, 3: 12.0})
    assert _invariants(ROTATE, seen) == ["I6", "I7"]


def test_states_are_compared_to_the_leaf() -> None:
    before = {"key": {"versions": [1], "ready": True}, "gone": None}
    after = {"key": {"versions": [1, 2], "ready": True}, "gone": {"x": 1}}
    assert list(state.differences(before, after)) == [
        'gone: {"x": 1} instead of null',
        "key.versions: [1, 2] instead of [1]",
    ]
    assert list(state.differences(before, before)) == []


def test_only_what_took_effect_counts_as_created_or_deleted() -> None:
    secrets = "/api/v1/namespaces/ns/secrets/s"
    calls = [
        kube_call("PATCH", secrets, {}, b""),
        kube_call("PATCH", secrets, {}, b""),
        kube_call("DELETE", secrets, {}, b""),
        kube_call("DELETE", secrets, {}, b""),
        vault_call("POST", "/v1/sendward/data/n/k", {}, b""),
        vault_call("POST", "/v1/sendward/data/n/k", {}, b""),
    ]
    for call, status in zip(calls, (201, 200, 200, 404, 200, 400), strict=True):
        call.status = status
    assert state.changes(calls) == {"create secrets": 1, "delete secrets": 1, "write version": 1}


def test_the_operator_is_killed_before_and_after_each_call() -> None:
    assert list(points(2)) == [("before", 1), ("after", 1), ("before", 2), ("after", 2)]
    assert list(points(9, [4])) == [("before", 4), ("after", 4)]


def test_the_table_sums_up() -> None:
    runs = [
        Run("issue", None, 0, calls=2, messages=100),
        Run("issue", "before", 1, kills=1, messages=50, failures=["I5: late"]),
        Run("revoke", None, 0, calls=3, messages=10),
    ]
    rows = [line.split() for line in report.table(runs).splitlines()]
    assert rows[1][:6] == ["issue", "2", "2", "1", "1", "150"]
    assert rows[3][:6] == ["all", "5", "3", "1", "1", "160"]


def test_names_of_scenarios_are_unique() -> None:
    assert len(_BY_NAME) == len(SCENARIOS)
