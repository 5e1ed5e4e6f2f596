"""Resolves references of one namespace; dangling, ambiguous or broken ones become Problems.

    key.policy  >  account.policies.apiKey  >  the oldest APIKeyPolicy that selects the account
                   account.policies.rateLimit > the oldest RateLimitPolicy that selects the account

No reference has a namespace, so none can cross one. References form a tree of fixed depth
(key, account, gateway or policy), so none can be circular.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sendward.conditions import ConditionType, Reason
from sendward.graph.problems import Problem
from sendward.graph.store import Group, Record, Records
from sendward.resources.api_key import APIKeySpec
from sendward.resources.api_key_policy import APIKeyPolicySpec
from sendward.resources.base import Invalid, Meta, Resource
from sendward.resources.messaging_gateway import MessagingGatewaySpec
from sendward.resources.rate_limit_policy import RateLimitPolicySpec
from sendward.resources.sender_account import SenderAccountSpec

REFS = ConditionType.RESOLVED_REFS


@dataclass(frozen=True, slots=True)
class AccountLinks:
    """What an account refers to. A policy is None when there is none or when it is broken
    (`problems` tells them apart).
    """

    gateways: tuple[Resource[MessagingGatewaySpec], ...]
    key_policy: Resource[APIKeyPolicySpec] | None
    limit_policy: Resource[RateLimitPolicySpec] | None
    problems: tuple[Problem, ...]
    limits_broken: bool


@dataclass(frozen=True, slots=True)
class KeyLinks:
    """What a key refers to."""

    account: Resource[SenderAccountSpec] | None
    policy: Resource[APIKeyPolicySpec] | None
    problems: tuple[Problem, ...]


def of_account(group: Group, account: Resource[SenderAccountSpec]) -> AccountLinks:
    """Resolve the gateways and policies of an account."""
    problems: list[Problem] = []
    gateways = []
    for index, name in enumerate(account.spec.gateways):
        found = _named(group.gateways, "MessagingGateway", name, f"spec.gateways[{index}]", problems)
        if found is not None:
            gateways.append(found)
    if not gateways:
        problems.append(Problem(REFS, Reason.NO_GATEWAY, "spec.gateways", "none of the gateways can be used"))
    named = account.spec.policies
    key_policy = _policy(group.key_policies, "APIKeyPolicy", named.api_key, "apiKey", account.meta, problems)
    before = len(problems)
    limit_policy = _policy(
        group.limit_policies, "RateLimitPolicy", named.rate_limit, "rateLimit", account.meta, problems
    )
    broken = len(problems) > before
    return AccountLinks(tuple(gateways), key_policy, limit_policy, tuple(problems), broken)


def of_key(group: Group, key: Resource[APIKeySpec], account: AccountLinks | None) -> KeyLinks:
    """Resolve the account and policy of a key. `account`: the links of its account, None when that
    account is missing or broken.
    """
    problems: list[Problem] = []
    found = _named(group.accounts, "SenderAccount", key.spec.account, "spec.account", problems)
    policy = None
    if key.spec.policy is not None:
        policy = _named(group.key_policies, "APIKeyPolicy", key.spec.policy, "spec.policy", problems)
    elif account is not None:
        policy = account.key_policy
        if policy is None:
            problems.append(
                Problem(
                    REFS,
                    Reason.NO_POLICY,
                    "spec.policy",
                    f"no usable APIKeyPolicy is named here or by SenderAccount {key.spec.account}, "
                    "and none selects it. Name one; without it the key is refused",
                )
            )
    return KeyLinks(found, policy, tuple(problems))


def _named(records: Records, kind: str, name: str, field: str, problems: list[Problem]) -> Resource | None:  # type: ignore[type-arg]
    record = records.get(name)
    if record is None or record.meta.deleting:
        gone = "is being deleted" if record is not None else "does not exist in this namespace"
        problems.append(
            Problem(REFS, Reason.NOT_FOUND, field, f"{kind} {name} {gone}. Create it, or name another")
        )
        return None
    if isinstance(record.item, Invalid):
        message = f"{kind} {name} is invalid ({record.item.errors[0]}). Correct it"
        problems.append(Problem(REFS, Reason.REFERENCE_INVALID, field, message))
        return None
    return record.item


def _policy(
    records: Records, kind: str, name: str | None, field: str, account: Meta, problems: list[Problem]
) -> Resource | None:  # type: ignore[type-arg]
    if name is not None:
        return _named(records, kind, name, f"spec.policies.{field}", problems)
    selecting = sorted(_selecting(records.values(), account), key=lambda r: (r.meta.created, r.meta.key.name))
    if not selecting:
        return None
    first = selecting[0]
    if isinstance(first.item, Invalid):
        message = f"{kind} {first.meta.key.name} selects this account and is invalid ({first.item.errors[0]})"
        problems.append(Problem(REFS, Reason.REFERENCE_INVALID, f"spec.policies.{field}", message))
        return None
    return first.item


def _selecting(records: Iterable[Record], account: Meta) -> Iterable[Record]:
    """Policies that select the account. An invalid policy selects by what can be read of its selector,
    and everybody when nothing can: a broken policy must not set its subjects free.
    """
    labels = dict(account.labels)
    for record in records:
        if record.meta.deleting:
            continue
        pairs: Iterable[tuple[str, str]] | None
        if isinstance(record.item, Invalid):
            pairs = record.item.selector
            if pairs == ():
                continue
        else:
            selector = record.item.spec.account_selector
            if selector is None:
                continue
            pairs = selector.match_labels.items()
        if pairs is None or all(labels.get(key) == value for key, value in pairs):
            yield record
