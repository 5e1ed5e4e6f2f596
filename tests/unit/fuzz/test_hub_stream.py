"""Hostile frames on a stream of the hub: that stream ends, and the other guards go on."""

from __future__ import annotations

from contextlib import suppress

import pytest
from aiohttp import ClientError

from tests.unit.controller.conftest import tls, world
from tests.unit.controller.hub_world import GATEWAY, World, envelope

__all__ = ["tls", "world"]  # fixtures

FRAMES: dict[str, bytes] = {
    "above 4 MiB": b'{"type":"Report","demand":{"' + b"a" * (5 * 2**20) + b'":1},"last_used":{}}',
    "deep": b'{"type":"Report","demand":{},"last_used":{},"x":' + b"[" * 100_000,
    "binary": bytes(range(256)) * 100,
    "no UTF-8": b'{"type":"Nack","part":"\xff","epoch":1,"revision":1,"message":""}',
    "a lone surrogate": b'{"type":"Nack","part":"\\ud800","epoch":1,"revision":1,"message":""}',
    "a wrong type": b'{"type":"Report","demand":{"acme":"many"},"last_used":{}}',
    "a list": b"[]",
    "a second Hello": b'{"type":"Hello","formats":[1],"highest_epoch":1,"parts":{}}',
    "a message of the hub": b'{"type":"Shares","round":1,"default":1000000,"subjects":{}}',
    "an unknown message": b'{"type":"Shutdown"}',
    "an empty frame": b"",
}


@pytest.mark.parametrize("case", FRAMES)
async def test_a_hostile_frame_ends_its_own_stream_only(world: World, case: str) -> None:
    hostile, other = world.view.add("hostile"), world.view.add("other")
    async with world.guard(hostile) as evil, world.guard(other) as honest:
        await evil.hello()
        await honest.hello()
        await world.until(lambda: len(world.hub.guards(GATEWAY)) == 2)
        with suppress(ClientError, ConnectionError):  # the hub may have enough before its end
            await evil.stream.send_bytes(FRAMES[case])
        assert await evil.closed() in {"Malformed", "Disconnected", ""}
        await world.until(lambda: not world.hub.guards(GATEWAY)[hostile.uid].connected)
        world.hub.publish(GATEWAY, {"0": envelope("0", 1)})
        assert (await honest.take()).part == "0"
