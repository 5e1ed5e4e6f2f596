"""Graphs of objects: who refers to whom, sound or broken, through links, effective and compile.

Choices make up to three objects of each kind from few names, so that references meet, dangle and clash.
"""

from __future__ import annotations

from typing import Any

from sendward import document
from sendward.graph import effective, links
from sendward.graph.store import Store
from sendward.names import API_VERSION
from sendward.resources.base import Invalid, Model, ObjectKey, Resource
from sendward.resources.messaging_gateway import MessagingGatewaySpec
from sendward.resources.parse import parse
from sendward.resources.sender_account import SenderAccountSpec
from sendward.verdict import Reason
from tests.crds.cases import ACCOUNT, GATEWAY, KEY, LIMITS, MINIMAL, POLICY
from tests.fuzz.choices import Choices, changed
from tests.fuzz.target_resources import compile_account, compile_gateway, judge

NAMES = ("a", "b", "n", "1e3")
_KINDS = (GATEWAY, ACCOUNT, ACCOUNT, POLICY, KEY, KEY, LIMITS)
_SELECTORS: tuple[Any, ...] = (
    {"matchLabels": {"tier": "gold"}},
    {"matchLabels": {"tier": "gold", "n": "no"}},
    {"matchLabels": {}},
    {},
    "x",
    None,
)


def _spec(choices: Choices, kind: str) -> Any:
    spec = dict(MINIMAL[kind])
    if kind == ACCOUNT:
        spec["gateways"] = [choices.pick(NAMES) for _ in range(1 + choices.number(2))]
        spec["policies"] = {"apiKey": choices.pick(NAMES)} if choices.flip() else {}
        if choices.flip():
            spec["policies"] = {**spec["policies"], "rateLimit": choices.pick(NAMES)}
        spec["suspend"] = choices.number(4) == 1
    elif kind == KEY:
        spec["account"] = choices.pick(NAMES)
        if choices.flip():
            spec["policy"] = choices.pick(NAMES)
    elif kind in (POLICY, LIMITS) and choices.flip():
        spec["accountSelector"] = choices.pick(_SELECTORS)
    return changed(choices, spec) if choices.number(3) == 1 else spec


def _object(choices: Choices, number: int) -> dict[str, Any]:
    kind, name = choices.pick(_KINDS), choices.pick(NAMES)
    created = f"2026-01-{1 + choices.number(3):02}T00:00:00Z"
    labels = {"tier": "gold"} if choices.flip() else {}
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": "tenant",
        "uid": f"{kind}-{name}",
        "labels": labels,
    }
    metadata["creationTimestamp"] = created
    if choices.number(8) == 1:
        metadata["deletionTimestamp"] = created
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": _spec(choices, kind)}


def pipeline(data: bytes) -> None:
    """One namespace."""
    choices = Choices(data)
    found: dict[ObjectKey, Resource[Model] | Invalid] = {}
    for number in range(1 + choices.number(12)):
        item = parse(_object(choices, number))
        judge(item)
        found[item.meta.key] = item
    entries = compiled(found)
    for key, item in found.items():
        if isinstance(item.spec if isinstance(item, Resource) else None, SenderAccountSpec):
            rest = {other: value for other, value in found.items() if other != key}
            without = compiled(rest)
            assert without == {name: entry for name, entry in entries.items() if name != key.name}


def compiled(found: dict[ObjectKey, Resource[Model] | Invalid]) -> dict[str, document.Account]:
    """The entries of all accounts, by name; gateways compile too."""
    store = Store()
    for item in found.values():
        store.apply(item, b"{}", "1")
    entries = {}
    for key, item in found.items():
        if not isinstance(item, Resource):
            continue
        if isinstance(item.spec, MessagingGatewaySpec):
            compile_gateway(Resource(item.meta, item.spec))
        elif isinstance(item.spec, SenderAccountSpec):
            account = Resource(item.meta, item.spec)
            entry = compile_account(store, account)
            if entry is not None:
                entries[key.name] = entry
                _denied_for_a_reason(store, account, entry)
    return entries


def _denied_for_a_reason(store: Store, account: Resource[SenderAccountSpec], entry: document.Account) -> None:
    """What is broken denies its subject, and nothing else does."""
    group = store.group("tenant")
    found = links.of_account(group, account)
    if account.spec.suspend:
        assert entry.denied == Reason.AccountSuspended.code
    else:
        assert entry.denied == (Reason.AccountInvalid.code if found.limits_broken else "")
    assert found.limit_policy is not None or not entry.limits
    for key in effective.of_account(group, account).keys:
        [written] = [each for each in entry.keys if each.uid == key.key.meta.uid]
        assert written.denied == (Reason.KeyInvalid.code if key.policy is None else "")
        assert key.policy is not None or key.problems
