from typing import Any

import pytest

from sendward import names
from sendward.conditions import Reason
from sendward.graph import effective, links
from sendward.graph.store import Group, Store
from sendward.resources.base import ObjectKey, Resource
from sendward.resources.parse import parse
from sendward.verdict import Reason as Refusal

NS = "tenant"
GATEWAY: dict[str, Any] = {
    "http": {
        "port": 8443,
        "applicationPort": 8080,
        "operations": [{"name": "send", "method": "POST", "path": "/send"}],
    },
    "tls": {"secretName": "tls"},
    "sourceCIDRs": ["192.0.2.0/24"],
}
LIMIT = {"account": [{"messages": 5}]}
BULK = {"accountSelector": {"matchLabels": {"tier": "bulk"}}}


def _obj(
    kind: str, name: str, spec: Any, age: int = 5, deleting: bool = False, **labels: str
) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "name": name,
        "namespace": NS,
        "uid": f"uid-{name}",
        "labels": labels,
        "creationTimestamp": f"2026-01-{20 - age:02}T00:00:00Z",
    }
    if deleting:
        meta["deletionTimestamp"] = "2026-02-01T00:00:00Z"
    return {"apiVersion": names.API_VERSION, "kind": kind, "metadata": meta, "spec": spec}


def _group(*objects: dict[str, Any]) -> Group:
    store = Store()
    for obj in objects:
        store.apply(parse(obj), b"{}", "1")
    return store.group(NS)


def _account(group: Group, name: str = "bank") -> effective.EffectiveAccount:
    item = group.accounts[name].item
    assert isinstance(item, Resource)
    return effective.of_account(group, item)


GW = _obj("MessagingGateway", "sms", GATEWAY)
BANK = _obj("SenderAccount", "bank", {"gateways": ["sms"]}, tier="bulk")
NAMING = _obj("SenderAccount", "bank", {"gateways": ["sms"], "policies": {"rateLimit": "named"}}, tier="bulk")
INVALID = {"account": [{"messages": -1}]}


@pytest.mark.parametrize(
    ("account", "policies", "chosen", "denied"),
    [
        pytest.param(BANK, [], None, False, id="none"),
        pytest.param(BANK, [("a", LIMIT, 9)], None, False, id="one that selects nobody"),
        pytest.param(BANK, [("a", LIMIT | BULK, 1)], "a", False, id="selected"),
        pytest.param(BANK, [("a", LIMIT | BULK, 1), ("b", LIMIT | BULK, 9)], "b", False, id="the older"),
        pytest.param(
            BANK, [("b", LIMIT | BULK, 3), ("a", LIMIT | BULK, 3)], "a", False, id="one age: by name"
        ),
        pytest.param(
            NAMING, [("named", LIMIT, 1), ("old", LIMIT | BULK, 9)], "named", False, id="named wins"
        ),
        pytest.param(NAMING, [("old", LIMIT | BULK, 9)], None, True, id="a dangling name is not replaced"),
        pytest.param(NAMING, [("named", INVALID, 1)], None, True, id="named and invalid"),
        pytest.param(BANK, [("a", INVALID | BULK, 1)], None, True, id="invalid and selecting"),
        pytest.param(BANK, [("a", INVALID, 1)], None, False, id="invalid, for those who name it"),
        pytest.param(
            BANK,
            [("a", INVALID | {"accountSelector": {"matchLabels": {"tier": "other"}}}, 1)],
            None,
            False,
            id="invalid and selecting others",
        ),
        pytest.param(
            BANK, [("a", LIMIT | {"accountSelector": 7}, 1)], None, True, id="unreadable: everybody"
        ),
        pytest.param(
            BANK,
            [("a", LIMIT | {"accountSelector": {"matchLabels": {}}}, 1)],
            None,
            True,
            id="empty: everybody",
        ),
        pytest.param(
            BANK, [("a", INVALID | BULK, 1), ("b", LIMIT | BULK, 9)], "b", False, id="older and sound"
        ),
    ],
)
def test_which_limits_apply(account: Any, policies: list[Any], chosen: str | None, denied: bool) -> None:
    found = _account(_group(GW, account, *(_obj("RateLimitPolicy", *policy) for policy in policies)))
    assert (found.limit_policy.meta.key.name if found.limit_policy else None) == chosen
    assert found.denied == (Refusal.AccountInvalid if denied else None)
    assert bool(found.problems) == denied


def test_a_policy_that_is_being_deleted_is_not_there() -> None:
    leaving = _obj("RateLimitPolicy", "a", LIMIT | BULK, 5, True)
    assert _account(_group(GW, BANK, leaving)).limit_policy is None
    named = _account(_group(GW, NAMING, _obj("RateLimitPolicy", "named", LIMIT, 5, True)))
    assert named.denied is Refusal.AccountInvalid


def test_suspension_is_told_before_a_broken_policy() -> None:
    account = _obj(
        "SenderAccount", "bank", {"gateways": ["sms"], "suspend": True, "policies": {"rateLimit": "gone"}}
    )
    assert _account(_group(GW, account)).denied is Refusal.AccountSuspended


def test_a_missing_gateway_is_told_and_the_others_serve() -> None:
    account = _obj("SenderAccount", "bank", {"gateways": ["gone", "sms"]})
    found = _account(_group(GW, account))
    assert found.gateways == ("sms",)
    assert [(p.reason, p.field) for p in found.problems] == [(Reason.NOT_FOUND, "spec.gateways[0]")]
    lost = _account(_group(account))
    assert Reason.NO_GATEWAY in [p.reason for p in lost.problems]


def _key(policy: dict[str, Any], **spec: Any) -> effective.EffectiveKey:
    key = _obj("APIKey", "k", {"account": "bank", "policy": "std", **spec})
    [found] = _account(_group(GW, BANK, _obj("APIKeyPolicy", "std", policy), key)).keys
    return found


@pytest.mark.parametrize(
    ("policy", "key", "expected"),
    [
        (None, None, None),
        (["send"], None, ("send",)),
        (None, ["send"], ("send",)),
        (["send", "balance"], ["send"], ("send",)),
        (["balance"], ["send"], ()),
    ],
)
def test_operations_intersect(policy: Any, key: Any, expected: Any) -> None:
    spec = {"operations": policy} if policy else {}
    assert _key(spec, **({"operations": key} if key else {})).operations == expected


def test_cidrs_are_one_list_for_each_that_narrows() -> None:
    found = _key({"sourceCIDRs": ["192.0.2.0/25"]}, sourceCIDRs=["192.0.2.1/32"])
    assert found.cidrs == (("192.0.2.0/25",), ("192.0.2.1/32",))
    assert _key({}).cidrs == ()


def test_limits_carry_burst_and_audit() -> None:
    policy = _obj(
        "RateLimitPolicy",
        "a",
        BULK
        | {"mode": "Audit", "account": [{"messages": 5, "per": "1m"}], "key": [{"messages": 2, "burst": 9}]},
    )
    found = _account(_group(GW, BANK, policy, _obj("APIKey", "k", {"account": "bank"})))
    assert found.limits == (effective.EffectiveLimit(5, 60, 5, True),)
    assert found.keys[0].limits == (effective.EffectiveLimit(2, 1, 9, True),)


def test_a_key_without_a_policy_is_refused() -> None:
    key = _obj("APIKey", "k", {"account": "bank"})
    [found] = _account(_group(GW, BANK, key)).keys
    assert found.denied is Refusal.KeyInvalid
    assert [p.reason for p in found.problems] == [Reason.NO_POLICY]
    [served] = _account(_group(GW, BANK, key, _obj("APIKeyPolicy", "a", BULK))).keys
    assert served.denied is None
    assert served.problems == ()


def test_a_key_of_a_missing_account_says_so() -> None:
    group = _group(_obj("APIKey", "k", {"account": "gone", "policy": "std"}), _obj("APIKeyPolicy", "std", {}))
    item = group.keys["k"].item
    assert isinstance(item, Resource)
    assert [p.field for p in links.of_key(group, item, None).problems] == ["spec.account"]


def test_an_echo_and_an_older_event_are_no_change() -> None:
    store, item = Store(), parse(BANK)
    assert store.apply(item, b"{}", "5")
    assert not store.apply(item, b"{}", "6")
    assert not store.apply(parse(NAMING), b"{}", "4")
    key = ObjectKey("SenderAccount", NS, "bank")
    record = store.get(key)
    assert record is not None
    assert (record.item, record.version) == (item, "6")
    assert not store.delete(key, "uid-of-another")
    assert store.reset("SenderAccount", []) == [key]
    assert store.group(NS).accounts_of_gateway["sms"] == set()
