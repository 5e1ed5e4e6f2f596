"""SenderAccount: a customer who sends messages through one or more gateways."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sendward.resources.base import Model
from sendward.resources.fields import TEXT_PATTERN, Name, SenderId, SourceCIDRs
from sendward.resources.rules import Unique


class AccountPolicies(Model):
    """Policies by name; a named one wins over one that selects the account by label."""

    api_key: Annotated[
        Name | None,
        Field(
            description="APIKeyPolicy for keys that name none. Absent: one that selects the account.",
            examples=["standard"],
        ),
    ] = None
    rate_limit: Annotated[
        Name | None,
        Field(
            description="RateLimitPolicy of the account. Absent: one that selects the account.",
            examples=["bulk"],
        ),
    ] = None


class SenderAccountSpec(Model):
    """Who sends, from where, under which sender ids."""

    display_name: Annotated[
        str,
        Field(
            max_length=128,
            pattern=TEXT_PATTERN,
            description="Name of the customer, for people.",
            examples=["Example Bank"],
        ),
    ] = ""
    gateways: Annotated[
        list[Name],
        Field(
            min_length=1,
            max_length=16,
            description="MessagingGateways of this namespace through which the account may send.",
            examples=[["sms"]],
        ),
        Unique(),
    ]
    source_cidrs: Annotated[
        SourceCIDRs | None,
        Field(
            description="Networks the account may send from, within the gateway's. Absent: not narrowed.",
            examples=[["192.0.2.0/28"]],
        ),
    ] = None
    sender_ids: Annotated[
        Annotated[list[SenderId], Field(min_length=1, max_length=256), Unique()] | None,
        Field(
            description="Sender ids that the account may use; exact, case counts. Absent: any.",
            examples=[["ExampleBank", "+15550100"]],
        ),
    ] = None
    suspend: Annotated[
        bool,
        Field(description="Refuse all messages of the account, until it is false again.", examples=[True]),
    ] = False
    policies: Annotated[
        AccountPolicies,
        Field(description="Policies by name; a named one wins over one that selects the account by label."),
    ] = AccountPolicies()
