"""What counts as a change of an object."""

from typing import Any

from sendward.apply.statuses import canonical_of
from sendward.graph.store import Store
from sendward.resources.base import ObjectKey
from sendward.resources.parse import parse


def account(generation: int = 1, suspend: bool = False) -> dict[str, Any]:
    return {
        "apiVersion": "sendward.io/v1alpha1",
        "kind": "SenderAccount",
        "metadata": {
            "name": "acme",
            "namespace": "tenant",
            "uid": "u",
            "generation": generation,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"gateways": ["sms"], "suspend": suspend},
    }


def shown(store: Store, obj: dict[str, Any], version: str, status: dict[str, Any] | None = None) -> bool:
    full = {**obj, "status": status or {}}
    return store.apply(parse(full), canonical_of(full), version)


def test_spec_and_status_are_changes_and_an_echo_is_none() -> None:
    store = Store()
    assert shown(store, account(), "1")
    assert not shown(store, account(), "1")
    assert shown(store, account(2, suspend=True), "2")
    assert not shown(store, account(2, suspend=True), "3")
    assert shown(store, account(2, suspend=True), "4", {"observedGeneration": 7})
    assert not shown(store, account(2, suspend=True), "4", {"observedGeneration": 7})


def test_what_is_older_than_known_changes_nothing() -> None:
    store = Store()
    assert shown(store, account(2, suspend=True), "9")
    assert not shown(store, account(), "8", {"observedGeneration": 7})


def test_the_cidr_lists_of_a_gateway_follow_its_accounts() -> None:
    store = Store()
    for version, (name, cidrs) in enumerate([("a", ["10.0.0.0/8"]), ("b", ["10.0.0.0/8"]), ("c", None)]):
        obj = account()
        obj["metadata"] |= {"name": name, "uid": name}
        if cidrs:
            obj["spec"]["sourceCIDRs"] = cidrs
        shown(store, obj, str(version))
    lists = store.group("tenant").cidrs_of_gateway
    assert set(lists["sms"]) == {("10.0.0.0/8",), ()}
    store.delete(ObjectKey("SenderAccount", "tenant", "a"))
    assert set(lists["sms"]) == {("10.0.0.0/8",), ()}
    store.delete(ObjectKey("SenderAccount", "tenant", "b"))
    store.delete(ObjectKey("SenderAccount", "tenant", "c"))
    assert not lists
