"""What no limit reaches: operations that submit no message, and only those."""

from __future__ import annotations

import pytest

from sendward.document import Limit
from sendward.resources.base import Invalid
from sendward.resources.parse import parse
from sendward.verdict import Reason, Verdict
from tests.crds.cases import GATEWAY, changed
from tests.guard import builders
from tests.unit.guard.test_decide import ask, state

MESSAGES: tuple[object, ...] = (
    {},
    {"senderID": {"jsonPointer": "/from"}},
    {"text": {"jsonPointer": "/text"}},
    {"recipient": {}},
)


@pytest.mark.parametrize("message", MESSAGES)
def test_an_operation_that_submits_a_message_says_where_its_recipient_stands(message: object) -> None:
    """So what counts for a destination, and how many messages a request is, can always be read."""
    assert isinstance(parse(changed(GATEWAY, {"http.operations.0.message": message})), Invalid)


def test_limits_count_every_message_and_nothing_else() -> None:
    judged = state(builders.account("a", builders.key("one"), limits=[Limit(1, 60, 1)]))
    assert ask(judged).verdict is Verdict.ALLOW
    assert ask(judged).reason is Reason.AccountLimit
    asked = [ask(judged, method="GET", target=b"/v1/messages/1") for _ in range(3)]
    assert [(decision.verdict, decision.cost) for decision in asked] == [(Verdict.ALLOW, 0)] * 3


def test_a_key_that_may_only_send_has_no_operation_without_limits() -> None:
    """The way to close what is not limited, for an account that must not have it."""
    judged = state(builders.account("a", builders.key("one", operations=["send"]), limits=[Limit(1, 60, 1)]))
    assert ask(judged, method="GET", target=b"/v1/messages/1").reason is Reason.OperationNotAllowed
