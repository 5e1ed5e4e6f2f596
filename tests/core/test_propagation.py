"""How long a change takes to reach the guards is measured, once for each change."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY

from sendward.apply import kinds
from tests.core.stand import TENANT, Stand
from tests.core.test_operator import GATEWAY

NAME = "sendward_policy_propagation_duration_seconds"


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with Stand() as stand:
        yield stand


def _seen() -> tuple[float, float]:
    """How many changes were measured, and their seconds in all."""
    return tuple(REGISTRY.get_sample_value(f"{NAME}_{part}") or 0.0 for part in ("count", "sum"))  # type: ignore[return-value]


async def _account(stand: Stand) -> None:
    """One with a key, Ready and at rest."""
    stand.put("APIKeyPolicy", "std", {})
    stand.put("SenderAccount", "a", {"gateways": ["sms"]})
    stand.put("APIKey", "k", {"account": "a", "policy": "std"})
    await stand.until(lambda: stand.condition("APIKey", "k", "Ready") == "True")
    await stand.rest()


async def test_a_change_counts_when_the_last_guard_acknowledged_it(stand: Stand) -> None:
    stand.put("MessagingGateway", "sms", {**GATEWAY, "shards": 1})
    guards = [await stand.add_guard(f"sms-{number}", "sms") for number in range(2)]
    await _account(stand)
    before, seconds = _seen()
    guards[1].hold()
    stand.put("SenderAccount", "a", {"gateways": ["sms"], "suspend": True})
    await stand.until(lambda: guards[0].accounts()["a"].denied != "")
    await stand.rest()
    assert _seen()[0] == before
    await guards[1].release()
    await stand.until(lambda: _seen()[0] == before + 1)
    assert _seen()[1] > seconds + 1  # as long as `rest` at least


async def test_what_is_not_a_change_does_not_count(stand: Stand) -> None:
    """A guard that comes back, a new one, and a new leader who loads what was written before."""
    stand.put("MessagingGateway", "sms", {**GATEWAY, "shards": 1})
    await stand.add_guard("sms-0", "sms")
    await _account(stand)
    before = _seen()
    await stand.stop()
    await stand.start()
    pod = stand.operator.store.pod(TENANT, "sms-0")
    assert pod is not None
    guard = await stand.connect(pod)
    await stand.until(lambda: "0" in guard.parts)
    assert stand.get(kinds.SECRET, "sendward-sms-doc-0") is not None
    await stand.rest()
    assert _seen() == before
