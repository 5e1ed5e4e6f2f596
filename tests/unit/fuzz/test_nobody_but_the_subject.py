"""Whatever one tenant declares, nothing of anybody else changes, not even a resourceVersion.

The whole pipeline runs over an API server and a Vault in memory: what others have is compared before the
tenant comes, while it is there, and after it is gone.
"""

from __future__ import annotations

import copy
import json
from base64 import b64decode
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from sendward import document, names
from sendward.apply import kinds
from sendward.compile.cidrs import union
from sendward.document import Account, Gateway
from tests.core.harness import TENANT, World
from tests.fuzz.hostile import MARK
from tests.fuzz.profile import examples
from tests.fuzz.tenants import SHARED, Thing, things

OTHER = "other"
LATER = "2026-01-02T00:00:00Z"
KINDS = {kind.kind: kind for kind in kinds.OURS}
HTTP: dict[str, Any] = {
    "applicationPort": 8080,
    "operations": [
        {"name": "send", "path": "/v1/messages", "message": {"recipient": {"jsonPointer": "/to"}}},
        {"name": "status", "method": "GET", "path": "/v1/messages", "pathMatch": "Prefix"},
    ],
}
SOURCES = ["10.0.0.0/8", "192.0.2.0/24"]
GATEWAY: dict[str, Any] = {
    "http": HTTP, "tls": {"vaultPKI": {"dnsNames": ["sms.example"]}}, "sourceCIDRs": SOURCES, "shards": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Good:
    """An account of somebody else with its key."""

    name: str
    gateways: tuple[str, ...]
    cidrs: tuple[str, ...]
    named: bool  # whether it names its policies, or they select it by label


GOOD = st.builds(
    Good,
    st.sampled_from(["bank", "n", "no", "1e3", "a", "zz", "sendward-sms"]),
    st.sampled_from([(SHARED,), (OTHER,), (SHARED, OTHER)]),
    st.sampled_from([(), ("10.1.0.0/16",), ("192.0.2.7/32", "10.1.0.0/16")]),
    st.booleans(),
)


def populated(accounts: list[Good]) -> World:
    """A settled world without the tenant."""
    world = World()
    for name in (SHARED, OTHER):
        world.put("MessagingGateway", name, GATEWAY)
        world.add_guard(f"{name}-0", name)
    selector = {"accountSelector": {"matchLabels": {"tier": "gold"}}}
    world.put("APIKeyPolicy", "std", {**selector, "handOver": {"type": "Secret"}})
    world.put("RateLimitPolicy", "std", {**selector, "account": [{"messages": 5}], "key": [{"messages": 2}]})
    for good in accounts:
        spec: dict[str, Any] = {"gateways": list(good.gateways), "displayName": f"Account {good.name}"}
        if good.cidrs:
            spec["sourceCIDRs"] = list(good.cidrs)
        if good.named:
            spec["policies"] = {"apiKey": "std", "rateLimit": "std"}
        world.put("SenderAccount", good.name, spec, tier="gold")
        world.put("APIKey", good.name, {"account": good.name})
    world.settle()
    return world


@dataclass
class Picture:
    """What there is of everybody but the tenant."""

    objects: dict[tuple[str, str, str], str]
    entries: dict[str, dict[str, Account]]  # by gateway and account uid
    gateways: dict[str, Gateway]
    vault: dict[str, Any]


def owned(obj: dict[str, Any], tenant: set[str]) -> bool:
    labels = obj["metadata"].get("labels", {})
    return obj["metadata"]["uid"] in tenant or labels.get(names.LABEL_OWNER_UID) in tenant


def picture(world: World, tenant: set[str]) -> Picture:
    """`tenant`: uids of its objects. Shards are compared entry by entry, other objects whole."""
    found = Picture({}, {}, {}, {})
    for key, obj in world.kube.objects.items():
        if owned(obj, tenant):
            continue
        if obj["metadata"].get("labels", {}).get(names.LABEL_PART) != "document":
            found.objects[key] = json.dumps(obj, sort_keys=True)
            continue
        envelope = document.decode(b64decode(obj["data"]["document"]))
        if envelope.part == names.PART_GATEWAY:
            found.objects[key] = json.dumps(obj, sort_keys=True)
            found.gateways[envelope.gateway] = document.open_gateway(envelope)
            continue
        entries = found.entries.setdefault(envelope.gateway, {})
        entries.update({entry.uid: entry for entry in document.open_shard(envelope).accounts})
    keys = {uid for entries in found.entries.values() for entry in entries.values() for uid in [entry.uid]}
    assert MARK not in json.dumps(sorted(keys - tenant))
    found.vault = {path: entry.versions for path, entry in copy.deepcopy(world.vault.kv).items()}
    return found


def declare(world: World, tenant: list[Thing]) -> set[str]:
    """The tenant came last: of two policies that select an account, the older one wins."""
    for thing in tenant:
        metadata = {"namespace": TENANT, "name": thing.name, "labels": thing.labels}
        obj = {"metadata": metadata | {"creationTimestamp": LATER}, "spec": copy.deepcopy(thing.spec)}
        world.kube.put(KINDS[thing.kind], obj)
    return {world.get(thing.kind, thing.name)["metadata"]["uid"] for thing in tenant}


def internal_errors(world: World) -> float | None:
    return world.passes._metrics.registry.get_sample_value("sendward_internal_errors_total")


POLICY = ("networkpolicies", TENANT, names.network_policy(SHARED))
STATUS = ("messaginggateways", TENANT, SHARED)


def only_widened(before: str, after: str) -> None:
    """The shared gateway's NetworkPolicy may let the tenant in too, from where the gateway allows."""
    flows = []
    for text in (before, after):
        policy = json.loads(text)
        rules = policy["spec"]["ingress"]
        peers = [peer["ipBlock"]["cidr"] for rule in rules for peer in rule["from"]]
        flows.append(union(peers))
        del (
            policy["spec"]["ingress"],
            policy["metadata"]["resourceVersion"],
            policy["metadata"]["generation"],
            policy["metadata"]["annotations"],
        )
        flows.append(policy)
    old, old_rest, new, new_rest = flows
    assert old_rest == new_rest
    assert old & new == old
    assert new & union(SOURCES) == new
    assert all(ip_network(cidr) for cidr in new.cidrs())


def untouched(before: Picture, after: Picture, tenant: set[str]) -> None:
    assert before.objects.keys() == after.objects.keys()
    for key, text in before.objects.items():
        if key == POLICY and after.objects[key] != text:
            only_widened(text, after.objects[key])
        elif key == STATUS and after.objects[key] != text:
            assert _without_network(text) == _without_network(after.objects[key])
        else:
            assert after.objects[key] == text, key
        assert MARK not in after.objects[key]
    assert before.gateways == after.gateways
    for gateway, entries in before.entries.items():
        others = {uid: entry for uid, entry in after.entries[gateway].items() if uid not in tenant}
        assert others == entries
        assert MARK not in repr(others)
    assert {path: after.vault[path] for path in before.vault} == before.vault


def _without_network(text: str) -> Any:
    """A gateway whose NetworkPolicySound and resourceVersion may differ."""
    found = json.loads(text)
    del found["metadata"]["resourceVersion"]
    kept = [c for c in found["status"]["conditions"] if c["type"] != "NetworkPolicySound"]
    found["status"]["conditions"] = kept
    return found


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(GOOD, min_size=1, max_size=3, unique_by=lambda good: good.name), things(), things())
def test_a_hostile_tenant_changes_nothing_of_anybody_else(
    accounts: list[Good], first: list[Thing], second: list[Thing]
) -> None:
    """It comes, changes and adds to what it declares, and goes."""
    taken = {(thing.kind, thing.name) for thing in (*first, *second)}
    others = [g for g in accounts if not {("SenderAccount", g.name), ("APIKey", g.name)} & taken]
    world = populated(others)
    try:
        before = picture(world, set())
        tenant: set[str] = set()
        for hostile in (first, second):
            tenant |= declare(world, hostile)
            world.settle()
            after = picture(world, tenant)
            untouched(before, after, tenant)
            served = sum(uid in tenant for entries in after.entries.values() for uid in entries)
            event(f"entries of the tenant in documents: {served}")
            accepted = sum(world.condition(t.kind, t.name, "Accepted")[0] == "True" for t in hostile)
            event(f"objects accepted: {accepted} of {len(hostile)}")
        for kind, name in taken:
            world.erase(kind, name)
        world.settle()
        gone = picture(world, set())
        untouched(before, gone, set())
        assert gone.entries == before.entries
        assert gone.vault.keys() == before.vault.keys()
        assert internal_errors(world) == 0
    finally:
        world.close()
