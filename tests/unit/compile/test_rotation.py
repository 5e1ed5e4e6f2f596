from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendward.compile import rotation
from sendward.resources.api_key import APIKeySpec
from sendward.resources.api_key_policy import APIKeyPolicySpec
from sendward.resources.status import APIKeyStatus, KeyVersion

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def version(number: int, state: Any, age_days: float = 0) -> KeyVersion:
    return KeyVersion(
        number=number, id=f"v{number}", state=state, issued_at=NOW - age_days * DAY, vault_version=number
    )


def _given(policy: dict[str, Any], *versions: KeyVersion, nonce: str = "", last: str = "") -> rotation.Input:
    return rotation.Input(
        "uid",
        APIKeySpec(account="a", rotate_nonce=nonce),
        APIKeyPolicySpec.model_validate(policy),
        APIKeyStatus(versions=list(versions), rotate_nonce=last),
        NOW,
    )


EVERY = {"rotation": {"every": "30d", "overlap": "1d", "jitterPercent": 0}}
AGE = {"rotation": {"overlap": "1d"}, "maximumAge": "30d"}
CURRENT = version(1, "Current")


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        pytest.param(_given({}), "Issued", id="never issued"),
        pytest.param(_given({}, CURRENT), None, id="nothing to do"),
        pytest.param(_given({}, version(1, "Revoked")), "Compromise", id="reissue"),
        pytest.param(_given({"onCompromise": "Hold"}, version(1, "Revoked")), None, id="held"),
        pytest.param(
            _given({"onCompromise": "Hold"}, version(1, "Revoked"), nonce="x"),
            "Compromise",
            id="held, then asked",
        ),
        pytest.param(_given({}, CURRENT, nonce="x"), "Nonce", id="nonce"),
        pytest.param(_given({}, CURRENT, nonce="x", last="x"), None, id="nonce that was served"),
        pytest.param(_given({}, CURRENT, nonce="", last="x"), None, id="an empty nonce asks for nothing"),
        pytest.param(
            _given({}, version(1, "Previous"), version(2, "Current"), nonce="x"), None, id="overlap"
        ),
        pytest.param(_given(EVERY, version(1, "Current", 29.9)), None, id="not yet due"),
        pytest.param(_given(EVERY, version(1, "Current", 30)), "Schedule", id="due"),
        pytest.param(
            _given(EVERY, version(1, "Previous", 60), version(2, "Current", 31)), None, id="due, overlap"
        ),
        pytest.param(_given(AGE, version(1, "Current", 28.9)), None, id="young enough"),
        pytest.param(_given(AGE, version(1, "Current", 29)), "MaximumAge", id="an overlap before its age"),
        pytest.param(
            _given(EVERY, version(1, "Current", 31), nonce="x"), "Nonce", id="the first check names it"
        ),
    ],
)
def test_why_a_version_is_issued(case: rotation.Input, expected: str | None) -> None:
    assert rotation.reason(case) == expected


@given(uid=st.uuids().map(str), number=st.integers(1, 1000), percent=st.integers(0, 50))
def test_jitter_is_stable_and_within_its_bounds(uid: str, number: int, percent: int) -> None:
    policy = {"rotation": {"every": "100d", "overlap": "1d", "jitterPercent": percent}}
    case = _given(policy, version(number, "Current"))
    case = rotation.Input(uid, case.spec, case.policy, case.status, case.now)
    due = rotation.next_rotation(case)
    assert due is not None
    assert NOW + (100 - percent) * DAY <= due <= NOW + 100 * DAY
    assert rotation.next_rotation(case) == due


def test_jitter_differs_between_keys() -> None:
    case = _given({"rotation": {"every": "100d", "jitterPercent": 50}}, CURRENT)
    dues = {
        rotation.next_rotation(rotation.Input(f"uid-{n}", case.spec, case.policy, case.status, NOW))
        for n in range(50)
    }
    assert len(dues) > 45


def test_next_rotation_is_the_sooner_of_schedule_and_age() -> None:
    policy = {"rotation": {"every": "30d", "overlap": "1d", "jitterPercent": 0}, "maximumAge": "20d"}
    assert rotation.next_rotation(_given(policy, CURRENT)) == NOW + 19 * DAY
    assert rotation.next_rotation(_given({}, CURRENT)) is None
