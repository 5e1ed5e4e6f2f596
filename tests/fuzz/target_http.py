"""Bytes on the guard's socket: an answer or an end, and nobody passes without a living key.

The first byte is the length of the pieces in which the rest arrives; 0: in one.
"""

from __future__ import annotations

import asyncio
import re

from sendward.guard.decide import State
from sendward.guard.limiter import Limiter
from sendward.guard.metrics import Metrics
from sendward.guard.policy import Policy, gateway_view
from sendward.guard.server import AuthProtocol, Judge
from sendward.guard.usage import Usage
from sendward.verdict import Reason
from tests.fakes.counters import FakeCounters
from tests.fuzz.choices import Choices
from tests.guard import builders

ALIVE = builders.credential("one").value.encode()
_METRICS = Metrics("sms")
_ANSWER = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")


def _policy() -> Policy:
    policy = Policy()
    policy.set_gateway(gateway_view(builders.gateway()))
    revoked = builders.credential("revoked").version(revoked=True)
    expired = builders.credential("expired").version(not_after=1)
    policy.set_shard(
        0,
        builders.shard(
            builders.account("acme", builders.key("one"), sender_ids=["ACME"]),
            builders.account("globex", builders.key("gone", revoked), builders.key("old", expired)),
            builders.account("evil", builders.key("denied"), denied=Reason.AccountSuspended.code),
        ),
    )
    return policy


_POLICY = _policy()


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def http(data: bytes) -> None:
    """One connection of Envoy."""
    choices = Choices(data)
    length = choices.number(256)
    raw = choices.rest()
    usage = Usage()
    protocol, wire = (
        AuthProtocol(Judge(State(_POLICY, Limiter()), usage, _METRICS, FakeCounters()), set()),
        Wire(),
    )
    protocol.connection_made(wire)
    for start in range(0, len(raw), length or len(raw) or 1):
        if not wire.closed:
            protocol.data_received(raw[start : start + (length or len(raw))])
    allowed = [status for status in _ANSWER.findall(wire.written) if status == b"200"]
    assert Reason.InternalError.code.encode() not in wire.written
    assert not allowed or ALIVE in raw
    assert not wire.written or _ANSWER.match(wire.written)
    assert set(usage.take().demand) <= {"account-acme", "key-one"}
