"""The hub on a loopback socket: who may connect, what is streamed, what is remembered."""

from __future__ import annotations

import time
from dataclasses import replace

import aiohttp
import pytest

from sendward.controller import hub_session
from sendward.document import Envelope
from sendward.graph.facts import Pod
from sendward.protocol import Ack, Have, Nack, Report
from tests.fakes.guard import FakeGuard, jwt
from tests.unit.controller.hub_world import GATEWAY, TRUST, World, envelope, have


async def refusal(world: World, token: str) -> int:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with FakeGuard(world.hub.port, token, TRUST):
            pass
    return caught.value.status


async def test_parts_go_to_a_guard_that_has_nothing_the_gateway_first(world: World) -> None:
    world.hub.publish(GATEWAY, {"0": envelope("0", 1), "gateway": envelope("gateway", 2)})
    async with world.guard(world.view.add("pod")) as guard:
        await guard.hello()
        assert [(await guard.next_envelope()).part for _ in range(2)] == ["gateway", "0"]


async def test_only_parts_that_differ_are_sent(world: World) -> None:
    same, other = envelope("0", 1), envelope("1", 2)
    world.hub.publish(GATEWAY, {"0": same, "1": other})
    async with world.guard(world.view.add("pod")) as guard:
        await guard.hello(have(same) | have(envelope("1", 1)))
        assert await guard.next_envelope() == other
        world.hub.publish(GATEWAY, {"0": same})
        world.hub.publish(GATEWAY, {"0": envelope("0", 3)})
        assert (await guard.next_envelope()).revision == 3


async def test_a_publication_reaches_all_guards_of_the_gateway_and_no_other(world: World) -> None:
    pods = [world.view.add("a"), world.view.add("b"), world.view.add("c", "other")]
    async with world.guard(pods[0]) as one, world.guard(pods[1]) as two, world.guard(pods[2]) as foreign:
        for guard in (one, two, foreign):
            await guard.hello()
        await world.until(lambda: len(world.hub.guards(GATEWAY)) == 2 and "uid-tenant-other" in world.changes)
        world.hub.publish(GATEWAY, {"0": envelope("0", 1)})
        own = envelope("0", 9, gateway="uid-tenant-other")
        world.hub.publish("uid-tenant-other", {"0": own})
        assert (await one.next_envelope()).gateway == (await two.next_envelope()).gateway == GATEWAY
        assert await foreign.next_envelope() == own
        assert not any("uid-c" in world.hub.guards(uid) for uid in (GATEWAY,))


async def test_a_pod_of_the_same_name_elsewhere_gets_its_own_gateway(world: World) -> None:
    world.hub.publish(GATEWAY, {"0": envelope("0", 1)})
    stranger = world.view.add("pod", namespace="elsewhere")
    world.view.add("pod")
    own = envelope("0", 1, gateway="uid-elsewhere-gw")
    world.hub.publish("uid-elsewhere-gw", {"0": own})
    async with world.guard(stranger) as guard:
        await guard.hello()
        assert await guard.next_envelope() == own


# --- who may connect ----------------------------------------------------------------------------


async def test_a_forged_token_is_refused(world: World) -> None:
    pod = world.view.add("pod")
    assert await refusal(world, jwt(pod.uid, time.time() + 600)) == 401


@pytest.mark.parametrize("token", ["", "abc", "a.b.c", "a.e30.c", "a.bm9uZQ.c"])
async def test_what_is_no_token_is_refused_without_a_review(world: World, token: str) -> None:
    assert await refusal(world, token) == 401
    assert world.tokens.reviews == 0


async def test_an_expired_token_is_refused_without_a_review(world: World) -> None:
    assert await refusal(world, world.token(world.view.add("pod"), seconds=-7300)) == 401
    assert world.tokens.reviews == 0


async def test_an_unbound_token_is_refused(world: World) -> None:
    assert await refusal(world, world.token(world.view.add("pod"), bound=False)) == 403


async def test_another_audience_is_refused(world: World) -> None:
    assert await refusal(world, world.token(world.view.add("pod"), audience="vault")) == 401


async def test_the_token_of_a_deleted_pod_is_refused(world: World) -> None:
    pod = world.view.add("pod")
    token = world.token(pod)
    world.view.remove(pod)
    assert await refusal(world, token) == 403


async def test_the_token_of_an_earlier_pod_of_that_name_is_refused(world: World) -> None:
    token = world.token(Pod("uid-earlier", "tenant", "pod", "gw", True, False, True))
    world.view.add("pod")
    assert await refusal(world, token) == 403


@pytest.mark.parametrize("change", [{"terminating": True}, {"injected": False}])
async def test_a_terminating_or_foreign_pod_is_refused(world: World, change: dict[str, bool]) -> None:
    pod = world.view.add("pod")
    world.view.change(pod, **change)
    assert await refusal(world, world.token(pod)) == 403


async def test_a_pod_of_no_gateway_is_refused(world: World) -> None:
    assert await refusal(world, world.token(world.view.add("pod", "missing"))) == 403


async def test_a_user_that_is_no_service_account_is_refused(world: World) -> None:
    token = world.token(world.view.add("pod"))
    status = world.tokens.known[token]
    world.tokens.known[token] = type(status)(True, "admin", status.audiences, status.extra)
    assert await refusal(world, token) == 403


async def test_a_standby_answers_503(world: World) -> None:
    world.serving = False
    assert await refusal(world, world.token(world.view.add("pod"))) == 503
    assert world.tokens.reviews == 0


async def test_without_the_api_server_nobody_is_believed(world: World) -> None:
    world.tokens.down = True
    assert await refusal(world, world.token(world.view.add("pod"))) == 503


# --- how streams end ----------------------------------------------------------------------------


async def test_the_stream_ends_with_the_token(world: World) -> None:
    async with FakeGuard(world.hub.port, world.token(world.view.add("pod"), seconds=2), TRUST) as guard:
        await guard.hello()
        assert await guard.closed() == "TokenExpired"


async def test_the_stream_ends_when_the_pod_is_gone(world: World) -> None:
    pod = world.view.add("pod")
    async with world.guard(pod) as guard:
        await guard.hello()
        await world.until(lambda: pod.uid in world.hub.guards(GATEWAY))
        world.view.remove(pod)
        world.hub.pod_gone(pod.uid)
        world.hub.publish(GATEWAY, {"0": envelope("0", 1)})
        assert await guard.closed() == "PodGone"
        await world.until(lambda: not world.hub.guards(GATEWAY))
    assert not any(type(message).__name__ == "Part" for message in guard.messages)


async def test_a_draining_guard_hears_of_revocations_until_its_pod_is_gone(world: World) -> None:
    """It still judges messages; nobody waits for its word, and it may not come back once it is cut off."""
    pod = world.view.add("pod")
    async with world.guard(pod) as guard:
        await guard.hello()
        await world.until(lambda: pod.uid in world.hub.guards(GATEWAY))
        world.view.change(pod, terminating=True)
        assert await refusal(world, world.token(pod)) == 403
        world.hub.publish(GATEWAY, {"0": envelope("0", 1)})
        assert (await guard.take()).order == (3, 1)
        await world.until(lambda: world.has(pod, "0") == (3, 1))
        await _ticks(world)
        world.hub.publish(GATEWAY, {"0": envelope("0", 2)})
        assert (await guard.take()).order == (3, 2)
        world.view.remove(pod)
        assert await guard.closed() == "PodGone"  # noticed without being told


async def test_the_guard_of_an_earlier_gateway_is_told_of_the_present_one(world: World) -> None:
    """What it holds counts for nothing here, however new: it belongs to another document."""
    pod = replace(world.view.add("pod"), gateway_uid="uid-of-an-earlier-one")
    world.view.of["tenant", "pod"] = pod
    world.hub.publish(GATEWAY, {"gateway": envelope("gateway", 1), "0": envelope("0", 2)})
    async with world.guard(pod) as guard:
        await guard.hello({"gateway": Have(3, 9, "x"), **have(envelope("0", 2))})
        assert [(await guard.next_envelope()).part for _ in range(2)] == ["gateway", "0"]
    assert world.ahead == []
    assert world.has(pod, "0") is None


async def _ticks(world: World) -> None:
    """Until the hub has looked through its guards once more: a guard that is gone is forgotten then."""
    other = world.view.add("other")
    async with world.guard(other) as guard:
        await guard.hello()
        await world.until(lambda: other.uid in world.hub.guards(GATEWAY))
        world.view.remove(other)
        await world.until(lambda: other.uid not in world.hub.guards(GATEWAY))


async def test_a_second_stream_of_a_pod_replaces_the_first(world: World) -> None:
    pod = world.view.add("pod")
    async with world.guard(pod) as first:
        await first.hello()
        await world.until(lambda: pod.uid in world.hub.guards(GATEWAY))
        async with world.guard(pod) as second:
            assert await first.closed() == "Replaced"
            await second.hello()
            world.hub.publish(GATEWAY, {"0": envelope("0", 1)})
            assert (await second.take()).revision == 1
            await world.until(lambda: world.has(pod, "0") == (3, 1))
            assert world.hub.guards(GATEWAY)[pod.uid].connected


async def test_a_withdrawn_gateway_has_no_streams(world: World) -> None:
    pod = world.view.add("pod")
    async with world.guard(pod) as guard:
        await guard.hello()
        await world.until(lambda: pod.uid in world.hub.guards(GATEWAY))
        world.hub.withdraw(GATEWAY)
        assert await guard.closed() == "GatewayGone"
    assert world.hub.guards(GATEWAY) == {}


@pytest.mark.parametrize(
    "message",
    [
        b"no json",
        b'{"type":"Part","envelope":""}',
        b'{"type":"SharesAck","round":1}',
        b'{"type":"Hello","formats":[1],"highest_epoch":"x","parts":{}}',
        b'{"type":"Hello","formats":[1],"highest_epoch":2147483647,"parts":{}}',
        b'{"type":"Hello","formats":[1],"highest_epoch":1,"parts":{},"x":' + b"[" * 100_000,
        b"\x00\xff" * 1000,
        b'{"type":"Hello","formats":[1],"highest_epoch":1,"parts":{"\xff":{}}}',
    ],
    ids=range(8),
)
async def test_a_stream_that_begins_with_something_else_is_closed(world: World, message: bytes) -> None:
    async with world.guard(world.view.add("pod")) as guard:
        await guard.stream.send_bytes(message)
        assert await guard.closed() == "Malformed"
    assert world.hub.guards(GATEWAY) == {}


async def test_a_second_hello_is_refused(world: World) -> None:
    async with world.guard(world.view.add("pod")) as guard:
        await guard.hello()
        await guard.hello()
        assert await guard.closed() == "Malformed"


async def test_a_guard_of_another_format_is_told(world: World) -> None:
    async with world.guard(world.view.add("pod")) as guard:
        await guard.stream.send_bytes(b'{"type":"Hello","formats":[99],"highest_epoch":0,"parts":{}}')
        assert await guard.closed() == "NoCommonFormat"


async def test_a_silent_guard_is_closed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_session, "_HELLO_SECONDS", 0.1)
    async with world.guard(world.view.add("pod")) as guard:
        assert await guard.closed() == "NoHello"


async def test_a_flood_of_messages_ends_the_stream(world: World) -> None:
    async with world.guard(world.view.add("pod")) as guard:
        await guard.hello()
        for _ in range(5000):
            try:
                await guard.send(Ack("0", 1, 1))
            except ConnectionError:
                break
        assert await guard.closed() in {"TooManyMessages", ""}
        await world.until(lambda: not any(g.connected for g in world.hub.guards(GATEWAY).values()))


async def test_a_slow_guard_is_dropped_and_the_others_are_served(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_session, "_SEND_SECONDS", 0.3)
    slow, quick = world.view.add("slow"), world.view.add("quick")
    noise = "".join(f"{n * n:x}" for n in range(200_000))
    big = {str(n): envelope(str(n), n + 1, text=noise) for n in range(16)}
    async with world.guard(slow) as reads_nothing, world.guard(quick) as reads:
        await reads_nothing.hello()
        await reads.hello()
        await world.until(lambda: len(world.hub.guards(GATEWAY)) == 2)
        reads_nothing.stop_reading()
        world.hub.publish(GATEWAY, big)
        assert {(await reads.take()).part for _ in big} == set(big)
        await world.until(lambda: not world.hub.guards(GATEWAY)[slow.uid].connected)
        assert world.hub.guards(GATEWAY)[quick.uid].connected


# --- what is remembered -------------------------------------------------------------------------


async def test_acknowledgements_and_refusals_are_kept_per_part(world: World) -> None:
    pod = world.view.add("pod")
    async with world.guard(pod) as guard:
        await guard.hello()
        world.hub.publish(GATEWAY, {"0": envelope("0", 1), "1": envelope("1", 2)})
        await guard.take()
        refused = await guard.next_envelope()
        await guard.send(Nack("1", refused.epoch, refused.revision, "Envoy refused it"))
        await world.until(lambda: world.has(pod, "1") == (0, 0))
        parts = world.hub.guards(GATEWAY)[pod.uid].parts
        assert world.has(pod, "0") == (3, 1)
        assert (parts["0"].rejected, parts["1"].rejected) == ("", "Envoy refused it")
        assert parts["0"].digest == envelope("0", 1).digest

        world.hub.publish(GATEWAY, {"1": envelope("1", 3)})
        assert world.has(pod, "1") is None
        await guard.take()
        await world.until(lambda: world.has(pod, "1") == (3, 3))


async def test_an_acknowledgement_of_an_older_envelope_is_recorded_as_such(world: World) -> None:
    pod = world.view.add("pod")
    async with world.guard(pod) as guard:
        await guard.hello()
        world.hub.publish(GATEWAY, {"0": envelope("0", 1)})
        first = await guard.next_envelope()
        world.hub.publish(GATEWAY, {"0": envelope("0", 2)})
        await guard.next_envelope()
        await guard.send(Ack("0", first.epoch, first.revision))
        await world.until(lambda: world.has(pod, "0") == (3, 1))


async def test_what_a_guard_had_outlives_its_connection(world: World) -> None:
    pod = world.view.add("pod")
    world.hub.publish(GATEWAY, {"0": envelope("0", 1)})
    async with world.guard(pod) as guard:
        await guard.hello()
        await guard.take()
        await world.until(lambda: world.has(pod, "0") == (3, 1))
    await world.until(lambda: not world.hub.guards(GATEWAY)[pod.uid].connected)
    assert world.has(pod, "0") == (3, 1)
    async with world.guard(pod) as guard:
        await guard.hello(have(envelope("0", 1)))
        await world.until(lambda: world.hub.guards(GATEWAY)[pod.uid].connected)
        assert world.has(pod, "0") == (3, 1)


async def test_a_higher_epoch_is_told(world: World) -> None:
    async with world.guard(world.view.add("pod")) as guard:
        await guard.hello(highest_epoch=3)
        await world.until(lambda: bool(world.changes))
        assert world.epochs == []
    async with world.guard(world.view.add("other")) as guard:
        await guard.hello(highest_epoch=7)
        await world.until(lambda: bool(world.epochs))
        assert world.epochs == [7]


@pytest.mark.parametrize("newer", [envelope("0", 5), envelope("0", 1, text="other content")])
async def test_content_that_we_did_not_publish_is_not_acknowledged(world: World, newer: Envelope) -> None:
    pod = world.view.add("pod")
    world.hub.publish(GATEWAY, {"0": envelope("0", 1)})
    async with world.guard(pod) as guard:
        await guard.hello(have(newer))
        await world.until(lambda: bool(world.ahead))
        assert world.ahead[0] == (GATEWAY, "0", newer.order)
        assert world.has(pod, "0") is None
        world.hub.publish(GATEWAY, {"0": envelope("0", 6)})
        await guard.take()
        await world.until(lambda: world.has(pod, "0") == (3, 6))


async def test_last_use_is_kept_by_gateway_and_counted_by_our_own_clock(world: World) -> None:
    began = int(time.time())
    pod, foreign = world.view.add("pod"), world.view.add("foreign", "other")
    async with world.guard(pod) as one, world.guard(foreign) as two:
        await one.hello()
        await two.hello()
        await one.send(Report({}, {"version-1": 100, "version-2": 2**60, "x" * 65: 1}))
        await two.send(Report({}, {"version-1": 200}))
        for guard in (one, two):  # an answer comes after the report
            await guard.send(Ack("9", 1, 1))
        await world.until(lambda: len(world.changes) >= 4)
        used = world.hub.last_used()
    assert set(used[GATEWAY]) == {"version-1", "version-2"}
    assert set(used["uid-tenant-other"]) == {"version-1"}
    for moment in [*used[GATEWAY].values(), *used["uid-tenant-other"].values()]:
        assert began <= moment <= time.time()
    assert world.hub.last_used() == {}


# --- shares -------------------------------------------------------------------------------------
