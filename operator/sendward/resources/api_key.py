"""APIKey: a credential of one account."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sendward.resources.base import Model
from sendward.resources.fields import PRINTABLE_PATTERN, Name, OperationNames, SourceCIDRs
from sendward.resources.rules import Transition


class APIKeySpec(Model):
    """Narrower than its policy, never wider."""

    account: Annotated[
        Name, Field(description="SenderAccount of this namespace that the key belongs to.", examples=["bank"])
    ]
    policy: Annotated[
        Name | None,
        Field(
            description="APIKeyPolicy of this namespace. Absent: the account's.",
            examples=["standard"],
        ),
    ] = None
    operations: Annotated[
        OperationNames | None,
        Field(
            description="Operations that the key may call, within its policy's. Absent: not narrowed.",
            examples=[["send"]],
        ),
    ] = None
    source_cidrs: Annotated[
        SourceCIDRs | None,
        Field(
            description="Networks from which the key may be used, within the account's, the policy's and the"
            " gateway's. Absent: not narrowed.",
            examples=[["192.0.2.10/32"]],
        ),
    ] = None
    rotate_nonce: Annotated[
        str,
        Field(
            max_length=64,
            pattern=PRINTABLE_PATTERN,
            description="Change it to any other value to have the key rotated now.",
            examples=["2026-03-01"],
        ),
    ] = ""
    # A version that was revoked never comes back, so the number may only grow.
    revoke_through: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="Every version up to this number is revoked. May only grow.",
            examples=[3],
        ),
        Transition(
            "self >= oldSelf",
            "may only grow: a revoked version never comes back. Write the old value or a higher one",
        ),
    ] = 0
