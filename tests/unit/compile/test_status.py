from datetime import UTC, datetime, timedelta

from sendward.compile.status import Finding, conditions, programmed
from sendward.conditions import ConditionType, Reason
from sendward.graph.problems import Problem
from sendward.resources.status import Condition

THEN = datetime(2026, 1, 1, tzinfo=UTC)
NOW = THEN + timedelta(hours=1)
DONE = programmed(Reason.PROGRAMMED, "")
PENDING = programmed(Reason.PENDING, "waits")
DANGLING = Problem(ConditionType.RESOLVED_REFS, Reason.NOT_FOUND, "spec.account", "is missing")


def _short(found: list[Condition]) -> dict[str, tuple[str, str]]:
    return {condition.type: (condition.status, condition.reason) for condition in found}


def test_all_is_well() -> None:
    assert _short(conditions([], 3, NOW, [], DONE)) == {
        "Accepted": ("True", "Accepted"),
        "ResolvedRefs": ("True", "Resolved"),
        "Programmed": ("True", "Programmed"),
        "Ready": ("True", "Ready"),
    }


def test_a_fault_of_the_user_stalls() -> None:
    found = conditions([], 3, NOW, [DANGLING], DONE)
    assert _short(found)["Ready"] == ("False", "NotFound")
    assert _short(found)["Stalled"] == ("True", "NotFound")
    assert "Reconciling" not in _short(found)
    assert found[1].message == "spec.account: is missing"


def test_what_is_under_way_reconciles() -> None:
    found = _short(conditions([], 3, NOW, [], PENDING))
    assert found["Reconciling"] == ("True", "Progressing")
    assert found["Ready"] == ("False", "Pending")
    assert "Stalled" not in found


def test_a_held_key_waits_for_the_user() -> None:
    assert _short(conditions([], 3, NOW, [], programmed(Reason.KEY_HELD, "")))["Stalled"] == (
        "True",
        "KeyHeld",
    )


def test_policies_are_not_programmed() -> None:
    assert "Programmed" not in _short(conditions([], 3, NOW, [], None))


def test_times_stay_while_the_status_stays() -> None:
    before = conditions([], 3, THEN, [], PENDING)
    after = {c.type: c for c in conditions(before, 4, NOW, [], DONE)}
    assert after["Accepted"].last_transition_time == THEN
    assert after["Programmed"].last_transition_time == NOW
    assert {c.observed_generation for c in after.values()} == {4}
    assert "Reconciling" not in after
    same = conditions(before, 3, NOW, [], programmed(Reason.NO_SIDECARS, "other"))
    assert {c.last_transition_time for c in same} == {THEN}


def test_extra_conditions_do_not_change_ready() -> None:
    extra = Finding(ConditionType.REVOKED, "False", Reason.REVOCATION_PENDING, "x" * 5000)
    found = conditions([], 3, NOW, [], DONE, [extra])
    assert _short(found)["Ready"] == ("True", "Ready")
    assert len(found[-1].message) == 1024
