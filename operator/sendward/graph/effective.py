"""The effective policy of an account and its keys: references resolved, policies merged, nothing left
to look up. A broken part denies its subject (I11): `denied` holds the reason the sender is given.
"""

from __future__ import annotations

from dataclasses import dataclass

from sendward.conditions import ConditionType, Reason
from sendward.graph import links
from sendward.graph.problems import Problem
from sendward.graph.store import Group
from sendward.resources.api_key import APIKeySpec
from sendward.resources.api_key_policy import APIKeyPolicySpec
from sendward.resources.base import Resource
from sendward.resources.fields import seconds
from sendward.resources.rate_limit_policy import LimitSpec, RateLimitPolicySpec
from sendward.resources.sender_account import SenderAccountSpec
from sendward.verdict import Reason as Refusal

CIDRLists = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class EffectiveLimit:
    """`messages` per `period` seconds, at most `burst` at once."""

    messages: int
    period: int
    burst: int
    audit: bool


@dataclass(frozen=True, slots=True)
class EffectiveKey:
    """What one key may do. A source must be in one network of each list of `cidrs`."""

    key: Resource[APIKeySpec]
    policy: Resource[APIKeyPolicySpec] | None
    operations: tuple[str, ...] | None
    cidrs: CIDRLists
    limits: tuple[EffectiveLimit, ...]
    denied: Refusal | None
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class EffectiveAccount:
    """What one account may do. `gateways`: names of those that exist."""

    account: Resource[SenderAccountSpec]
    gateways: tuple[str, ...]
    key_policy: Resource[APIKeyPolicySpec] | None
    limit_policy: Resource[RateLimitPolicySpec] | None
    cidrs: CIDRLists
    limits: tuple[EffectiveLimit, ...]
    denied: Refusal | None
    problems: tuple[Problem, ...]
    keys: tuple[EffectiveKey, ...]


def of_account(group: Group, account: Resource[SenderAccountSpec]) -> EffectiveAccount:
    """Merge everything that applies to an account. Keys come sorted by uid, deleted ones included."""
    found = links.of_account(group, account)
    denied = None
    if account.spec.suspend:
        denied = Refusal.AccountSuspended
    elif found.limits_broken:
        denied = Refusal.AccountInvalid
    policy = found.limit_policy
    known = frozenset(op.name for gateway in found.gateways for op in gateway.spec.http.operations)
    keys = [
        _key(group, record.item, found, known)
        for name in group.keys_of_account.get(account.meta.key.name, ())
        if isinstance((record := group.keys[name]).item, Resource)
    ]
    return EffectiveAccount(
        account=account,
        gateways=tuple(gateway.meta.key.name for gateway in found.gateways),
        key_policy=found.key_policy,
        limit_policy=policy,
        cidrs=_lists(account.spec.source_cidrs),
        limits=_limits(policy.spec.account, policy.spec) if policy else (),
        denied=denied,
        problems=found.problems,
        keys=tuple(sorted(keys, key=lambda key: key.key.meta.uid)),
    )


def orphan_key(group: Group, key: Resource[APIKeySpec]) -> EffectiveKey:
    """A key whose account is missing or broken: in no document, and it says why."""
    return _key(group, key, None, frozenset())


def _key(
    group: Group, key: Resource[APIKeySpec], account: links.AccountLinks | None, known: frozenset[str]
) -> EffectiveKey:
    found = links.of_key(group, key, account)
    problems = list(found.problems)
    policy = found.policy
    limits = account.limit_policy if account else None
    operations = _narrowest(key.spec.operations, policy.spec.operations if policy else None)
    if account is not None:
        for index, name in enumerate(key.spec.operations or ()):
            if name not in known:
                message = f"no gateway of the account has an operation {name}. Correct the name"
                field = f"spec.operations[{index}]"
                problems.append(
                    Problem(ConditionType.RESOLVED_REFS, Reason.UNKNOWN_OPERATION, field, message)
                )
    return EffectiveKey(
        key=key,
        policy=policy,
        operations=operations,
        cidrs=_lists(policy.spec.source_cidrs if policy else None) + _lists(key.spec.source_cidrs),
        limits=_limits(limits.spec.key, limits.spec) if limits else (),
        denied=Refusal.KeyInvalid if policy is None else None,
        problems=tuple(problems),
    )


def _narrowest(first: list[str] | None, second: list[str] | None) -> tuple[str, ...] | None:
    if first is None and second is None:
        return None
    if first is None or second is None:
        return tuple(sorted(first if first is not None else second or ()))
    return tuple(sorted(set(first) & set(second)))


def _lists(cidrs: list[str] | None) -> CIDRLists:
    return () if cidrs is None else (tuple(cidrs),)


def _limits(specs: list[LimitSpec], policy: RateLimitPolicySpec) -> tuple[EffectiveLimit, ...]:
    audit = policy.mode == "Audit"
    return tuple(
        EffectiveLimit(limit.messages, seconds(limit.per), limit.burst or limit.messages, audit)
        for limit in specs
    )
