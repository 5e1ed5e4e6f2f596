"""Damaged requests at the server's bytes: each gets an answer or an end, and none is a bug of ours."""

from __future__ import annotations

import asyncio
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from sendward.guard.decide import State
from sendward.guard.limiter import Limiter
from sendward.guard.metrics import Metrics
from sendward.guard.policy import Policy, gateway_view
from sendward.guard.server import AuthProtocol, Judge
from sendward.guard.usage import Usage
from sendward.verdict import Reason
from tests.fakes.counters import FakeCounters
from tests.guard import builders

BODY = json.dumps({"to": "+447700900123", "from": "ACME", "text": "hello"}).encode()
WIRE = (
    b"POST /v1/messages HTTP/1.1\r\nhost: guard\r\nx-sw-source: 10.0.0.1\r\n"
    b"content-type: application/json\r\nauthorization: Bearer %s\r\ncontent-length: %d\r\n\r\n%s"
) % (builders.credential("one").value.encode(), len(BODY), BODY)


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


def answers(raw: bytes) -> bytes:
    policy = Policy()
    policy.set_gateway(gateway_view(builders.gateway()))
    policy.set_shard(0, builders.shard(builders.account("acme", builders.key("one"))))
    judge = Judge(State(policy, Limiter()), Usage(), Metrics("sms"), FakeCounters())
    wire, protocol = Wire(), AuthProtocol(judge, set())
    protocol.connection_made(wire)
    protocol.data_received(raw)
    return wire.written


def test_the_undamaged_request_passes() -> None:
    assert answers(WIRE).startswith(b"HTTP/1.1 200 ")


pieces = st.sampled_from(
    [b"", b"\r\n", b",", b"%2f", b"\x00", b'"', b"[", b"{", b"swk_", b"\xff", b"\r\n\r\n"]
)


@settings(max_examples=400)
@given(st.lists(st.tuples(st.integers(0, len(WIRE)), st.integers(0, 12), pieces), min_size=1, max_size=4))
def test_damaged_requests(damage: list[tuple[int, int, bytes]]) -> None:
    raw = WIRE
    for at, length, piece in damage:
        raw = raw[:at] + piece + raw[at + length :]
    assert Reason.InternalError.code.encode() not in answers(raw)
