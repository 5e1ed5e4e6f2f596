"""How Redis is asked about limits, and what is taken for an answer."""

import pytest

from sendward.document import Limit
from sendward.guard import counters_script as script
from sendward.guard.counters_script import UnreadableError
from sendward.guard.limiter import ADMITTED, Admission

LIMITS = [Limit(10, 60, 20), Limit(5, 1, 5, audit=True)]


def test_a_request_names_only_keys_of_its_gateway_in_one_slot() -> None:
    call = script.admit("g", "t", "p", [("a", LIMITS), ("none", []), ("k", LIMITS[:1])], 3, audit=False)
    assert call is not None
    assert call.keys == ("sendward:{g}:term", "sendward:{g}:a", "sendward:{g}:k")
    assert " ".join(call.arguments) == "admit t p 3 2 10 60 20 0 5 1 5 1 1 10 60 20 0"


def test_what_has_no_limits_is_not_asked() -> None:
    assert script.admit("g", "t", "p", [("a", []), ("k", [])], 1, audit=False) is None


def test_positions_are_those_of_the_subjects_asked_for() -> None:
    call = script.admit("g", "t", "p", [("none", []), ("k", LIMITS)], 1, audit=True)
    assert call is not None
    assert script.admission(call, [0, 0, 0]) == ADMITTED
    assert script.admission(call, [1, 7, 0]) == Admission(refused=1, retry_after=7)
    assert script.admission(call, [0, 0, 1]) == Admission(audited=1)
    assert script.admission(call, [1, 7, 1]) == Admission(refused=1, retry_after=7, audited=1)


@pytest.mark.parametrize(
    "reply",
    [None, b"OK", 1, [], [0, 0], [0, 0, 0, 0], [0, 0, b"0"], [2, 1, 0], [-1, 1, 0], [0, 0, 9], [[], 0, 0]],
)
def test_anything_else_is_no_answer(reply: object) -> None:
    call = script.admit("g", "t", "p", [("k", LIMITS)], 1, audit=False)
    assert call is not None
    with pytest.raises(UnreadableError):
        script.admission(call, reply)
