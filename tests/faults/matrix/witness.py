"""Who watches a run: a sender with every version that lies in Vault, and an auditor.

The sender sends 20 messages a second with each version, by turns on an open connection and on a new
one. The auditor reads Vault and the API server ten times a second. `judge` is pure.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from tests.faults.matrix.scenarios import Scenario
from tests.faults.matrix.subject import Subject
from tests.lab.stack import eventually

_EVERY: Final = 0.05  # seconds
_AUDIT_EVERY: Final = 0.1


@dataclass(frozen=True, slots=True)
class Sample:
    """One message. `status` 0: no answer. Times are monotonic seconds."""

    version: int
    sent: float
    answered: float
    status: int
    code: str = ""

    @property
    def accepted(self) -> bool:
        return 200 <= self.status < 300


@dataclass(slots=True)
class Seen:
    """Everything that was seen in a run. `seen_in_vault` holds when each version was first read there."""

    samples: list[Sample] = field(default_factory=list)
    seen_in_vault: dict[int, float] = field(default_factory=dict)
    most_live: int = 0
    acted: float = 0.0
    told: float | None = None


def judge(scenario: Scenario, seen: Seen) -> list[str]:
    """What was violated, one sentence each."""
    found = [*_vault(scenario, seen)]
    for version in sorted({sample.version for sample in seen.samples}):
        samples = sorted((x for x in seen.samples if x.version == version), key=lambda x: x.sent)
        if version in scenario.ends:
            found += _ending(version, samples, seen)
        else:
            refused = [x for x in samples if not x.accepted]
            found += [_say("I1", version, "not accepted", refused, seen)] if refused else []
    return found


def _vault(scenario: Scenario, seen: Seen) -> list[str]:
    found = []
    if seen.most_live > scenario.live:
        found.append(f"I6: {seen.most_live} live versions in Vault, {scenario.live} are declared")
    if (issued := max(seen.seen_in_vault, default=0)) > scenario.versions:
        found.append(f"I7: {issued} versions issued, {scenario.versions} were asked for")
    return found


def _ending(version: int, samples: Sequence[Sample], seen: Seen) -> list[str]:
    """Accepted before, refused from the moment on when that was told, and never back and forth."""
    found = []
    early = [x for x in samples if x.answered < seen.acted and not x.accepted]
    if early:
        found.append(_say("I1", version, "not accepted before anything was done", early, seen))
    refused = [x for x in samples if not x.accepted]
    if not refused:
        return [*found, f"I2: version {version} was never refused"]
    again = [x for x in samples if x.sent > refused[0].answered and x.accepted]
    if again:
        found.append(_say("I2", version, "accepted again after it was refused", again, seen))
    late = [x for x in samples if seen.told is not None and x.sent > seen.told and x.accepted]
    if late:
        found.append(_say("I2", version, "accepted after its end was told", late, seen))
    return found


def _say(invariant: str, version: int, what: str, samples: Sequence[Sample], seen: Seen) -> str:
    first = samples[0]
    when = f"{first.sent - seen.acted:.2f} s after the act"
    return (
        f"{invariant}: version {version} {what} ({len(samples)} messages, the first {when}:"
        f" {first.status} {first.code})"
    )


class Witness:
    """`async with Witness(scenario, subject) as witness`; `seen` grows meanwhile."""

    def __init__(self, scenario: Scenario, subject: Subject) -> None:
        self.seen = Seen()
        self._scenario = scenario
        self._subject = subject
        self._tasks: list[asyncio.Task[None]] = []
        self._last: dict[int, Sample] = {}
        subject.refused = lambda: 1 in self._last and not self._last[1].accepted

    async def __aenter__(self) -> Witness:
        self._tasks.append(asyncio.create_task(self._audit()))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def accepted(self) -> None:
        """Until the last message with each version that lies in Vault and does not end was accepted."""
        live = set(await self._versions()) - (self._scenario.ends if self.seen.acted else set())

        def check() -> bool:
            return live <= {n for n, sample in self._last.items() if sample.accepted}

        await eventually(check, "the key is accepted", seconds=30, every=0.02)

    async def _audit(self) -> None:
        while True:
            if self._subject.key_uid:
                await self._look()
            await asyncio.sleep(_AUDIT_EVERY)

    async def _look(self) -> None:
        live = await self._versions()
        self.seen.most_live = max(self.seen.most_live, len(live))
        for number in live:
            if number not in self.seen.seen_in_vault:
                await self._pick_up(number)
        if self.seen.acted and self.seen.told is None and self._scenario.told(await self._subject.view()):
            self.seen.told = time.monotonic()

    async def _versions(self) -> list[int]:
        """Numbers of those whose value Vault holds."""
        found = await self._subject.bed.vault(f"sendward/metadata/{self._subject.path}")
        versions = (found or {}).get("versions", {})
        return sorted(int(n) for n, v in versions.items() if not v["destroyed"] and not v["deletion_time"])

    async def _pick_up(self, number: int) -> None:
        """Read a version as its holder would, and send with it from now on."""
        found = await self._subject.bed.vault(f"sendward/data/{self._subject.path}?version={number}")
        if found is None or not found["data"]:
            return  # destroyed since
        self.seen.seen_in_vault[number] = time.monotonic()
        self._tasks.append(asyncio.create_task(self._send(number, found["data"]["key"])))

    async def _send(self, version: int, key: str) -> None:
        due = time.monotonic()
        for sender in itertools.cycle(self._subject.bed.senders):
            sent = time.monotonic()
            status, code = 0, ""
            try:
                answer = await sender.send(self._subject.address, headers=[("x-api-key", key)])
                status, code = answer.status, answer.code
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                code = type(error).__name__
            sample = Sample(version, sent, time.monotonic(), status, code)
            self.seen.samples.append(sample)
            self._last[version] = sample
            due = max(due + _EVERY, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
