"""Status of each kind: what the operator recorded. Read back at start; never edited by users."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from sendward.resources.base import Model


class Condition(Model):
    """A Kubernetes condition with its own observedGeneration."""

    type: Annotated[str, Field(max_length=64)]
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, Field(max_length=64)]
    message: Annotated[str, Field(max_length=2048)] = ""
    observed_generation: int
    last_transition_time: datetime


class Status(Model):
    """What every kind has."""

    observed_generation: int = -1
    conditions: Annotated[list[Condition], Field(max_length=16)] = []


class KeyVersion(Model):
    """One issued value of an API key. No secret in it: `id` is the public part of the key."""

    number: int
    id: Annotated[str, Field(max_length=10)]
    state: Literal["Current", "Previous", "Retired", "Revoked"]
    issued_at: datetime
    vault_version: int
    retire_at: datetime | None = None  # of a Previous version: the deadline
    ended_at: datetime | None = None  # when it was retired or revoked, acknowledged by the guards
    destroyed: bool = False  # gone from Vault


class APIKeyStatus(Status):
    """History of the key, newest version last; ended versions beyond the newest 8 are dropped."""

    versions: Annotated[list[KeyVersion], Field(max_length=16)] = []
    current_version: int | None = None
    rotate_nonce: Annotated[str, Field(max_length=64)] = ""  # the nonce of the last rotation
    next_rotation: datetime | None = None
    vault_path: Annotated[str, Field(max_length=256)] = ""  # below the KV mount
    secret_name: Annotated[str, Field(max_length=253)] = ""


class EffectivePolicy(Model):
    """Which object a part of an account's policy came from, "Kind/name" or "" for none."""

    api_key_policy: Annotated[str, Field(max_length=300)] = ""
    rate_limit_policy: Annotated[str, Field(max_length=300)] = ""


class SenderAccountStatus(Status):
    """`effective_policy` is what applies to keys that do not name a policy themselves."""

    effective_policy: EffectivePolicy = EffectivePolicy()
    limit: Annotated[str, Field(max_length=64)] = ""  # for `kubectl get`, e.g. "100/1m0s"


class MessagingGatewayStatus(Status):
    """State of a gateway."""

    certificate_not_after: datetime | None = None


class PolicyStatus(Status):
    """State of an APIKeyPolicy or RateLimitPolicy."""
