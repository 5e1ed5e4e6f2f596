"""Somebody changes or deletes an object of ours while the answer to our own write is on its way: the watch
tells it first, and what we note of our write afterwards must not hide it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from sendward import names
from sendward.apply import kinds
from sendward.apply.ports import Kind, Object
from tests.core.stand import TENANT, Stand
from tests.core.test_operator import GATEWAY

OURS: list[tuple[str, Kind, str]] = [
    ("document", kinds.SECRET, names.document_secret("sms", "gateway")),
    ("policy", kinds.NETWORK_POLICY, names.network_policy("sms")),
    ("hand-over", kinds.SECRET, names.hand_over_secret("k")),
    ("certificate", kinds.SECRET, names.tls_secret("sms")),
]


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with Stand() as stand:
        stand.put("MessagingGateway", "sms", GATEWAY)
        stand.put("APIKeyPolicy", "std", {"handOver": {"type": "Secret"}})
        await stand.add_guard("sms-0", "sms")
        stand.put("SenderAccount", "bank", {"gateways": ["sms"]})
        stand.put("APIKey", "k", {"account": "bank", "policy": "std"})
        await stand.until(lambda: stand.condition("APIKey", "k", "Ready") == "True")
        await stand.until(lambda: stand.condition("MessagingGateway", "sms", "Ready") == "True")
        await stand.rest(0.3)
        yield stand


def edit(stand: Stand, kind: Kind, name: str) -> None:
    obj = stand.get(kind, name)
    assert obj is not None
    if kind == kinds.SECRET:
        obj["data"] = dict.fromkeys(obj["data"], "eA==")
    else:
        obj["spec"]["ingress"] = []
    stand.kube.put(kind, obj)


def delete(stand: Stand, kind: Kind, name: str) -> None:
    stand.kube.remove(kind, TENANT, name)


@pytest.mark.parametrize("harm", [edit, delete])
@pytest.mark.parametrize(("kind", "name"), [one[1:] for one in OURS], ids=[one[0] for one in OURS])
async def test_it_is_restored(
    stand: Stand, kind: Kind, name: str, harm: Callable[[Stand, Kind, str], None]
) -> None:
    def content() -> Object | None:
        found = stand.get(kind, name)
        return found and {field: found.get(field) for field in ("data", "spec")}

    before = content()
    harmed: list[Object | None] = []

    async def again() -> None:
        harm(stand, kind, name)
        harmed.append(content())
        await asyncio.sleep(0.2)  # the watch tells of it before the answer to our write is given

    path = f"/{kind.plural}/{name}"
    stand.kube.fail(again, matches=lambda request: request.method == "PATCH" and request.path.endswith(path))
    harm(stand, kind, name)
    await stand.until(lambda: bool(harmed))
    assert harmed[0] != before
    if name == names.tls_secret("sms"):  # issued anew: another certificate
        await stand.until(lambda: content() not in (None, harmed[0]))
    else:
        await stand.until(lambda: content() == before)
    await stand.until(lambda: stand.condition("MessagingGateway", "sms", "Ready") == "True")
