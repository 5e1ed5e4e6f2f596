"""APIKeyPolicy: how API keys live and die, and what they may do."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sendward.resources.base import Model
from sendward.resources.fields import CIDR, Duration, OperationName


class AccountSelector(Model):
    """Selects accounts of the same namespace by label; all pairs must match."""

    match_labels: Annotated[
        dict[Annotated[str, Field(max_length=317)], Annotated[str, Field(max_length=63)]],
        Field(min_length=1, max_length=8),
    ]


class RotationSpec(Model):
    """When a new version is issued and how long the old one stays accepted."""

    every: Duration | None = None
    overlap: Duration = "24h"
    retire_when_unused_for: Duration | None = None
    jitter_percent: Annotated[int, Field(ge=0, le=50)] = 10


class HandOverSpec(Model):
    """Where the holder finds the key: in Vault, or also in a Secret of the account's namespace."""

    type: Literal["Vault", "Secret"] = "Vault"


class APIKeyPolicySpec(Model):
    """Applies to keys that name it, else to keys of accounts that name it, else of accounts it selects."""

    account_selector: AccountSelector | None = None
    rotation: RotationSpec = RotationSpec()
    maximum_age: Duration | None = None
    operations: Annotated[list[OperationName], Field(min_length=1, max_length=32)] | None = None
    source_cidrs: Annotated[list[CIDR], Field(min_length=1, max_length=64)] | None = None
    hand_over: HandOverSpec = HandOverSpec()
    on_compromise: Literal["Reissue", "Hold"] = "Reissue"
