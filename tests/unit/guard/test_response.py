"""Every refusal is a problem with its code, its status as Envoy needs it, and advice of its own."""

from __future__ import annotations

import json

import pytest

from sendward import names
from sendward.guard.decide import Decision
from sendward.guard.response import response
from sendward.verdict import Reason, Verdict

REFUSALS = [reason for reason in Reason if reason is not Reason.Allowed]


@pytest.mark.parametrize("reason", REFUSALS, ids=lambda reason: reason.name)
def test_a_refusal_says_what_to_do(reason: Reason) -> None:
    head, _, body = response(Decision(Verdict.DENY, reason), None).partition(b"\r\n\r\n")
    told = json.loads(body)
    assert (told["code"], told["status"], told["title"]) == (reason.code, reason.status, reason.title)
    assert told["detail"] not in ("", reason.title)
    status = names.STATUS_UNAVAILABLE if reason.status == 503 else reason.status
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert f"{names.HEADER_REASON}: {reason.code}".encode() in head.split(b"\r\n")


def test_who_is_refused_for_want_of_counters_may_try_again() -> None:
    answer = response(Decision(Verdict.DENY, Reason.LimitsUnavailable), None)
    assert answer.startswith(b"HTTP/1.1 490 Service Unavailable\r\n")
    assert b"\r\nretry-after: 1\r\n" in answer
