"""The registry of owned objects, over an API server in memory whose news are told by hand."""

import asyncio
from typing import Any

import pytest

from sendward.apply import kinds
from sendward.apply.objects import Objects, Target
from sendward.errors import Unavailable
from tests.fakes.memory import MemoryKube

TARGET = Target(kinds.SECRET, "ns", "s")


class Registry:
    def __init__(self) -> None:
        self.kube = MemoryKube()
        self.drifts: list[str] = []
        self.objects = Objects(self.kube, lambda owner, _: self.drifts.append(owner))

    async def ensure(self, value: str = "x", owner: str = "me") -> bool:
        meta: dict[str, Any] = {"namespace": "ns", "name": "s", "annotations": {}}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": {"v": value}}
        return await self.objects.ensure(kinds.SECRET, body, owner)

    def tell(self, owner: str = "me") -> None:
        news, self.kube.news = self.kube.news, []
        for type_, _, obj in news:
            if type_ == "DELETED":
                self.objects.gone(TARGET)
            else:
                self.objects.seen(TARGET, obj, owner)

    def edit(self) -> None:
        obj = self.kube.of(kinds.SECRET)[0]
        obj["metadata"]["labels"] = {"edited": str(self.kube.version)}
        self.kube.put(kinds.SECRET, obj)


@pytest.fixture
def registry() -> Registry:
    return Registry()


async def test_it_writes_once_and_knows_its_own_echo(registry: Registry) -> None:
    assert await registry.ensure()
    assert not await registry.ensure()
    registry.tell()
    assert not await registry.ensure()
    assert await registry.ensure("y")
    registry.tell()
    assert registry.drifts == []
    assert registry.kube.writes == ["Secret", "Secret"]


async def test_a_foreign_change_is_drift_and_is_repaired(registry: Registry) -> None:
    await registry.ensure()
    registry.tell()
    registry.edit()
    registry.tell()
    assert registry.drifts == ["me"]
    assert await registry.ensure()
    registry.tell()
    assert registry.drifts == ["me"]


async def test_a_deletion_is_drift(registry: Registry) -> None:
    await registry.ensure()
    registry.tell()
    await registry.kube.delete(kinds.SECRET, "ns", "s")
    registry.tell()
    assert registry.drifts == ["me"]
    assert TARGET not in registry.objects
    assert await registry.ensure()


async def test_what_a_listing_does_not_show_is_gone(registry: Registry) -> None:
    await registry.ensure()
    registry.objects.ghosts(kinds.SECRET, "other", set())
    assert registry.drifts == []
    registry.objects.ghosts(kinds.SECRET, "ns", set())
    assert registry.drifts == ["me"]


async def test_a_restart_believes_the_hash_until_somebody_distrusts_it(registry: Registry) -> None:
    await registry.ensure()
    restarted = Registry()
    restarted.kube = registry.kube
    restarted.objects = Objects(registry.kube, lambda owner, _: restarted.drifts.append(owner))
    restarted.tell()
    assert not await restarted.ensure()
    restarted.objects.distrust(TARGET)
    assert await restarted.ensure()


async def test_a_failed_first_write_leaves_nothing_known(registry: Registry) -> None:
    registry.kube.fault = "lose"
    with pytest.raises(Unavailable):
        await registry.ensure()
    assert TARGET not in registry.objects
    assert await registry.ensure()


async def test_an_object_follows_its_new_owner(registry: Registry) -> None:
    await registry.ensure()
    await registry.ensure("y", owner="heir")
    assert registry.objects.owned_by("heir") == [TARGET]


async def test_a_change_during_our_write_is_drift(registry: Registry) -> None:
    await registry.ensure()
    registry.tell()
    apply, done = registry.kube.apply, asyncio.Event()

    async def overtaken(*given: Any, **named: Any) -> Any:
        answer = await apply(*given, **named)
        registry.edit()
        registry.tell()
        done.set()
        return answer

    registry.kube.apply = overtaken  # type: ignore[method-assign]
    await registry.ensure("y")
    assert done.is_set()
    assert registry.drifts == []  # its caller notes first what it wrote
    await asyncio.sleep(0)
    assert registry.drifts == ["me"]


class Standby(Registry):
    """Watches what the leader writes, until it `leads`."""

    def __init__(self, leader: Registry) -> None:
        super().__init__()
        self.kube = leader.kube
        self.leads = False
        self.objects = Objects(
            self.kube, lambda owner, _: self.drifts.append(owner), leads=lambda: self.leads
        )


async def test_a_standby_takes_over_what_the_leader_wrote_meanwhile(registry: Registry) -> None:
    """It would else write everything once more that changed since it was started."""
    standby = Standby(registry)
    for value in ("x", "y"):
        await registry.ensure(value)
        standby.tell()
    standby.leads = True
    assert not await standby.ensure("y")
    registry.edit()
    standby.tell()
    assert await standby.ensure("y")
    assert registry.kube.writes == ["Secret"] * 3


@pytest.mark.parametrize("edits", [1, 2])
async def test_what_somebody_changed_while_nobody_led_is_repaired(registry: Registry, edits: int) -> None:
    """A foreign change leaves our annotation as it was."""
    standby = Standby(registry)
    await registry.ensure()
    standby.tell()
    for _ in range(edits):
        registry.edit()
        standby.tell()
    standby.leads = True
    assert await standby.ensure()
