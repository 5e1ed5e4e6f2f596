"""SenderAccount: a customer who sends messages through one or more gateways."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sendward.resources.base import Model
from sendward.resources.fields import CIDR, Name, SenderId


class AccountPolicies(Model):
    """Policies by name; a named one wins over one that selects the account by label."""

    api_key: Name | None = None
    rate_limit: Name | None = None


class SenderAccountSpec(Model):
    """Who sends, from where, under which sender ids."""

    display_name: Annotated[str, Field(max_length=128)] = ""
    gateways: Annotated[list[Name], Field(min_length=1, max_length=16)]
    source_cidrs: Annotated[list[CIDR], Field(min_length=1, max_length=64)] | None = None
    sender_ids: Annotated[list[SenderId], Field(min_length=1, max_length=256)] | None = None
    suspend: bool = False
    policies: AccountPolicies = AccountPolicies()
