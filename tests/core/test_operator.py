from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from sendward import document, names
from sendward.apply import kinds
from sendward.graph.facts import Pod
from tests.core.stand import TENANT, Guard, Stand

GATEWAY: dict[str, Any] = {
    "http": {
        "port": 8443,
        "applicationPort": 8080,
        "operations": [{"name": "send", "method": "POST", "path": "/v1/messages"}],
    },
    "tls": {"vaultPKI": {"dnsNames": ["sms.example"]}},
    "sourceCIDRs": ["192.0.2.0/24"],
    "shards": 2,
}


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with Stand() as stand:
        yield stand


async def _settled(stand: Stand, accounts: int = 1, hand_over: str = "Vault") -> Guard:
    """A gateway with a guard, and accounts with one key each, all Ready and at rest."""
    stand.put("MessagingGateway", "sms", GATEWAY)
    stand.put("APIKeyPolicy", "std", {"handOver": {"type": hand_over}})
    guard = await stand.add_guard("sms-0", "sms")
    for number in range(accounts):
        _account(stand, number)
    await stand.until(
        lambda: all(stand.condition("APIKey", f"k{n}", "Ready") == "True" for n in range(accounts))
    )
    await stand.until(lambda: stand.condition("MessagingGateway", "sms", "Ready") == "True")
    await stand.rest()
    return guard


def _has_status(account: dict[str, Any]) -> bool:
    return bool(account.get("status", {}).get("conditions"))


def _account(stand: Stand, number: int) -> None:
    stand.put("SenderAccount", f"a{number}", {"gateways": ["sms"]})
    stand.put("APIKey", f"k{number}", {"account": f"a{number}", "policy": "std"})


async def test_an_account_becomes_ready_and_its_key_is_in_force(stand: Stand) -> None:
    guard = await _settled(stand)
    assert stand.condition("SenderAccount", "a0", "Ready") == "True"
    [key] = guard.accounts()["a0"].keys
    [version] = key.versions
    [entry] = stand.vault.kv.values()
    assert entry.versions[1] is not None
    assert entry.versions[1]["id"] == version.id
    assert stand.get(kinds.NETWORK_POLICY, "sendward-sms") is not None
    assert stand.get(kinds.SECRET, "sendward-sms-tls") is not None


async def test_fifty_accounts_cost_few_writes(stand: Stand) -> None:
    await _settled(stand, accounts=1)
    before, calls = len(stand.kube.requests), len(stand.vault.requests)
    for number in range(1, 51):
        _account(stand, number)
    await stand.until(lambda: all(stand.condition("APIKey", f"k{n}", "Ready") == "True" for n in range(51)))
    await stand.until(
        lambda: all(stand.condition("SenderAccount", f"a{n}", "Ready") == "True" for n in range(51))
    )
    await stand.rest()
    api = [request for request in stand.kube.requests[before:] if request[0] == "PATCH"]
    assert len([w for w in api if "senderaccounts" in w[1]]) == 50
    assert len([w for w in api if "apikeys" in w[1]]) == 100
    assert len(stand.vault.requests) - calls <= 55


async def test_a_restart_and_a_resync_write_nothing(stand: Stand) -> None:
    await _settled(stand, accounts=5)
    await stand.stop()
    before = Counter(stand.writes())
    await stand.start()
    pod = stand.operator.store.pod(TENANT, "sms-0")
    assert isinstance(pod, Pod)
    await stand.connect(pod)
    await stand.rest()
    stand.operator._loop.start_over()
    await stand.rest()
    assert Counter(stand.writes()) - before == Counter()
    assert stand.condition("APIKey", "k4", "Ready") == "True"


async def test_one_changed_account_costs_few_requests(stand: Stand) -> None:
    guard = await _settled(stand, accounts=20)
    before = len(stand.requests())
    stand.put("SenderAccount", "a7", {"gateways": ["sms"], "suspend": True})
    await stand.until(lambda: guard.accounts()["a7"].denied != "")
    await stand.until(lambda: stand.condition("SenderAccount", "a7", "Ready") == "True")
    await stand.rest()
    assert len(stand.requests()) - before < 10


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kinds.NETWORK_POLICY, "sendward-sms"),
        (kinds.SECRET, "sendward-sms-tls"),
        (kinds.SECRET, "sendward-sms-doc-gateway"),
        (kinds.SECRET, "sendward-sms-doc-0"),
        (kinds.SECRET, "k0-api-key"),
        (kinds.CONFIG_MAP, names.CONFIGMAP_HUB_CA),
    ],
    ids=lambda value: getattr(value, "kind", value),
)
async def test_what_somebody_deletes_or_edits_comes_back(stand: Stand, kind: Any, name: str) -> None:
    await _settled(stand, hand_over="Secret")
    field = "spec" if kind is kinds.NETWORK_POLICY else "data"
    stand.kube.remove(kind, TENANT, name)
    await stand.until(lambda: stand.get(kind, name) is not None)
    await stand.rest(0.3)
    found = stand.get(kind, name)
    assert found
    wanted = found[field]
    stand.kube.put(kind, {**found, field: {}})
    if name == "sendward-sms-tls":  # a certificate that was tampered with is replaced by another one
        await stand.until(lambda: set((stand.get(kind, name) or {}).get(field, {})) == set(wanted))
    else:
        await stand.until(lambda: (stand.get(kind, name) or {}).get(field) == wanted)


async def test_deletion_revokes_first(stand: Stand) -> None:
    guard = await _settled(stand)
    guard.hold()
    await stand.erase("APIKey", "k0")
    await stand.rest()
    assert stand.get(kinds.API_KEY, "k0") is not None
    assert stand.vault.kv
    await guard.release()
    await stand.until(lambda: stand.get(kinds.API_KEY, "k0") is None)
    assert not stand.vault.kv
    await stand.until(lambda: not guard.accounts())


async def test_revoked_is_said_after_the_acknowledgement(stand: Stand) -> None:
    guard = await _settled(stand)
    guard.hold()
    stand.put("APIKey", "k0", {"account": "a0", "policy": "std", "revokeThrough": 1})
    await stand.until(lambda: stand.condition("APIKey", "k0", "Revoked") == "False")
    await guard.release()
    await stand.until(lambda: stand.condition("APIKey", "k0", "Revoked") == "True")
    [key] = guard.accounts()["a0"].keys
    assert [v.revoked for v in key.versions if v.number == 1] == [True]
    await stand.until(lambda: stand.condition("APIKey", "k0", "Ready") == "True")
    [entry] = stand.vault.kv.values()
    assert entry.live == [2]


async def test_a_deleted_gateway_keeps_its_network_policy_until_its_pods_are_gone(stand: Stand) -> None:
    guard = await _settled(stand)
    await stand.erase("MessagingGateway", "sms")
    await stand.until(lambda: b'"deleted":true' in _gateway_part(guard))
    await stand.rest()
    assert stand.get(kinds.NETWORK_POLICY, "sendward-sms") is not None
    stand.kube.remove(kinds.POD, TENANT, "sms-0")
    await stand.until(lambda: stand.get(kinds.MESSAGING_GATEWAY, "sms") is None)
    left = [
        o["metadata"]["name"]
        for o in stand.kube.objects(kinds.SECRET) + stand.kube.objects(kinds.NETWORK_POLICY)
    ]
    assert [name for name in left if name.startswith("sendward-sms")] == []


def _gateway_part(guard: Guard) -> bytes:
    return msgspec.json.encode(document.open_gateway(guard.parts[names.PART_GATEWAY]))


async def test_twelve_hundred_accounts_over_three_pages_are_all_seen(stand: Stand) -> None:
    await stand.stop()
    stand.put("MessagingGateway", "sms", GATEWAY)
    for number in range(1200):
        meta = {"namespace": TENANT, "name": f"a{number}"}
        stand.kube.put(kinds.SENDER_ACCOUNT, {"metadata": meta, "spec": {"gateways": ["sms"]}})
    await stand.start()
    await stand.add_guard("sms-0", "sms")
    await stand.until(
        lambda: all(_has_status(account) for account in stand.kube.objects(kinds.SENDER_ACCOUNT))
    )
    assert stand.kube.count("GET", "/senderaccounts") >= 3


async def test_a_namespace_that_may_not_be_read_holds_up_no_other(stand: Stand) -> None:
    """Its Role is gone, or not there yet: the others are taken over by a new process all the same."""
    await _settled(stand)
    labels = {names.LABEL_ONBOARDED: "true"}
    stand.kube.put(kinds.NAMESPACE, {"metadata": {"name": "closed", "labels": labels}})
    stand.kube.fail(403, times=1_000_000, matches=lambda request: "/namespaces/closed/" in request.path)
    await stand.stop()
    await stand.start()
    _account(stand, 7)
    await stand.until(lambda: stand.condition("SenderAccount", "a7", "Accepted") == "True")
    assert "closed" not in stand.operator.store.opened
    stand.kube.faults.clear()
    await stand.until(lambda: "closed" in stand.operator.store.opened)
