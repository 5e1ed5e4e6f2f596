"""Status of each kind: what the operator recorded. Read back at start; never edited by users.

Fields that this version does not know are ignored, so that an older operator can read what a newer
one wrote.
"""

# ruff: noqa: RUF012 - pydantic copies default lists

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field

from sendward.resources.base import Named

_LAST_YEAR: Final = 2999  # of an issue: what is reckoned from it stays within the range of a datetime


def _in_utc(moment: datetime) -> datetime:
    """Somebody else may have written it without a zone: such a time cannot be compared with ours."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _possible(moment: datetime) -> datetime:
    if moment.year > _LAST_YEAR:
        raise ValueError("nothing was issued then")
    return moment


Moment = Annotated[datetime, AfterValidator(_in_utc)]


class StatusModel(Named):
    """Base of everything in a status."""

    model_config = ConfigDict(extra="ignore")


class Condition(StatusModel):
    """A Kubernetes condition with its own observedGeneration."""

    type: Annotated[str, Field(max_length=64, description="Type of the condition.", examples=["Ready"])]
    status: Annotated[
        Literal["True", "False", "Unknown"], Field(description="Whether it holds.", examples=["True"])
    ]
    reason: Annotated[str, Field(max_length=64, description="Why, in one word.", examples=["NoSidecars"])]
    message: Annotated[
        str,
        Field(
            max_length=2048,
            description="Why, in a sentence, with the remedy.",
            examples=["no ready pod carries the label sendward.io/gateway: sms"],
        ),
    ] = ""
    observed_generation: Annotated[
        int, Field(description="Generation of the object that the condition is about.", examples=[2])
    ]
    last_transition_time: Annotated[
        Moment,
        Field(description="When status last changed, in UTC.", examples=["2026-03-01T12:00:00Z"]),
    ]


class Status(StatusModel):
    """What every kind has."""

    observed_generation: Annotated[
        int,
        Field(description="Generation that the operator has dealt with; -1 before the first.", examples=[2]),
    ] = -1
    conditions: Annotated[
        list[Condition],
        Field(
            max_length=16,
            description="Accepted, ResolvedRefs, Programmed and Ready; others while something is abnormal.",
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            },
        ),
    ] = []


class KeyVersion(StatusModel):
    """One issued value of an API key. No secret in it: `id` is the public part of the key."""

    number: Annotated[int, Field(description="Number of the version, from 1 on.", examples=[3])]
    id: Annotated[
        str,
        Field(max_length=10, description="Public part of the key, 10 characters.", examples=["4fKz81QmTb"]),
    ]
    state: Annotated[
        Literal["Current", "Previous", "Retired", "Revoked"],
        Field(
            description="Current and Previous are accepted, Retired and Revoked are not.",
            examples=["Previous"],
        ),
    ]
    issued_at: Annotated[
        Moment,
        AfterValidator(_possible),
        Field(description="When it was issued, in UTC.", examples=["2026-03-01T12:00:00Z"]),
    ]
    vault_version: Annotated[
        int, Field(description="Version number in Vault's key-value store.", examples=[3])
    ]
    retire_at: Annotated[
        Moment | None,
        Field(
            description="Of a Previous version: when it is retired at the latest, in UTC.",
            examples=["2026-03-02T12:00:00Z"],
        ),
    ] = None
    ended_at: Annotated[
        Moment | None,
        Field(
            description="When every sidecar had acknowledged that it is retired or revoked, in UTC.",
            examples=["2026-03-02T12:00:00Z"],
        ),
    ] = None
    destroyed: Annotated[bool, Field(description="Its value is gone from Vault.", examples=[True])] = False


class APIKeyStatus(Status):
    """History of the key, newest version last; ended versions beyond the newest 8 are dropped."""

    versions: Annotated[
        list[KeyVersion],
        Field(max_length=16, description="Issued versions, newest last; of the ended ones the newest 8."),
    ] = []
    current_version: Annotated[
        int | None, Field(description="Number of the current version.", examples=[3])
    ] = None
    rotate_nonce: Annotated[
        str,
        Field(max_length=64, description="spec.rotateNonce of the last rotation.", examples=["2026-03-01"]),
    ] = ""
    next_rotation: Annotated[
        Moment | None,
        Field(description="When the next version is due, in UTC.", examples=["2026-06-01T12:00:00Z"]),
    ] = None
    vault_path: Annotated[
        str,
        Field(
            max_length=256,
            description="Where the key lies in Vault, below the mount.",
            examples=["0b2c7b1e-0000-4000-8000-000000000001/5d1f6f0a-0000-4000-8000-000000000002"],
        ),
    ] = ""
    secret_name: Annotated[
        str,
        Field(
            max_length=253,
            description="Secret that hands the key over, with handOver.type Secret.",
            examples=["bank-api-key"],
        ),
    ] = ""


class EffectivePolicy(StatusModel):
    """Which object a part of an account's policy came from, "Kind/name" or "" for none."""

    api_key_policy: Annotated[
        str,
        Field(
            max_length=300,
            description="Policy of keys that name none themselves.",
            examples=["APIKeyPolicy/standard"],
        ),
    ] = ""
    rate_limit_policy: Annotated[
        str,
        Field(
            max_length=300,
            description="Policy that the limits come from.",
            examples=["RateLimitPolicy/bulk"],
        ),
    ] = ""


class SenderAccountStatus(Status):
    """`effective_policy` is what applies to keys that do not name a policy themselves."""

    effective_policy: Annotated[
        EffectivePolicy, Field(description="Which objects the account's policy comes from.")
    ] = EffectivePolicy()
    limit: Annotated[
        str,
        Field(max_length=64, description="The account's limit, for kubectl get.", examples=["100/1s"]),
    ] = ""


class MessagingGatewayStatus(Status):
    """State of a gateway."""

    certificate_not_after: Annotated[
        Moment | None,
        Field(description="When the server certificate expires, in UTC.", examples=["2026-03-02T12:00:00Z"]),
    ] = None


class PolicyStatus(Status):
    """State of an APIKeyPolicy or RateLimitPolicy."""
