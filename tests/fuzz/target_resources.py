"""Custom resources: `parse` is total, and what it accepts goes through the whole pure pipeline.

The first byte names the kind, the second says whether the rest is JSON of a spec, or choices that change
a sound one.
"""

from __future__ import annotations

import json
from typing import Any

from sendward import document
from sendward.compile.document import account_entry, gateway_part, shard
from sendward.compile.networkpolicy import network_policy
from sendward.graph import effective
from sendward.graph.store import Store
from sendward.guard.policy import Policy, gateway_view
from sendward.names import API_VERSION
from sendward.resources.base import Invalid, Model, Resource
from sendward.resources.kinds import KINDS
from sendward.resources.messaging_gateway import MessagingGatewaySpec
from sendward.resources.parse import MAX_ERRORS, parse, parse_status
from sendward.resources.sender_account import SenderAccountSpec
from tests.crds.cases import MINIMAL
from tests.fuzz.choices import Choices, changed

_LONGEST_ERROR = 600  # characters; a value is quoted with 80 of them


def resources(data: bytes) -> None:
    """One object."""
    choices = Choices(data)
    kind = choices.pick(KINDS).name
    metadata: Any = {"name": "case", "namespace": "tenant", "uid": "u", "labels": {"tier": "gold"}}
    if choices.flip():
        try:
            spec = json.loads(choices.rest())
        except (ValueError, RecursionError):
            return
    else:
        spec = changed(choices, MINIMAL[kind])
        metadata = changed(choices, metadata)
    obj = {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec, "status": spec}
    parse_status(kind, obj)
    judge(parse(obj))


def judge(found: Resource[Model] | Invalid) -> None:
    """An invalid object says why, in few words; a sound one is read back as it was, and compiles."""
    if isinstance(found, Invalid):
        assert 1 <= len(found.errors) <= MAX_ERRORS
        assert all(error.isprintable() and len(error) <= _LONGEST_ERROR for error in found.errors)
        return
    again = type(found.spec).model_validate(
        found.spec.model_dump(by_alias=True, exclude_unset=True), strict=True
    )
    assert again == found.spec
    if isinstance(found.spec, MessagingGatewaySpec):
        compile_gateway(Resource(found.meta, found.spec))
    elif isinstance(found.spec, SenderAccountSpec):
        store = Store()
        store.apply(found, b"{}", "1")
        compile_account(store, Resource(found.meta, found.spec))


def compile_gateway(gateway: Resource[MessagingGatewaySpec]) -> document.Gateway:
    """Its part is written, read back and judged by; its NetworkPolicy has no rule that admits everybody."""
    part = gateway_part(gateway, 1)
    sealed = document.Envelope("g", "gateway", 1, 1, document.compress(part), b"")
    assert document.open_gateway(sealed) == part
    gateway_view(part)
    key = gateway.meta.key
    policy, _ = network_policy(
        name=key.name, namespace=key.namespace, uid="u", spec=gateway.spec, account_cidrs=[None]
    )
    spec: Any = policy["spec"]
    assert all(rule["from"] and rule["ports"] for rule in spec["ingress"])
    assert all(rule["to"] and rule["ports"] for rule in spec["egress"])
    return part


def compile_account(store: Store, account: Resource[SenderAccountSpec]) -> document.Account | None:
    """Its entry is written, read back and judged by; None when nobody can speak for it."""
    found = effective.of_account(store.group(account.meta.key.namespace), account)
    version = document.Version("0123456789", 1, "0" * 64)
    entry = account_entry(found, {key.key.meta.uid: (version,) for key in found.keys})
    content = shard([] if entry is None else [entry])
    sealed = document.Envelope("g", "0", 1, 1, document.compress(content), b"")
    assert document.open_shard(sealed) == content
    Policy().set_shard(0, content)
    return entry
