"""When a server certificate is issued anew."""

from datetime import UTC, datetime, timedelta

import pytest

from sendward.compile.certificates import Held, must_issue, renewal, request_hash
from sendward.resources.messaging_gateway import VaultPKISpec

START = datetime(2026, 3, 1, tzinfo=UTC)
LIFE = timedelta(hours=24)
SPEC = VaultPKISpec.model_validate({"dnsNames": ["sms.example"], "duration": "24h"})
HELD = Held(request_hash(SPEC), START, START + LIFE)


def test_renewal_is_at_two_thirds_of_the_life() -> None:
    assert renewal(HELD) == START + timedelta(hours=16)


@pytest.mark.parametrize(
    ("age", "due"),
    [
        (timedelta(0), False),
        (timedelta(hours=15, minutes=59), False),
        (timedelta(hours=16), True),
        (timedelta(hours=25), True),
    ],
)
def test_due_by_age(age: timedelta, due: bool) -> None:
    assert must_issue(SPEC, HELD, START + age) is due


def test_due_when_none_is_held() -> None:
    assert must_issue(SPEC, None, START)


@pytest.mark.parametrize("change", [{"dnsNames": ["other.example"]}, {"duration": "48h"}])
def test_due_when_another_one_is_asked_for(change: dict[str, object]) -> None:
    other = VaultPKISpec.model_validate({"dnsNames": ["sms.example"], "duration": "24h"} | change)
    assert must_issue(other, HELD, START)
