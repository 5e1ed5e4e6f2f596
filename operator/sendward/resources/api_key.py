"""APIKey: a credential of one account."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sendward.resources.base import Model
from sendward.resources.fields import CIDR, Name, OperationName


class APIKeySpec(Model):
    """Narrower than its policy, never wider."""

    account: Name
    policy: Name | None = None
    operations: Annotated[list[OperationName], Field(min_length=1, max_length=32)] | None = None
    source_cidrs: Annotated[list[CIDR], Field(min_length=1, max_length=64)] | None = None
    rotate_nonce: Annotated[str, Field(max_length=64)] = ""
    # Every version up to this number is revoked; may only grow.
    revoke_through: Annotated[int, Field(ge=0, le=1_000_000)] = 0
