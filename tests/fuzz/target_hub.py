"""Messages of one hostile guard to the hub, one a line: another guard of the gateway notices nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import msgspec

from sendward import document
from sendward.controller.hub_state import GatewayState, highest_epoch
from sendward.document import Shard
from sendward.graph.facts import Pod
from sendward.protocol import (
    MAX_MESSAGE_BYTES,
    PPM,
    Ack,
    GuardMessage,
    Hello,
    HubMessage,
    Nack,
    Report,
    SharesAck,
)
from tests.guard import builders

_NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
_EVIL = Pod("evil", "tenant", "gw-1", "gw", ready=True, terminating=False, injected=True)
_HONEST = replace(_EVIL, uid="honest", name="gw-2")
_PART = document.seal(builders.SIGNER, builders.GATEWAY_UID, "0", 1, 1, document.compress(Shard([])))
_HELLO = Hello([document.FORMAT], 1, {})


def hub(data: bytes) -> None:
    """One stream."""
    state = GatewayState()
    state.publish({"0": _PART}, [])
    state.hello(_HONEST, _HELLO, _NOW)
    greeted = False
    for number, line in enumerate(data.split(b"\n")[:50]):
        try:
            message = msgspec.json.decode(line, type=GuardMessage)
        except (ValueError, RecursionError):
            break
        if isinstance(message, Hello) is greeted or (
            isinstance(message, Hello) and highest_epoch(message) is None
        ):
            break
        greeted = True
        _hear(state, message, float(number))
        _look(state)
    if greeted:
        state.disconnect("evil", _NOW)
    state.sweep({"evil", "honest"}, 60, _NOW, _NOW)
    _look(state)


def _hear(state: GatewayState, message: GuardMessage, moment: float) -> None:
    match message:
        case Hello():
            state.hello(_EVIL, message, _NOW)
        case Ack():
            state.acknowledge("evil", message)
        case Nack():
            state.refuse("evil", message)
        case SharesAck():
            state.shares.acknowledge("evil", message.round)
        case Report():
            state.report("evil", message, _NOW, moment)


def _look(state: GatewayState) -> None:
    """As the hub does each second: it gives away at most the whole, in frames of bounded size."""
    state.shares.retarget()
    given = 0
    for guard, message in state.shares.due().items():
        frame = msgspec.json.encode(message)
        assert len(frame) < MAX_MESSAGE_BYTES
        assert msgspec.json.decode(frame, type=HubMessage) == message
        assert all(0 <= share <= PPM for share in (message.default, *message.subjects.values()))
        given += message.default
        if guard == "honest":
            state.shares.acknowledge("honest", message.round)
    assert given <= PPM
    state.ahead("honest")
    state.facts()
    assert all(
        len(version) <= 64 and 0 <= used <= _NOW.timestamp() for version, used in state.last_used.items()
    )
