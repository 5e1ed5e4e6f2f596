"""A gateway that is created anew under its name while pods of the earlier one still run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from sendward import names
from sendward.apply import kinds
from sendward.graph.facts import Pod
from sendward.protocol import PPM, Ack, Hello, Nack, Part, Shares
from tests.core.harness import TENANT, World
from tests.core.test_key_life import GATEWAY
from tests.guard import builders
from tests.guard.harness import Harness, eventually

KEY = builders.credential("one")
BEARER = {"authorization": f"Bearer {KEY.value}"}
SHARD = builders.shard(builders.account("acme", builders.key("one", KEY.version())))
REPLACED = (503, ["GatewayReplaced"])


@pytest.fixture
async def pod() -> AsyncIterator[Harness]:
    """Guard and Envoy, ready, with a document from the hub."""
    harness = Harness()
    try:
        await harness.start()
        await harness.hub.wait_for(Hello)
        for raw in (own_part(harness, 5), builders.sealed(SHARD, 5)):
            await harness.hub.send(Part(raw))
        await harness.hub.wait_for(Ack, lambda ack: ack.part == "gateway")
        await harness.hub.send(Shares(round=1, default=PPM))
        await eventually(harness.ready, "readiness")
        yield harness
    finally:
        await harness.stop()


def own_part(pod: Harness, revision: int) -> bytes:
    content = builders.gateway(envoy=pod.files(), application_port=pod.application_port)
    return builders.sealed(content, revision)


def foreign_part(pod: Harness, revision: int) -> bytes:
    """Genuine, of another object by the same name."""
    content = builders.gateway(envoy=pod.files(), application_port=pod.application_port)
    return builders.sealed(content, revision, gateway_uid="another-uid")


async def answered(pod: Harness) -> tuple[int, object]:
    status, _, problem = await pod.send(BEARER)
    return status, problem.get("code")


async def test_a_pod_whose_gateway_was_replaced_refuses_and_says_so(pod: Harness) -> None:
    """Also after a restart without hub, until the pod is created anew."""
    assert await answered(pod) == (200, None)
    await pod.hub.send(Part(foreign_part(pod, 1)))
    nack = await pod.hub.wait_for(Nack)
    assert "recreate it" in nack.message
    assert await answered(pod) == (503, "SW2002")
    assert await pod.probe("/ready") == REPLACED
    await pod.hub.stop()
    pod.kill_guard()
    pod.start_guard()

    async def back() -> bool:
        return await pod.probe("/ready") == REPLACED

    await eventually(back, "the reason after a restart")
    assert await answered(pod) == (503, "SW2002")


async def test_a_gateway_that_comes_back_from_a_backup_is_served_again(pod: Harness) -> None:
    await pod.hub.send(Part(foreign_part(pod, 1)))
    await pod.hub.wait_for(Nack)
    await pod.hub.send(Part(own_part(pod, 6)))
    await pod.hub.wait_for(Ack, lambda ack: (ack.part, ack.revision) == ("gateway", 6))
    await eventually(pod.ready, "readiness")
    assert await answered(pod) == (200, None)


@pytest.mark.parametrize("revision", [1, 9], ids=["older", "newer"])
async def test_who_writes_secrets_cannot_replace_a_gateway(pod: Harness, revision: int) -> None:
    """A part of an earlier gateway, kept for the day: mounted, it does nothing."""
    mount = pod.path(names.PATH_DOCUMENT)
    (mount / "gateway").write_bytes(foreign_part(pod, revision))
    (mount / "0").write_bytes(b"seen after the other file")

    async def seen() -> bool:
        return pod.path("/guard.log").read_text().count("part refused") == 2

    await eventually(seen, "both files are read")
    assert await pod.ready()
    assert await answered(pod) == (200, None)


async def test_a_forged_part_replaces_nothing(pod: Harness) -> None:
    content = builders.gateway(envoy=pod.files(), application_port=pod.application_port)
    for forged in (
        builders.sealed(content, 9, gateway_uid="another-uid", signer=builders.FORGER),
        builders.sealed(SHARD, 9, gateway_uid="another-uid"),
    ):
        await pod.hub.send(Part(forged))
        await pod.hub.wait_for(Nack)
        pod.hub.messages.clear()
    assert await pod.ready()
    assert await answered(pod) == (200, None)


def force_deletion(world: World) -> None:
    """Delete the gateway and take its finalizer off, as somebody in a hurry does."""
    world.erase("MessagingGateway", "sms")
    held = world.get("MessagingGateway", "sms")
    held["metadata"]["finalizers"] = []
    world.loop.run_until_complete(world.kube.apply(kinds.MESSAGING_GATEWAY, held))


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "later"])
def test_the_status_names_the_pods_of_the_earlier_gateway(at_once: bool) -> None:
    """Whether anything was seen of the time between the two or not."""
    world = World()
    world.put("MessagingGateway", "sms", GATEWAY)
    guard = world.add_guard("sms-0", "sms")
    world.settle()
    old = world.gateway_uid("sms")
    made: Pod = replace(guard.pod, gateway_uid=old)
    world.guards.clear()  # a real one takes nothing of the new gateway
    world.store.set_pod(made)
    force_deletion(world)
    if not at_once:
        world.settle()
    world.put("MessagingGateway", "sms", GATEWAY)
    world.settle()
    assert world.gateway_uid("sms") != old
    assert world.documents.get(old) is None
    assert world.condition("MessagingGateway", "sms", "SidecarsInContact") == ("False", "OutOfContact")
    conditions = world.status("MessagingGateway", "sms")["conditions"]
    message = next(c["message"] for c in conditions if c["type"] == "SidecarsInContact")
    assert "sms-0, made for an earlier gateway of this name: recreate it" in message
    policy = world.kube.objects[kinds.NETWORK_POLICY.plural, TENANT, names.network_policy("sms")]
    assert policy["metadata"]["labels"][names.LABEL_OWNER_UID] == world.gateway_uid("sms")
    world.close()
