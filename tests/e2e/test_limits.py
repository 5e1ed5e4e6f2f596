"""A limit over real pods: steady, moving and disturbed load; no window has more than the limit.

`burst + rate * w` messages for every window of length w, whichever pods they came through. When exactly a
message was counted is not seen from outside; it was between sending and answer, so a window that holds
both holds the message.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import pytest

from sendward import names
from tests.e2e.support import ACCEPTED, SELECTOR, Tenant, answer, request
from tests.lab.stack import Object, eventually

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="session")]

PODS = 2
RATE, BURST = 5, 10  # messages a second, messages at once
PAUSE = 0.04  # seconds between two messages on a connection: a multiple of the limit
PHASE = 5.0  # seconds
Span = tuple[float, float]


def objects() -> list[Object]:
    def of(kind: str, spec: Object) -> Object:
        return {"apiVersion": names.API_VERSION, "kind": kind, "metadata": {"name": "flood"}, "spec": spec}

    limit = {"messages": RATE * 10, "per": "10s", "burst": BURST}
    policies = {"apiKey": "globex", "rateLimit": "flood"}
    return [
        of("RateLimitPolicy", {"account": [limit]}),
        of("SenderAccount", {"gateways": ["sms"], "policies": policies}),
        of("APIKey", {"account": "flood"}),
    ]


def excess(accepted: list[Span]) -> float:
    """By how much the worst window is above the limit; at most 0 if none is."""
    worst = float("-inf")
    for first, _ in accepted:
        ends = sorted(end for start, end in accepted if start >= first)
        for count, end in enumerate(ends, 1):
            worst = max(worst, count - BURST - RATE * (end - first))
    return worst


class Load:
    """Sends through the pods that `which` names at the moment, and remembers what was accepted."""

    def __init__(self, tenant: Tenant, key: str) -> None:
        self._tenant = tenant
        self._key = key
        self.which: Callable[[str], bool] = lambda _: True
        self.accepted: dict[str, list[Span]] = {}
        self.refused: set[int] = set()

    @property
    def spans(self) -> list[Span]:
        return sorted(span for spans in self.accepted.values() for span in spans)

    async def through(self, pod: Object) -> None:
        """Until cancelled; a broken connection is made anew."""
        name = pod["metadata"]["name"]
        spans = self.accepted.setdefault(name, [])
        while True:
            with suppress(OSError):
                reader, writer = await self._tenant.connect(pod)
                while True:
                    await asyncio.sleep(PAUSE)
                    if not self.which(name):
                        continue
                    started = time.monotonic()
                    writer.write(request(key=self._key))
                    status = (await answer(reader)).status
                    if status == ACCEPTED:
                        spans.append((started, time.monotonic()))
                    else:
                        self.refused.add(status)
                    if status == 0:
                        break
                writer.close()
            await asyncio.sleep(PAUSE)


async def during(load: Load, which: Iterable[str], seconds: float = PHASE) -> int:
    """How many were accepted while the load goes through these pods."""
    chosen, before = set(which), len(load.spans)
    load.which = lambda name: name in chosen
    await asyncio.sleep(seconds)
    return len(load.spans) - before


async def killed(tenant: Tenant, pod: Object) -> None:
    """Returns once the guard was killed and its successor is there."""
    before = tenant.guard_pid(pod)
    os.kill(before, signal.SIGKILL)

    def back() -> bool:
        try:
            return tenant.guard_pid(pod) != before
        except LookupError:
            return False

    await eventually(back, "the guard runs again", seconds=60)


async def joined(tenant: Tenant, others: set[str]) -> Object:
    """The pod beside `others`, as soon as it takes connections, Ready or not."""

    async def check() -> Object | None:
        for pod in await tenant.stack.pods(tenant.namespace, SELECTOR):
            if pod["metadata"]["name"] in others or not pod.get("status", {}).get("podIP"):
                continue
            with suppress(OSError):
                _, writer = await tenant.connect(pod)
                writer.close()
                return pod
        return None

    found: Object = await eventually(check, "a third pod takes connections", seconds=120, every=0.5)
    return found


async def test_no_window_is_above_the_limit_while_load_moves_and_guards_are_killed(tenant: Tenant) -> None:
    await tenant.apply(*objects())
    for kind in ("sender", "akey"):
        await tenant.ready(kind, "flood")
    load = Load(tenant, await tenant.key("flood"))
    pods = await tenant.pods(PODS)
    one, two = (pod["metadata"]["name"] for pod in pods)
    sending = [asyncio.create_task(load.through(pod)) for pod in pods]
    try:
        began = time.monotonic()
        passed = {
            "both": await during(load, (one, two)),
            "the first": await during(load, (one,)),
            "the second": await during(load, (two,)),
            "the first again": await during(load, (one,)),
        }
        used = len(load.spans) / (BURST + RATE * (time.monotonic() - began))
        load.which = lambda _: True
        for _ in range(2):
            await killed(tenant, pods[0])
        await tenant.stack.kubectl(
            "scale", "deployment", "sms", "-n", tenant.namespace, f"--replicas={PODS + 1}"
        )
        new = await joined(tenant, {one, two})
        sending.append(asyncio.create_task(load.through(new)))
        passed["three"] = await during(load, (one, two, new["metadata"]["name"]))
    finally:
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
    print(f"accepted by phase: {passed}; used {used:.0%}; worst window {excess(load.spans):.1f}")
    assert excess(load.spans) <= 0
    assert 429 in load.refused
    # Shares follow the load: what one pod alone may let pass is more than its equal part.
    assert min(passed.values()) > 0
    assert used > 0.3
