"""RateLimitPolicy: how fast an account and each of its keys may send."""

# ruff: noqa: RUF012 - pydantic copies default lists

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from sendward.resources.api_key_policy import AccountSelector
from sendward.resources.base import Model
from sendward.resources.fields import Duration, at_most, seconds
from sendward.resources.rules import Rule, cel_is_duration, cel_seconds


class LimitSpec(Model):
    """`messages` per `per`, at most `burst` at once (default: `messages`)."""

    messages: Annotated[
        int,
        Field(ge=1, le=10_000_000, description="Messages in each period, a count.", examples=[100]),
    ]
    per: Annotated[
        Duration,
        Field(description="The period, a duration of at most 31d.", examples=["1m"]),
        at_most("31d"),
    ] = "1s"
    burst: (
        Annotated[
            int,
            Field(
                ge=1,
                le=10_000_000,
                description="Messages that may come at once, a count. Absent: as many as messages.",
                examples=[20],
            ),
        ]
        | None
    ) = None


def _periods_differ(limits: list[LimitSpec]) -> bool:
    return len({seconds(limit.per) for limit in limits}) == len(limits)


_PERIODS_DIFFER: Final = Rule(
    cel=f"!self.all(a, {cel_is_duration('a.per')})"
    f" || self.all(a, self.exists_one(b, {cel_seconds('a.per')} == {cel_seconds('b.per')}))",
    message="has two limits with the same period (per). Keep the one that is meant",
    holds=_periods_differ,
)


class RateLimitPolicySpec(Model):
    """Applies to accounts that name it, else to accounts it selects."""

    object_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="size(self.account) + size(self.key) > 0",
            message="limits nothing. Add a limit to account or to key",
            holds=lambda spec: len(spec.account) + len(spec.key) > 0,
        ),
    )

    account_selector: Annotated[
        AccountSelector | None,
        Field(description="Accounts that the policy applies to. Absent: those that name it."),
    ] = None
    account: Annotated[
        list[LimitSpec],
        Field(max_length=4, description="Limits of a whole account, over all its keys. All of them apply."),
        _PERIODS_DIFFER,
    ] = []
    key: Annotated[
        list[LimitSpec],
        Field(max_length=4, description="Limits of each key, over all its versions. All of them apply."),
        _PERIODS_DIFFER,
    ] = []
    mode: Annotated[
        Literal["Enforce", "Audit"],
        Field(description="Audit: the limits are counted and reported, but let pass.", examples=["Audit"]),
    ] = "Enforce"
