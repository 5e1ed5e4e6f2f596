"""RateLimitPolicy: how fast an account and each of its keys may send."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sendward.resources.api_key_policy import AccountSelector
from sendward.resources.base import Model
from sendward.resources.fields import Duration


class LimitSpec(Model):
    """`messages` per `per`, at most `burst` at once (default: `messages`)."""

    messages: Annotated[int, Field(ge=1, le=10_000_000)]
    per: Duration = "1s"
    burst: Annotated[int, Field(ge=1, le=10_000_000)] | None = None


class RateLimitPolicySpec(Model):
    """Applies to accounts that name it, else to accounts it selects."""

    account_selector: AccountSelector | None = None
    account: Annotated[list[LimitSpec], Field(max_length=4)] = []
    key: Annotated[list[LimitSpec], Field(max_length=4)] = []
    mode: Literal["Enforce", "Audit"] = "Enforce"
