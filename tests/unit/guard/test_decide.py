"""Decisions: one table a check, and the order of the checks."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendward.document import Account, Gateway, Limit
from sendward.guard.decide import CHECKS, Decision, Now, State, decide
from sendward.guard.limiter import Limiter
from sendward.guard.policy import Policy, gateway_view
from sendward.guard.request import RawRequest
from sendward.protocol import PPM, Portions
from sendward.verdict import Reason, Verdict
from tests.guard import builders

NOW = Now(unix=1_700_000_000, monotonic_ns=0)
HERE = (4, 0x0A000001)
ONE = builders.credential("one")
BODY = {"to": "+447700900123", "from": "ACME", "text": "hello"}


def state(*accounts: Account, gateway: Gateway | None = None, stale: bool = False) -> State:
    policy = Policy()
    policy.set_gateway(gateway_view(gateway or builders.gateway()))
    policy.set_shard(0, builders.shard(*accounts))
    limiter = Limiter()
    limiter.set_shares(0, PPM, {}, Portions(PPM))
    return State(policy, limiter, stale)


def ask(
    of: State,
    credential: builders.Credential = ONE,
    *,
    method: str = "POST",
    target: bytes = b"/v1/messages",
    body: object = BODY,
    source: tuple[int, int] | None = HERE,
    now: Now = NOW,
) -> Decision:
    headers = [(b"x-api-key", credential.value.encode()), (b"content-type", b"application/json")]
    decision = decide(of, RawRequest(method, target, headers, json.dumps(body).encode()), source, now)
    assert isinstance(decision, Decision)
    return decision


def test_a_good_request_passes_with_identity() -> None:
    decision = ask(state(builders.account("acme", builders.key("one"))))
    assert (decision.verdict, decision.reason) == (Verdict.ALLOW, Reason.Allowed)
    assert decision.headers == (("x-sw-account", "acme"), ("x-sw-key", ONE.id), ("x-sw-reason", "SW2000"))
    assert (decision.account_uid, decision.key_uid, decision.cost) == ("account-acme", "key-one", 1)
    assert decision.operation == "send"


def test_no_gateway_part_refuses() -> None:
    assert ask(State(Policy(), Limiter())).reason is Reason.NoDocument


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (state(gateway=builders.gateway(deleted=True)), Reason.GatewayDeleted),
        (state(stale=True), Reason.DocumentStale),
        (state(), Reason.UnknownKey),
        (state(gateway=builders.gateway(shards=2)), Reason.NoDocument),
        (state(gateway=builders.gateway(operations=[])), Reason.UnknownOperation),
    ],
)
def test_document(changed: State, reason: Reason) -> None:
    decision = ask(changed)
    assert (decision.verdict, decision.reason) == (Verdict.DENY, reason)


KEY = builders.key("one")


@pytest.mark.parametrize(
    ("account", "reason"),
    [
        (builders.account("a", builders.key("one", ONE.version(revoked=True))), Reason.KeyRevoked),
        (builders.account("a", builders.key("one", ONE.version(not_after=NOW.unix))), Reason.KeyExpired),
        (builders.account("a", builders.key("one", ONE.version(not_after=NOW.unix + 1))), Reason.Allowed),
        (builders.account("a", KEY, denied=Reason.AccountSuspended.code), Reason.AccountSuspended),
        (builders.account("a", KEY, denied="SW0000"), Reason.AccountInvalid),
        (builders.account("a", builders.key("one", denied=Reason.KeyInvalid.code)), Reason.KeyInvalid),
        (builders.account("a", KEY, cidrs=[["10.0.0.0/8"]]), Reason.Allowed),
        (builders.account("a", KEY, cidrs=[["10.0.0.0/8"], ["10.1.0.0/16"]]), Reason.SourceNotAllowed),
        (builders.account("a", KEY, cidrs=[[]]), Reason.SourceNotAllowed),
        (builders.account("a", KEY, cidrs=[["10.0.0.1/8"]]), Reason.AccountInvalid),
        (builders.account("a", builders.key("one", cidrs=[["10.0.0.2/32"]])), Reason.SourceNotAllowed),
        (builders.account("a", builders.key("one", cidrs=[["nonsense"]])), Reason.KeyInvalid),
        (builders.account("a", builders.key("one", operations=["status"])), Reason.OperationNotAllowed),
        (builders.account("a", builders.key("one", operations=[])), Reason.OperationNotAllowed),
        (builders.account("a", builders.key("one", operations=["send"])), Reason.Allowed),
        (builders.account("a", KEY, sender_ids=["ACME"]), Reason.Allowed),
        (builders.account("a", KEY, sender_ids=["acme"]), Reason.SenderIdNotAllowed),
        (builders.account("a", KEY, sender_ids=[]), Reason.SenderIdNotAllowed),
        (builders.account("a", KEY, limits=[Limit(1, 1, 0)]), Reason.AccountInvalid),
        (builders.account("a", builders.key("one", limits=[Limit(0, 1, 1)])), Reason.KeyInvalid),
    ],
)
def test_account_and_key(account: Account, reason: Reason) -> None:
    assert ask(state(account)).reason is reason


def test_wrong_secret_of_a_known_id_is_unknown() -> None:
    wrong = builders.Credential(ONE.id, builders.credential("two").secret)
    decision = ask(state(builders.account("a", KEY)), wrong)
    assert (decision.reason, decision.account) == (Reason.UnknownKey, "")


def test_both_versions_pass_in_an_overlap() -> None:
    old, new = builders.credential("old"), builders.credential("new")
    judged = state(builders.account("a", builders.key("k", old.version(), new.version())))
    assert [ask(judged, each).verdict for each in (old, new)] == [Verdict.ALLOW] * 2


@pytest.mark.parametrize(
    "second",
    [
        builders.key("other", ONE.version()),  # same id and digest
        builders.key("other", builders.Credential(ONE.id, builders.credential("two").secret).version()),
        builders.key("other", builders.Credential("0000000000", ONE.secret).version()),  # same digest
    ],
)
def test_two_claims_on_an_id_or_digest_refuse_both(second: object) -> None:
    judged = state(builders.account("a", KEY), builders.account("b", second))  # type: ignore[arg-type]
    assert ask(judged).reason is Reason.UnknownKey
    assert ask(judged, builders.Credential("0000000000", ONE.secret)).reason is Reason.UnknownKey
    judged.policy.set_shard(0, builders.shard(builders.account("a", KEY)))
    assert ask(judged).verdict is Verdict.ALLOW


@pytest.mark.parametrize("source", [None, (6, 1), (4, 0x0B000001)])
def test_source_outside_the_gateway(source: tuple[int, int] | None) -> None:
    judged = state(builders.account("a", KEY), gateway=builders.gateway(cidrs=["10.0.0.0/8"]))
    assert ask(judged, source=source).reason is Reason.SourceNotAllowed


def test_unreadable_message_costs_nothing() -> None:
    limited = builders.account("a", KEY, limits=[Limit(1, 60, 1)])
    judged = state(limited)
    assert ask(judged, body={"to": "+447700900123", "from": "ACME"}).reason is Reason.MalformedMessage
    assert ask(judged).verdict is Verdict.ALLOW


def test_limits_of_account_and_key() -> None:
    judged = state(
        builders.account(
            "a",
            builders.key("one", limits=[Limit(1, 60, 1)]),
            builders.key("two"),
            limits=[Limit(1, 60, 2)],
        )
    )
    assert ask(judged).verdict is Verdict.ALLOW
    refused = ask(judged)
    assert (refused.verdict, refused.reason, refused.retry_after) == (Verdict.THROTTLE, Reason.KeyLimit, 60)
    two = builders.credential("two")
    assert ask(judged, two).verdict is Verdict.ALLOW
    assert ask(judged, two).reason is Reason.AccountLimit


def test_bulk_costs_its_recipients_and_status_costs_nothing() -> None:
    judged = state(builders.account("a", KEY, limits=[Limit(1, 60, 5)]))
    assert ask(judged, body={**BODY, "to": ["+447700900123"] * 6}).verdict is Verdict.THROTTLE
    assert ask(judged, body={**BODY, "to": ["+447700900123"] * 5}).cost == 5
    assert ask(judged).verdict is Verdict.THROTTLE
    assert ask(judged, method="GET", target=b"/v1/messages/1").verdict is Verdict.ALLOW


def test_audit_lets_sender_ids_and_limits_pass_and_names_them() -> None:
    judged = state(
        builders.account("a", KEY, sender_ids=["ACME"], limits=[Limit(1, 60, 1)]),
        gateway=builders.gateway(audit=True),
    )
    assert ask(judged, body={**BODY, "from": "Other"}).reason is Reason.SenderIdNotAllowed
    over = ask(judged)
    assert (over.verdict, over.reason) == (Verdict.ALLOW, Reason.AccountLimit)


@pytest.mark.parametrize(
    ("account", "reason"),
    [
        (builders.account("a", builders.key("one", ONE.version(revoked=True))), Reason.KeyRevoked),
        (builders.account("a", KEY, denied=Reason.AccountSuspended.code), Reason.AccountSuspended),
        (builders.account("a", KEY, cidrs=[[]]), Reason.SourceNotAllowed),
        (builders.account("a", builders.key("one", operations=[])), Reason.OperationNotAllowed),
    ],
)
def test_audit_never_covers_identity(account: Account, reason: Reason) -> None:
    assert ask(state(account, gateway=builders.gateway(audit=True))).reason is reason


def test_the_order_is_that_of_the_design() -> None:
    assert [check.__name__ for check in CHECKS] == [
        "check_document",
        "check_parse",
        "check_authentication",
        "check_state",
        "check_source",
        "check_operation",
        "check_message",
        "check_sender_id",
    ]


def test_a_replaced_shard_leaves_nothing_behind() -> None:
    judged = state(builders.account("a", KEY))
    judged.policy.set_shard(0, builders.shard())
    assert ask(judged).reason is Reason.UnknownKey
    assert judged.policy.find(ONE.id) is None


@given(
    st.text(max_size=4),
    st.binary(max_size=40),
    st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=80)), max_size=3),
    st.binary(max_size=60),
)
def test_no_request_passes_by_chance_or_raises(
    method: str, target: bytes, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    judged = state(builders.account("a", KEY))
    decision = decide(judged, RawRequest(method, target, headers, body), HERE, NOW)
    assert isinstance(decision, Decision)
    assert decision.verdict is Verdict.DENY
