"""Effective policies to the parts of the enforcement document. Equal input gives equal bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import structs

from sendward import document
from sendward.compile.envoy import files
from sendward.graph.effective import EffectiveAccount, EffectiveKey, EffectiveLimit
from sendward.resources.base import Resource
from sendward.resources.counters import RedisSpec
from sendward.resources.fields import seconds
from sendward.resources.messaging_gateway import MessagingGatewaySpec, OperationSpec, Place

Versions = Mapping[str, tuple[document.Version, ...]]  # by key uid


def account_entry(account: EffectiveAccount, versions: Versions) -> document.Account | None:
    """What the guards know of one account. `versions`: what each of its keys accepts now, or refuses.

    None while no key has a version: nobody can speak for the account, so there is nothing to know.
    """
    keys = [_key(key, found) for key in account.keys if (found := versions.get(key.key.meta.uid, ()))]
    if not keys:
        return None
    return document.Account(
        uid=account.account.meta.uid,
        name=account.account.meta.key.name,
        denied=account.denied.code if account.denied else "",
        cidrs=[list(cidrs) for cidrs in account.cidrs],
        sender_ids=account.account.spec.sender_ids,
        limits=_limits(account.limits),
        keys=keys,
    )


def _key(key: EffectiveKey, versions: tuple[document.Version, ...]) -> document.Key:
    return document.Key(
        uid=key.key.meta.uid,
        name=key.key.meta.key.name,
        versions=list(versions),
        operations=None if key.operations is None else list(key.operations),
        cidrs=[list(cidrs) for cidrs in key.cidrs],
        limits=_limits(key.limits),
        denied=key.denied.code if key.denied else "",
    )


def _limits(limits: tuple[EffectiveLimit, ...]) -> list[document.Limit]:
    return [document.Limit(limit.messages, limit.period, limit.burst, limit.audit) for limit in limits]


def shard(entries: Iterable[document.Account]) -> document.Shard:
    """The content of one shard."""
    return document.Shard(sorted(entries, key=lambda entry: entry.uid))


def without_growth(
    entries: Mapping[str, document.Account], sent: Iterable[document.Account]
) -> dict[str, document.Account]:
    """What of a shard fits where `sent` fitted: accounts and key versions that are new wait, whatever
    was taken away or revoked is taken away.
    """
    before = {account.uid: account for account in sent}
    kept = {}
    for uid, entry in entries.items():
        old = before.get(uid)
        if old is None:
            continue
        known = {version.id for key in old.keys for version in key.versions}
        keys = [
            structs.replace(key, versions=[version for version in key.versions if version.id in known])
            for key in entry.keys
        ]
        kept[uid] = structs.replace(entry, keys=keys)
    return kept


def gateway_part(gateway: Resource[MessagingGatewaySpec], pods: int) -> document.Gateway:
    """The content of the part `gateway`. `pods`: how many pods are known."""
    spec = gateway.spec
    return document.Gateway(
        uid=gateway.meta.uid,
        namespace=gateway.meta.key.namespace,
        name=gateway.meta.key.name,
        shards=spec.shards,
        operations=[_operation(operation) for operation in spec.http.operations],
        cidrs=list(spec.source_cidrs),
        envoy=files(spec),
        application_port=spec.http.application_port,
        pods=pods,
        stale_after=None if spec.stale_after == "Never" else seconds(spec.stale_after),
        audit=spec.mode == "Audit",
        refuse_exposure=spec.application_exposure == "Refuse",
        deleted=gateway.meta.deleting,
        counters=_counters(spec.limits.redis),
    )


def _counters(redis: RedisSpec | None) -> document.Redis | None:
    return None if redis is None else document.Redis(redis.host, redis.port, redis.tls)


def _operation(spec: OperationSpec) -> document.Operation:
    message = spec.message
    return document.Operation(
        name=spec.name,
        method=spec.method,
        path=spec.path,
        prefix=spec.path_match == "Prefix",
        recipient=_place(message.recipient) if message else None,
        sender_id=_place(message.sender_id) if message else None,
        text=_place(message.text) if message else None,
    )


def _place(place: Place | None) -> document.Place | None:
    if place is None:
        return None
    if place.json_pointer is not None:
        return document.Place("jsonPointer", place.json_pointer)
    if place.query_parameter is not None:
        return document.Place("queryParameter", place.query_parameter)
    return document.Place("formField", place.form_field or "")
