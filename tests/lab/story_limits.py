"""The story, second part: how fast accounts may send. Limits hold over both pods together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from sendward import names
from sendward.verdict import Reason
from tests.lab.client import Answer, Sender
from tests.lab.stack import eventually
from tests.lab.story_stage import Stage, Step, expect

FLOOD_SECONDS = 3.0
RETRY_SLACK = 0.25  # seconds, for the machine

# One message a second, four at once: slow enough that Retry-After says more than the least it can.
SLOW: list[dict[str, object]] = [
    {
        "apiVersion": names.API_VERSION,
        "kind": "RateLimitPolicy",
        "metadata": {"name": "slow"},
        "spec": {"key": [{"messages": 10, "per": "10s", "burst": 4}]},
    },
    {
        "apiVersion": names.API_VERSION,
        "kind": "SenderAccount",
        "metadata": {"name": "initech"},
        "spec": {"gateways": ["sms"], "policies": {"apiKey": "hooli", "rateLimit": "slow"}},
    },
    {
        "apiVersion": names.API_VERSION,
        "kind": "APIKey",
        "metadata": {"name": "initech"},
        "spec": {"account": "initech"},
    },
]


@dataclass
class Flood:
    """What a flood met. `seconds` is the whole time in which messages may have been counted."""

    accepted: dict[str, int] = field(default_factory=dict)  # by pod
    refused: list[Answer] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def total(self) -> int:
        return sum(self.accepted.values())

    def check(self, messages: int, per: float, reason: Reason) -> str:
        """At most `messages` at once and `messages` per `per` seconds, not far below; the rest 429."""
        most = messages + messages / per * self.seconds
        assert self.total <= most, f"{self.total} accepted in {self.seconds:.1f} s, {most:.1f} are allowed"
        assert self.total >= most / 2, f"only {self.total} accepted, {most:.1f} are allowed"
        assert self.refused, "nothing was refused"
        for answer in self.refused:
            assert answer.status == 429, f"refused with {answer}: {answer.body[:200]}"
            assert (answer.retry_after or 0) >= 1, f"429 without a Retry-After: {answer}"
        assert any(answer.code == reason.code for answer in self.refused), f"nobody said {reason.code}"
        split = " + ".join(str(count) for count in self.accepted.values())
        return (
            f"{self.total} accepted ({split}) of {self.total + len(self.refused)} sent in"
            f" {self.seconds:.1f} s; {most:.1f} would be the most; the others 429 {reason.code}"
        )


async def flood(senders: Sequence[Sender], pods: Sequence[str], seconds: float = FLOOD_SECONDS) -> Flood:
    """Send through every pod with every key, as fast as the answers come."""
    result = Flood(dict.fromkeys(pods, 0))
    started = time.monotonic()

    async def run(sender: Sender, pod: str) -> None:
        while time.monotonic() < started + seconds:
            answer = await sender.send(pod)
            if answer.accepted:
                result.accepted[pod] += 1
            else:
                result.refused.append(answer)

    await asyncio.gather(*(run(sender, pod) for sender in senders for pod in pods))
    result.seconds = time.monotonic() - started
    return result


async def key_limit(stage: Stage) -> str:
    result = await flood([stage.globex], stage.pods)
    return result.check(20, 10, Reason.KeyLimit)


async def account_limit(stage: Stage) -> str:
    result = await flood([stage.shop, stage.otp], stage.pods)
    return f"two keys of one account: {result.check(30, 10, Reason.AccountLimit)}"


async def retry_after(stage: Stage) -> str:
    await stage.stack.apply(SLOW, stage.namespace)
    await stage.ready("apikey", "initech")
    await stage.ready("senderaccount", "initech")
    key = [("x-api-key", await stage.key("initech"))]
    pod = stage.pods[0]

    async def send() -> Answer:
        return await stage.globex.send(pod, headers=key)

    async def next_accepted() -> float:
        """Seconds until a message passes."""
        started = time.monotonic()
        await eventually(lambda: _accepted(send), "accepted again", seconds=20, every=0.03)
        return time.monotonic() - started

    async def alone() -> bool:
        """Whether the limit has followed the demand to this pod, with the tokens of the other one."""
        waits = [await next_accepted() for _ in range(3)]
        return all(0.7 < wait < 1.25 for wait in waits) and not await _accepted(send)

    async def judged() -> tuple[int, float]:
        """What a refusal says, and what was needed; never may it say too little."""
        answer = await send()
        expect(answer, 429, Reason.KeyLimit)
        said = answer.retry_after or 0
        needed = await next_accepted()
        assert needed <= said + RETRY_SLACK, f"Retry-After {said}, but it took {needed:.2f} s"
        return said, needed

    await eventually(alone, "the busy pod gets nearly the whole limit", seconds=30, every=0)
    said, needed = await judged()
    for _ in range(4):
        if said - needed <= 1 + RETRY_SLACK:
            break
        said, needed = await judged()  # tokens of the other pod came meanwhile: they end in a while
    assert said - needed <= 1 + RETRY_SLACK, f"Retry-After {said}, but {needed:.2f} s were enough"
    answer = await send()
    expect(answer, 429, Reason.KeyLimit)
    obeyed = answer.retry_after or 0
    await asyncio.sleep(obeyed)  # as a client does that reads the header
    expect(await send(), 202)
    return f"Retry-After {said} where {needed:.2f} s were needed; waited {obeyed} s as told, then 202"


async def _accepted(send: Callable[[], Awaitable[Answer]]) -> bool:
    return (await send()).accepted


STEPS: tuple[Step, ...] = (
    Step("Above a key's limit: 429, and over both pods never more than the limit", key_limit),
    Step("Above an account's limit: 429, over both pods and all its keys", account_limit),
    Step("Retry-After is right: not too short, and at most a second too long", retry_after),
)
