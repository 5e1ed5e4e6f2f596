"""What the hub says while the shared counters hang, while a guard leaves it, and after a stream has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import aiohttp
import msgspec
import pytest
from aiohttp import WSMessage, WSMsgType

from sendward.document import Limit
from sendward.guard import counters
from sendward.guard.main import Guard
from sendward.guard.settings import Settings
from sendward.protocol import PPM, Ack, GuardMessage, HubMessage, Leave, Part, Shares, SharesAck
from tests.fakes.counters import FakeRedis
from tests.guard import builders

ENOUGH = 10.0  # seconds; a bound for what takes milliseconds


class Stream:
    """Of a hub that says what the test says, and takes what is said."""

    def __init__(self) -> None:
        self.closed = False
        self.said: list[GuardMessage] = []
        self._changed = asyncio.Event()
        self._frames: asyncio.Queue[WSMessage] = asyncio.Queue()

    def tell(self, *messages: HubMessage) -> None:
        for message in messages:
            self._frames.put_nowait(WSMessage(WSMsgType.TEXT, msgspec.json.encode(message).decode(), None))

    async def has_said(self, count: int) -> list[GuardMessage]:
        async with asyncio.timeout(ENOUGH):
            while len(self.said) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.said

    async def receive(self, timeout: float) -> WSMessage:  # noqa: ASYNC109  as aiohttp names it
        return await self._frames.get()

    async def send_str(self, text: str) -> None:
        self.said.append(msgspec.json.decode(text, type=GuardMessage))
        self._changed.set()

    async def close(self) -> None:
        self._frames.put_nowait(WSMessage(WSMsgType.CLOSE, None, None))


class Pod:
    """A guard that reaches its counters, and its stream."""

    def __init__(self, root: Path) -> None:
        key = builders.SIGNER.public_key()
        uid = builders.GATEWAY_UID
        self.guard = Guard(Settings("sms", uid, "tenant", "pod", "hub", 1, key, {}, str(root), 0, 0))
        self.redis = FakeRedis()
        self._streams: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self.guard.counters.use(await self.redis.start())
        await self.guard.counters.check()
        assert self.guard.counters.reachable

    def term(self, number: int = 1) -> Shares:
        return Shares(number, 0, term=f"{self.guard.counters.place}.{number}", full=True)

    def connect(self) -> Stream:
        """In place of the stream that there was."""
        made, hub = Stream(), self.guard.hub
        stream = cast("aiohttp.ClientWebSocketResponse", made)
        hub._open = stream
        self._streams.append(asyncio.create_task(hub._receive(stream)))
        return made

    async def asked(self) -> None:
        """Wait until a term is to begin."""
        async with asyncio.timeout(ENOUGH):
            await self.redis.asked.wait()

    async def settle(self) -> None:
        """Wait for all that was begun."""
        async with asyncio.timeout(ENOUGH):
            await asyncio.gather(*self.guard.hub._tasks)

    async def stop(self) -> None:
        for task in self._streams:
            task.cancel()
        await asyncio.gather(*self._streams, return_exceptions=True)
        await self.guard.counters.close()
        self.redis.stop()
        self.guard.enforcer.close()


@pytest.fixture
async def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pod]:
    """Its counters may hang for as long as a test takes."""
    for bound in ("_ANSWER_SECONDS", "_REQUEST_SECONDS"):
        monkeypatch.setattr(counters, bound, 2 * ENOUGH)
    made = Pod(tmp_path)
    await made.start()
    yield made
    await made.stop()


async def test_a_part_behind_a_term_is_taken_while_the_counters_hang(pod: Pod) -> None:
    """It may revoke a key."""
    stream = pod.connect()
    pod.redis.begins.clear()
    stream.tell(pod.term(), Part(builders.sealed(builders.shard(), 1)))
    await pod.asked()
    assert await stream.has_said(1) == [Ack("0", 1, 1)]
    pod.redis.begins.set()
    assert (await stream.has_said(2))[1] == SharesAck(1)


async def test_shares_are_taken_in_their_order_and_a_term_after_it_has_begun(pod: Pod) -> None:
    stream = pod.connect()
    pod.redis.begins.clear()
    stream.tell(pod.term(), Shares(2, PPM))
    await pod.asked()
    assert stream.said == []
    pod.redis.begins.set()
    assert await stream.has_said(2) == [SharesAck(1), SharesAck(2)]
    assert pod.guard.state.term == ""


async def test_what_a_stream_said_before_it_ended_changes_nothing_afterwards(pod: Pod) -> None:
    """The next Hello has told the hub what is in force, and others were given shares for it."""
    first = pod.connect()
    pod.redis.begins.clear()
    first.tell(pod.term())
    await pod.asked()
    second = pod.connect()
    pod.redis.begins.set()
    await pod.settle()
    assert (first.said, pod.guard.state.term, pod.guard.enforcer.shares) == ([], "", None)
    second.tell(pod.term(2))
    assert await second.has_said(1) == [SharesAck(2)]
    assert pod.guard.state.term.endswith(".2")


async def test_a_guard_that_has_left_takes_no_term(pod: Pod) -> None:
    """The hub counts on it: what a guard has after its goodbye, nobody takes from it."""
    stream = pod.connect()
    pod.redis.begins.clear()
    stream.tell(pod.term())
    await pod.asked()
    await pod.guard.hub.leave()
    pod.redis.begins.set()
    await pod.settle()
    assert stream.said == [Leave()]
    assert pod.guard.state.term == ""
    assert pod.guard.enforcer.shares is None


async def test_bursts_are_told_of_what_the_counters_count(pod: Pod) -> None:
    """The hub splits by them once the counters fail."""
    limits = [Limit(10, 1, 30), Limit(10, 60, 20)]
    shard = builders.shard(builders.account("acme", builders.key("one"), limits=limits))
    await pod.guard.enforcer.offer(builders.sealed(shard, 1))
    assert pod.guard.enforcer.bursts({"account-acme", "key-one", "nobody"}) == {"account-acme": 20}


async def test_limits_may_be_exceeded_only_while_a_share_is_guessed(pod: Pod) -> None:
    def unsynced() -> bool:
        return "sendward_guard_shares_unsynced 1.0" in pod.guard.metrics.text().decode()

    enforcer = pod.guard.enforcer
    enforcer.gateway = msgspec.structs.replace(builders.gateway(), counters=pod.guard.counters._redis)
    enforcer.guess_share()
    assert not unsynced()
    enforcer.gateway = builders.gateway()
    enforcer.guess_share()
    assert unsynced()
    enforcer.set_shares(Shares(1, PPM))
    assert not unsynced()


async def test_what_shared_counters_count_is_in_no_metric_of_this_guard(pod: Pod) -> None:
    def told() -> bool:
        text = pod.guard.metrics.text().decode()
        names = ("sendward_rate_limit_utilization_ratio", "sendward_rate_limit_subjects_near_limit")
        found = {name: f"\n{name} " in text for name in names}
        assert len(set(found.values())) == 1
        return found[names[0]]

    assert told()
    pod.guard.enforcer.set_shares(pod.term())
    assert not told()
    pod.guard.enforcer.set_shares(Shares(2, PPM))
    assert told()
