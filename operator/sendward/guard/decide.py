"""The decision: pure functions over an ordered list of named checks.

A check returns the reason why the request must not pass, or None. The first reason wins. The order is
that of the design: parse, authenticate, account and key state, source, operation, sender id, limits.
The body is read only for authenticated senders within their scope, so that nobody else can make the
guard work on it.

What passes all checks is charged last, since that consumes: by this guard's own counters at once, or by
those that all guards share, whose answer takes a while. So `decide` either concludes, or leaves that to
whoever asked the shared counters.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from msgspec import Struct

from sendward import keyformat, names
from sendward.guard import request as http
from sendward.guard.limiter import Admission, Limiter, Limits
from sendward.guard.policy import Entry, GatewayView, Policy
from sendward.guard.request import Message, RawRequest, Request, Source
from sendward.verdict import Reason, Verdict

# No secret has it as digest; an unknown id is compared with it, to take the same path as a known one.
_NO_DIGEST: Final = b"-" * 64


class Now(NamedTuple):
    """One instant on both clocks: Unix seconds for what is written down, nanoseconds for limits."""

    unix: int
    monotonic_ns: int


@dataclass(slots=True)
class State:
    """What a decision rests on. `stale`: the hub was not heard of for longer than the gateway allows.

    `term`: of the shared counters by which to limit instead of `limiter`; "": by `limiter`.
    """

    policy: Policy
    limiter: Limiter
    stale: bool = False
    term: str = ""


class Decision(Struct, frozen=True):
    """The answer to one request. Names are empty where the request did not get that far.

    `reason` of an allowed request names the check that only audits and would have refused it.
    `cost` is the number of messages that were held against the limits, also if they were refused.
    """

    verdict: Verdict
    reason: Reason
    account: str = ""
    account_uid: str = ""
    key_uid: str = ""
    key_version: str = ""
    operation: str = ""
    cost: int = 0
    retry_after: int = 0

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Headers for the application, on an allowed request."""
        return (
            (names.HEADER_ACCOUNT, self.account),
            (names.HEADER_KEY, self.key_version),
            (names.HEADER_REASON, self.reason.code),
        )


class Case:
    """What is known of one request so far; each check adds to it."""

    __slots__ = (
        "audited", "cost", "entry", "gateway", "message", "now", "raw", "request",
        "retry_after", "source", "state",
    )  # fmt: skip

    gateway: GatewayView
    request: Request
    entry: Entry | None
    message: Message

    def __init__(self, state: State, raw: RawRequest, source: Source | None, now: Now) -> None:
        self.state = state
        self.raw = raw
        self.source = source
        self.now = now
        self.entry = None
        self.audited: Reason | None = None
        self.cost = 0
        self.retry_after = 0

    @property
    def authenticated(self) -> Entry:
        """The key version; set by `check_authentication`."""
        assert self.entry is not None  # noqa: S101  the order of CHECKS sees to it
        return self.entry

    @property
    def wanted(self) -> tuple[tuple[str, Limits], tuple[str, Limits]]:
        """Whose limits are charged: the account's and the key's."""
        entry = self.authenticated
        return (entry.account.uid, entry.account.limits), (entry.key_uid, entry.limits)

    @property
    def audits(self) -> bool:
        """No limit refuses."""
        return self.gateway.audit

    @property
    def is_limited(self) -> bool:
        """Whether there is anything to charge."""
        return any(limits for _, limits in self.wanted)

    @property
    def is_enforced(self) -> bool:
        """Whether any limit may refuse the request."""
        return not self.audits and any(not limit.audit for _, limits in self.wanted for limit in limits)


def check_document(case: Case) -> Reason | None:
    """A gateway part is in force, recent enough, and not that of a deleted gateway."""
    gateway = case.state.policy.gateway
    if gateway is None:
        return Reason.NoDocument
    case.gateway = gateway
    if gateway.deleted:
        return Reason.GatewayDeleted
    return Reason.DocumentStale if case.state.stale else None


def check_parse(case: Case) -> Reason | None:
    """Path and method are sound and name an operation."""
    found = http.parse(case.raw, case.gateway.operations)
    if isinstance(found, Reason):
        return found
    case.request = found
    return None


def check_authentication(case: Case) -> Reason | None:
    """Exactly one key, whose id is known and whose secret has the published digest."""
    found = http.credential(case.raw.headers)
    if isinstance(found, Reason):
        return found
    key_id, secret = found
    policy = case.state.policy
    entry = policy.find(key_id)
    expected = _NO_DIGEST if entry is None else entry.digest
    same = hmac.compare_digest(keyformat.digest(secret).encode(), expected)
    if entry is None:
        # While a shard is missing, an unknown id may well be a good one.
        return Reason.NoDocument if policy.missing else Reason.UnknownKey
    if not same:
        return Reason.UnknownKey
    case.entry = entry
    return None


def check_state(case: Case) -> Reason | None:
    """The key version is alive, and neither its account nor its key is denied."""
    entry = case.authenticated
    if entry.revoked:
        return Reason.KeyRevoked
    if entry.not_after is not None and case.now.unix >= entry.not_after:
        return Reason.KeyExpired
    return entry.account.denied or entry.denied


def check_source(case: Case) -> Reason | None:
    """The client's address is in the networks of gateway, account and key."""
    source = case.source
    if source is None or source not in case.gateway.networks:
        return Reason.SourceNotAllowed
    for networks in case.authenticated.networks:
        if source not in networks:
            return Reason.SourceNotAllowed
    return None


def check_operation(case: Case) -> Reason | None:
    """The key covers the operation."""
    operations = case.authenticated.operations
    if operations is None or case.request.operation.name in operations:
        return None
    return Reason.OperationNotAllowed


def check_message(case: Case) -> Reason | None:
    """Recipients, sender id and text can be read where the operation declares them."""
    found = http.message(case.request)
    if isinstance(found, Reason):
        return found
    case.message = found
    return None


def check_sender_id(case: Case) -> Reason | None:
    """The account owns the sender id. Audited under `mode: Audit`."""
    owned = case.authenticated.account.sender_ids
    sender_id = case.message.sender_id
    if owned is None or sender_id is None or sender_id in owned:
        return None
    if case.gateway.audit:
        case.audited = Reason.SenderIdNotAllowed
        return None
    return Reason.SenderIdNotAllowed


_LIMIT_REASONS: Final = (Reason.AccountLimit, Reason.KeyLimit)

CHECKS: Final[tuple[Callable[[Case], Reason | None], ...]] = (
    check_document,  # without policy nothing can be judged
    check_parse,  # cheap; path and method only
    check_authentication,  # from here on the sender is known
    check_state,  # revocation and suspension before anything else of the account
    check_source,
    check_operation,
    check_message,  # the first look at the body
    check_sender_id,
)


def decide(state: State, raw: RawRequest, source: Source | None, now: Now) -> Decision | Case:
    """Judge one request; changes nothing but this guard's own counters. A Case: all but its limits is
    judged, and these are to be charged to the shared counters of the term; then `conclude` decides.
    """
    case = Case(state, raw, source, now)
    for check in CHECKS:
        reason = check(case)
        if reason is not None:
            return _decision(case, Verdict.DENY, reason)
    case.cost = case.message.cost
    if not case.cost:
        return _decision(case, Verdict.ALLOW, case.audited or Reason.Allowed)
    if case.is_limited:
        if state.term:
            return case
        if case.gateway.counted and not state.limiter.has_share:  # between a term and shares, or before both
            return conclude(case, None)
    return conclude(case, state.limiter.admit(now.monotonic_ns, case.wanted, case.cost, audit=case.audits))


def conclude(case: Case, admission: Admission | None) -> Decision:
    """The decision once the limits were charged. None: they could not be, and those that only audit let
    the request pass.
    """
    if admission is None:
        if not case.is_enforced:
            return _decision(case, Verdict.ALLOW, case.audited or Reason.LimitsUnavailable)
        return _decision(case, Verdict.DENY, Reason.LimitsUnavailable)
    if admission.refused is not None:
        case.retry_after = admission.retry_after
        return _decision(case, Verdict.THROTTLE, _LIMIT_REASONS[admission.refused])
    if admission.audited is not None and case.audited is None:
        case.audited = _LIMIT_REASONS[admission.audited]
    return _decision(case, Verdict.ALLOW, case.audited or Reason.Allowed)


def _decision(case: Case, verdict: Verdict, reason: Reason) -> Decision:
    entry = case.entry
    if entry is None:
        return Decision(verdict, reason)
    return Decision(
        verdict=verdict,
        reason=reason,
        account=entry.account.name,
        account_uid=entry.account.uid,
        key_uid=entry.key_uid,
        key_version=entry.id,
        operation=case.request.operation.name,
        cost=case.cost,
        retry_after=case.retry_after,
    )
