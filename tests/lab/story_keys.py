"""The story, third part: how keys live. Rotation without a lost message, revocation within a second."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from tests.lab.client import Sender, Traffic
from tests.lab.stack import eventually
from tests.lab.story_stage import Stage, Step, expect, on_all

ENOUGH = 20  # messages after the switch


async def rotation(stage: Stage) -> str:
    """The holder reads Vault all the time and uses a new version the moment it is there."""
    hooli = stage.hooli
    old = hooli.key
    async with Traffic(hooli, stage.pods) as traffic:
        await eventually(lambda: len(traffic.answers) >= ENOUGH, "traffic", every=0.02)
        started = time.perf_counter()
        await stage.patch("apikey", "hooli-main", {"rotateNonce": "first"})

        async def rotated() -> str:
            value = await stage.key("hooli-main")
            return value if value != old else ""

        hooli.key = await eventually(rotated, "a new version in Vault", seconds=20, every=0.005)
        passed = (time.perf_counter() - started) * 1000
        switched = len(traffic.answers)
        await eventually(lambda: len(traffic.answers) >= switched + ENOUGH, "more traffic", every=0.02)
        await stage.ready("apikey", "hooli-main")
        for key in (old, hooli.key):
            for answer in await on_all(stage, partial(hooli.send, headers=[("x-api-key", key)])):
                expect(answer, 202)
    assert not traffic.lost, f"{len(traffic.lost)} messages lost, the first: {traffic.lost[0]}"
    states = await _states(stage, "hooli-main")
    assert states == {"1": "Previous", "2": "Current"}, f"versions: {states}"
    return (
        f"{len(traffic.answers)} messages, none lost; the new version was in Vault {passed:.0f} ms after the"
        " change and accepted at once; the old one still is"
    )


@dataclass
class _Watch:
    """Sends through one pod on a connection that stays open, until it is refused."""

    last_accepted: float = 0.0  # Unix seconds
    refused: float = 0.0
    code: str = ""

    async def run(self, sender: Sender, pod: str, key: str) -> None:
        while not self.refused:
            answer = await sender.send(pod, headers=[("x-api-key", key)])
            if answer.accepted:
                self.last_accepted = answer.sent_at
                continue
            assert answer.status == 401, f"expected 401, got {answer}"
            self.refused, self.code = time.time(), answer.code


async def revocation(stage: Stage) -> str:
    key = await stage.key("hooli-leaked")
    for answer in await on_all(stage, partial(stage.hooli.send, headers=[("x-api-key", key)])):
        expect(answer, 202)
    opened = stage.hooli.connections
    changed: list[float] = []
    watches = [_Watch() for _ in stage.pods]
    watching = [
        asyncio.create_task(watch.run(stage.hooli, pod, key))
        for watch, pod in zip(watches, stage.pods, strict=True)
    ]
    try:
        await stage.stack.sendward(
            "keys", "revoke", "hooli-leaked", "-n", stage.namespace,
            heard=lambda line: changed.append(time.time()) if "revoking" in line else None,
        )  # fmt: skip
        async with asyncio.timeout(10):
            await asyncio.gather(*watching)
    finally:
        for task in watching:
            task.cancel()
    assert stage.hooli.connections == opened, "a connection was opened anew, so it was not the open one"
    condition = await stage.stack.condition("apikey", "hooli-leaked", stage.namespace, "Revoked")
    assert condition is not None, "no condition Revoked"
    assert condition["status"] == "True", f"Revoked is {condition}"
    said = datetime.fromisoformat(condition["lastTransitionTime"]).timestamp()
    late = max(watch.last_accepted for watch in watches) - said
    assert late < 0, f"a message sent {late * 1000:.0f} ms after Revoked=True was accepted"
    latest = max(watch.refused for watch in watches)
    assert latest - changed[0] < 1, f"refused only {(latest - changed[0]) * 1000:.0f} ms after the change"
    stage.revoked = key
    refused, acknowledged = ((moment - changed[0]) * 1000 for moment in (latest, said))
    return (
        f"401 {watches[0].code} by both pods on the open connections, at most {max(refused, 0):.0f} ms after"
        f" the API server had the change; Revoked=True {acknowledged:.0f} ms after it, not before"
    )


async def _states(stage: Stage, name: str) -> dict[str, str]:
    """State by version number."""
    status = (await stage.stack.get("apikey", name, stage.namespace))["status"]
    return {str(version["number"]): version["state"] for version in status["versions"]}


STEPS: tuple[Step, ...] = (
    Step("Rotation: both versions are accepted in the overlap, and no message is lost", rotation),
    Step("A revoked key is refused within a second, on open connections too", revocation),
)
