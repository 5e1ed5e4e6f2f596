"""The API server refuses what the operator writes: it tries again, nothing is issued twice, nobody else
is disturbed, and when it answers again everything is as declared."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest

from sendward.apply import kinds
from tests.core.stand import TENANT, Guard, Stand
from tests.core.test_operator import GATEWAY

ANSWERS: tuple[int | Literal["drop", "lose"], ...] = (403, 409, 429, 500, 503, "drop", "lose")
ROTATED = [(1, "Previous"), (2, "Current")]


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with Stand() as stand:
        yield stand


async def _settled(stand: Stand, keys: int = 1) -> Guard:
    stand.put("MessagingGateway", "sms", GATEWAY)
    stand.put("APIKeyPolicy", "std", {"handOver": {"type": "Secret"}})
    guard = await stand.add_guard("sms-0", "sms")
    stand.put("SenderAccount", "bank", {"gateways": ["sms"]})
    for number in range(keys):
        stand.put("APIKey", f"k{number}", {"account": "bank", "policy": "std"})
    await stand.until(
        lambda: all(stand.condition("APIKey", f"k{number}", "Ready") == "True" for number in range(keys))
    )
    await stand.until(lambda: stand.condition("MessagingGateway", "sms", "Ready") == "True")
    await stand.rest(0.3)
    return guard


def _writes(part: str) -> Any:
    """Writes whose path has the part."""
    return lambda request: request.method != "GET" and part in request.path


def _versions(stand: Stand, key: str = "k0") -> list[tuple[int, str]]:
    obj = stand.get(kinds.API_KEY, key) or {"status": {}}
    return [(v["number"], v["state"]) for v in obj["status"].get("versions", [])]


def _live(stand: Stand) -> list[list[int]]:
    return [entry.live for entry in stand.vault.kv.values()]


async def test_a_rotation_that_meets_refusals_issues_one_version(stand: Stand) -> None:
    """Each key meets another answer to the write of its hand-over and to that of its status, and the
    documents meet one of each."""
    guard = await _settled(stand, len(ANSWERS))
    for number, answer in enumerate(ANSWERS):
        for part in (f"/k{number}-api-key", f"/apikeys/k{number}/status"):
            stand.kube.fail(answer, matches=_writes(part), retry_after="0" if answer == 429 else None)
    for answer in (403, "lose"):
        stand.kube.fail(answer, matches=_writes("/sendward-sms-doc-"))
    for number in range(len(ANSWERS)):
        spec = {"account": "bank", "policy": "std", "rotateNonce": "1"}
        stand.put("APIKey", f"k{number}", spec)
    for number in range(len(ANSWERS)):
        await stand.until(lambda key=f"k{number}": _versions(stand, key) == ROTATED)  # type: ignore[misc]
        await stand.until(lambda key=f"k{number}": stand.condition("APIKey", key, "Ready") == "True")  # type: ignore[misc]
    await stand.rest(0.3)
    assert [fault.times for fault in stand.kube.faults] == [0] * len(stand.kube.faults)
    assert _live(stand) == [[1, 2]] * len(ANSWERS)
    held = {
        key.name: sorted(version.number for version in key.versions) for key in guard.accounts()["bank"].keys
    }
    assert held == {f"k{number}": [1, 2] for number in range(len(ANSWERS))}


@pytest.mark.parametrize(
    ("what", "answer"), [("/secrets/", 403), ("/networkpolicies/", 500), ("/status", 403)]
)
async def test_while_one_kind_is_refused_writes_stay_few(stand: Stand, what: str, answer: int) -> None:
    """A right that is missing, or a webhook of somebody's that fails: no loop, and it heals by itself."""
    await _settled(stand)
    stand.kube.fail(answer, times=10_000, matches=_writes(what))
    before = len(stand.writes())
    stand.kube.remove(kinds.NETWORK_POLICY, TENANT, "sendward-sms")
    stand.put("APIKey", "k0", {"account": "bank", "policy": "std", "revokeThrough": 1})
    await stand.until(lambda: sum(what in path for _, path in stand.writes()[before:]) >= 3)
    assert len(stand.writes()) - before < 60
    stand.kube.faults.clear()
    await stand.until(lambda: stand.condition("APIKey", "k0", "Revoked") == "True")
    await stand.until(lambda: stand.condition("APIKey", "k0", "Ready") == "True")
    await stand.until(lambda: stand.get(kinds.NETWORK_POLICY, "sendward-sms") is not None)
    assert _versions(stand) == [(1, "Revoked"), (2, "Current")]
    assert _live(stand) == [[2]]
