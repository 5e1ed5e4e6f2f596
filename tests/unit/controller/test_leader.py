"""One process leads, by its own monotonic clock, and every term has a higher epoch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from sendward.apply import kinds
from sendward.apply.kube import KubeClient
from sendward.apply.ports import Object
from sendward.controller.leader import Leader, Timing, micro_time
from tests.fakes.kube import FakeKube

NAMESPACE = "sendward-system"
START = datetime(2026, 3, 1, 12, 0, 0, 250, tzinfo=UTC)
QUICK = Timing(renew=0.02, retry=0.02)


@dataclass
class ManualClock:
    seconds: float = 1000.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class World:
    server: FakeKube
    kube: KubeClient
    clock: ManualClock = field(default_factory=ManualClock)
    lost: list[str] = field(default_factory=list)
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def start(self, identity: str, clock: ManualClock | None = None) -> Leader:
        leader = Leader(
            self.kube,
            NAMESPACE,
            identity,
            clock or self.clock,
            on_lost=lambda: self.lost.append(identity),
            timing=QUICK,
        )
        self.tasks[identity] = asyncio.create_task(leader.run())
        return leader

    async def leading(self, identity: str) -> Leader:
        leader = self.start(identity)
        await asyncio.wait_for(leader.acquired.wait(), 10)
        return leader

    async def stop(self, identity: str) -> None:
        task = self.tasks.pop(identity)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    @property
    def lease(self) -> Object:
        (lease,) = self.server.objects(kinds.LEASE)
        return lease

    def put(self, **spec: object) -> None:
        self.server.put(kinds.LEASE, {"metadata": {"name": "sendward", "namespace": NAMESPACE}, "spec": spec})

    async def requests(self, method: str, more: int) -> None:
        wanted = self.server.count(method) + more
        await until(lambda: self.server.count(method) >= wanted)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # the server has no event to wait for
            await asyncio.sleep(0.005)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with FakeKube() as server:
        kube = KubeClient(server.url)
        made = World(server, kube)
        yield made
        for identity in list(made.tasks):
            await made.stop(identity)
        await kube.close()


async def test_a_first_lease_is_made_and_renewed(world: World) -> None:
    leader = await world.leading("one")
    assert (leader.is_leader, leader.epoch) == (True, 1)
    spec = world.lease["spec"]
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"]) == ("one", 6)
    assert spec["renewTime"] == "2026-03-01T12:16:40.000250Z"
    world.clock.seconds += 2
    await until(lambda: world.lease["spec"]["renewTime"] == "2026-03-01T12:16:42.000250Z")
    assert world.lease["spec"]["acquireTime"] == "2026-03-01T12:16:40.000250Z"
    assert leader.epoch == 1


async def test_a_standby_waits_while_the_holder_renews(world: World) -> None:
    await world.leading("one")
    standby = world.start("two")
    for _ in range(5):
        world.clock.seconds += 3
        await world.requests("PUT", 2)
        await world.requests("GET", 2)
    assert (standby.is_leader, standby.epoch) == (False, 0)
    assert world.lost == []


@pytest.mark.parametrize("renewed", [START - timedelta(days=9), START + timedelta(days=9)])
async def test_a_silent_holder_is_replaced_by_ones_own_clock(world: World, renewed: datetime) -> None:
    world.put(
        holderIdentity="gone", leaseDurationSeconds=6, leaseTransitions=4, renewTime=micro_time(renewed)
    )
    candidate = world.start("two")
    await world.requests("GET", 2)
    world.clock.seconds += 5.9
    await world.requests("GET", 2)
    assert not candidate.is_leader
    world.clock.seconds += 0.2
    await asyncio.wait_for(candidate.acquired.wait(), 10)
    assert candidate.epoch == world.lease["spec"]["leaseTransitions"] == 5


async def test_a_released_lease_is_taken_at_once(world: World) -> None:
    await world.leading("one")
    standby = world.start("two")
    await world.requests("GET", 2)
    await world.stop("one")
    await asyncio.wait_for(standby.acquired.wait(), 10)
    assert standby.epoch == 2
    assert world.lost == []


async def test_a_restarted_process_has_a_new_epoch(world: World) -> None:
    await world.leading("pod-1/a")
    await world.stop("pod-1/a")
    assert world.lease["spec"]["holderIdentity"] == ""
    assert (await world.leading("pod-1/b")).epoch == 2


async def test_a_lease_that_somebody_else_took_is_lost(world: World) -> None:
    leader = await world.leading("one")
    world.put(holderIdentity="thief", leaseDurationSeconds=6, leaseTransitions=9)
    await until(lambda: world.lost == ["one"])
    assert not leader.is_leader
    await world.stop("one")
    assert world.lease["spec"]["holderIdentity"] == "thief"


async def test_a_lease_that_cannot_be_renewed_is_lost_in_time(world: World) -> None:
    leader = await world.leading("one")
    world.server.fail(500, times=10_000, matches=lambda request: request.method == "PUT")
    await world.requests("PUT", 3)
    world.clock.seconds += 4.9
    await world.requests("PUT", 3)
    assert (leader.is_leader, world.lost) == (True, [])
    world.clock.seconds += 0.2
    assert not leader.is_leader
    await until(lambda: world.lost == ["one"])


async def test_a_process_that_was_held_up_does_not_lead(world: World) -> None:
    leader = await world.leading("one")
    world.clock.seconds += 60
    assert not leader.is_leader
    await until(lambda: world.lost == ["one"])


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_lost_answer_changes_nothing(world: World, method: str) -> None:
    world.server.fail("lose", matches=lambda request: request.method == method)
    leader = await world.leading("one")
    await world.requests("PUT", 4)
    assert (leader.is_leader, leader.epoch, world.lost) == (True, 1, [])


async def test_an_edit_by_somebody_else_is_survived(world: World) -> None:
    leader = await world.leading("one")
    world.put(**{**world.lease["spec"], "leaseTransitions": 0})
    await until(lambda: world.lease["spec"]["leaseTransitions"] == 1)
    assert (leader.epoch, world.lost) == (1, [])


async def test_a_deleted_lease_comes_back_with_its_epoch(world: World) -> None:
    world.put(holderIdentity="", leaseTransitions=6)
    leader = await world.leading("one")
    world.server.remove(kinds.LEASE, NAMESPACE, "sendward")
    await until(lambda: bool(world.server.objects(kinds.LEASE)))
    await world.requests("PUT", 2)
    assert (leader.epoch, world.lease["spec"]["leaseTransitions"], world.lost) == (7, 7, [])


async def test_the_epoch_moves_above_what_a_guard_has_seen(world: World) -> None:
    leader = await world.leading("one")
    await leader.raise_epoch(0)
    assert leader.epoch == 1
    await asyncio.wait_for(leader.raise_epoch(41), 10)
    assert leader.epoch == world.lease["spec"]["leaseTransitions"] == 42
    await world.requests("PUT", 2)
    assert leader.epoch == 42


async def test_a_failing_api_server_delays_a_candidate_only(world: World) -> None:
    world.server.fail(503, times=3)
    assert (await world.leading("one")).epoch == 1


@pytest.mark.parametrize("holder", ["one", "other"])
async def test_a_leader_over_a_restored_etcd_starts_anew(world: World, holder: str) -> None:
    """Also when the Lease in the backup is its own: what it has seen since belongs to another past."""
    leader = await world.leading("one")
    await world.requests("PUT", 5)
    world.server.version = 50
    world.put(**{**world.lease["spec"], "holderIdentity": holder, "renewTime": "2026-03-01T00:00:00.000000Z"})
    await until(lambda: world.lost == ["one"])
    assert not leader.is_leader


async def test_a_standby_over_a_restored_etcd_starts_anew(world: World) -> None:
    """Its warm Store is from the past that was undone."""
    world.put(holderIdentity="one", leaseDurationSeconds=6, leaseTransitions=3)
    world.start("two")
    await world.requests("GET", 2)
    world.server.version = 50
    world.put(holderIdentity="one", leaseDurationSeconds=6, leaseTransitions=2)
    await until(lambda: world.lost == ["two"])
