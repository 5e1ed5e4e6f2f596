"""The story, third part: how keys live. Rotation without a lost message, revocation within a second."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sendward import names
from tests.lab.client import Sender, Traffic
from tests.lab.http import Api
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
                await asyncio.sleep(0.01)  # leave the machine to others
                continue
            assert answer.status == 401, f"expected 401, got {answer}"
            self.refused, self.code = time.time(), answer.code


def _changed_after(stage: Stage, enough: threading.Event) -> float:
    """When the revocation was stored, or a few ms before; asks the API server until then. Unix seconds."""
    lab = stage.stack.lab
    api = Api(lab.apiserver_url, lab.ca_file)
    path = f"/apis/{names.API_VERSION}/namespaces/{stage.namespace}/apikeys/hooli-leaked"
    before = asked = time.time()
    while not enough.is_set():
        before, asked = asked, time.time()
        found = api.call("GET", path, headers={"Authorization": f"Bearer {lab.admin_token}"})
        if found["spec"]["revokeThrough"]:
            break
        enough.wait(0.01)
    return before


async def revocation(stage: Stage) -> str:
    key = await stage.key("hooli-leaked")
    for answer in await on_all(stage, partial(stage.hooli.send, headers=[("x-api-key", key)])):
        expect(answer, 202)
    opened = stage.hooli.connections
    watches = [_Watch() for _ in stage.pods]
    enough = threading.Event()
    tasks = [
        asyncio.create_task(watch.run(stage.hooli, pod, key))
        for watch, pod in zip(watches, stage.pods, strict=True)
    ]
    changed = asyncio.create_task(asyncio.to_thread(_changed_after, stage, enough))
    try:
        await stage.stack.sendward("keys", "revoke", "hooli-leaked", "-n", stage.namespace)
        async with asyncio.timeout(10):
            await asyncio.gather(*tasks)
            began = await changed
    finally:
        enough.set()
        for task in tasks:
            task.cancel()
    assert stage.hooli.connections == opened, "a connection was opened anew, so it was not the open one"
    condition = await stage.stack.condition("apikey", "hooli-leaked", stage.namespace, "Revoked")
    assert condition is not None, "no condition Revoked"
    assert condition["status"] == "True", f"Revoked is {condition}"
    said = datetime.fromisoformat(condition["lastTransitionTime"]).timestamp()
    late = max(watch.last_accepted for watch in watches) - said
    assert late < 0, f"a message sent {late * 1000:.0f} ms after Revoked=True was accepted"
    latest = max(watch.refused for watch in watches)
    assert latest - began < 1, f"refused only {(latest - began) * 1000:.0f} ms after the change"
    stage.revoked = key
    refused, acknowledged = ((moment - began) * 1000 for moment in (latest, said))
    return (
        f"401 {watches[0].code} by both pods on the open connections, at most {refused:.0f} ms after"
        f" the change; Revoked=True at most {acknowledged:.0f} ms after it, and no message passed since"
    )


async def _states(stage: Stage, name: str) -> dict[str, str]:
    """State by version number."""
    status = (await stage.stack.get("apikey", name, stage.namespace))["status"]
    return {str(version["number"]): version["state"] for version in status["versions"]}


STEPS: tuple[Step, ...] = (
    Step("Rotation: both versions are accepted in the overlap, and no message is lost", rotation),
    Step("A revoked key is refused within a second, on open connections too", revocation),
)
