"""APIKeyPolicy: how API keys live and die, and what they may do."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sendward.resources.base import Model
from sendward.resources.fields import (
    Duration,
    Labels,
    OperationNames,
    SourceCIDRs,
    seconds,
)
from sendward.resources.rules import Rule, cel_compare


class AccountSelector(Model):
    """Selects accounts of the same namespace by label; all pairs must match."""

    match_labels: Annotated[
        Labels,
        Field(
            description="Labels that an account must carry, all of them.",
            examples=[{"tier": "bulk"}],
        ),
    ]


class RotationSpec(Model):
    """When a new version is issued and how long the old one stays accepted."""

    object_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            field="overlap",
            cel=f"!has(self.every) || {cel_compare('self.overlap', '<', 'self.every')}",
            message="is not shorter than every. Write a shorter overlap, or rotate less often",
            holds=lambda spec: spec.every is None or seconds(spec.overlap) < seconds(spec.every),
        ),
        Rule(
            field="retireWhenUnusedFor",
            cel="!has(self.retireWhenUnusedFor)"
            f" || {cel_compare('self.retireWhenUnusedFor', '<=', 'self.overlap')}",
            message="is longer than overlap and never takes effect. Write a shorter one, or remove it",
            holds=lambda spec: (
                spec.retire_when_unused_for is None
                or seconds(spec.retire_when_unused_for) <= seconds(spec.overlap)
            ),
        ),
    )

    every: Annotated[
        Duration | None,
        Field(
            description="A new version is issued this long after the current one, a duration. Absent: never"
            " by schedule.",
            examples=["90d"],
        ),
    ] = None
    overlap: Annotated[
        Duration,
        Field(
            description="How long the previous version is accepted beside the new one, a duration.",
            examples=["48h"],
        ),
    ] = "24h"
    retire_when_unused_for: Annotated[
        Duration | None,
        Field(
            description="The previous version is retired before the end of the overlap when it was not used"
            " for this long, a duration. Absent: it stays for the whole overlap.",
            examples=["1h"],
        ),
    ] = None
    jitter_percent: Annotated[
        int,
        Field(
            ge=0,
            le=50,
            description="Spreads scheduled rotations over this part of every, in percent, so that not all"
            " keys rotate at once.",
            examples=[20],
        ),
    ] = 10


class HandOverSpec(Model):
    """Where the holder finds the key: in Vault, or also in a Secret of the account's namespace."""

    type: Annotated[
        Literal["Vault", "Secret"],
        Field(
            description="Vault: the key is in Vault only. Secret: also in a Secret of this namespace.",
            examples=["Secret"],
        ),
    ] = "Vault"


def _outlives_overlap(spec: APIKeyPolicySpec) -> bool:
    return spec.maximum_age is None or seconds(spec.maximum_age) > seconds(spec.rotation.overlap)


class APIKeyPolicySpec(Model):
    """Applies to keys that name it, else to keys of accounts that name it, else of accounts it selects."""

    object_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            field="maximumAge",
            cel=f"!has(self.maximumAge) || {cel_compare('self.maximumAge', '>', 'self.rotation.overlap')}",
            message="is not longer than rotation.overlap. Write a longer age, or a shorter overlap",
            holds=_outlives_overlap,
        ),
    )

    account_selector: Annotated[
        AccountSelector | None,
        Field(description="Accounts whose keys the policy applies to. Absent: those that name it."),
    ] = None
    rotation: Annotated[
        RotationSpec,
        Field(description="When a new version is issued and how long the old one stays accepted."),
    ] = RotationSpec()
    maximum_age: Annotated[
        Duration | None,
        Field(
            description="A version is refused from this age on, rotated or not; a duration. Absent: never.",
            examples=["180d"],
        ),
    ] = None
    operations: Annotated[
        OperationNames | None,
        Field(
            description="Operations that keys may call. Absent: all of the gateway's.", examples=[["send"]]
        ),
    ] = None
    source_cidrs: Annotated[
        SourceCIDRs | None,
        Field(
            description="Networks from which keys may be used, within the account's and the gateway's."
            " Absent: not narrowed.",
            examples=[["192.0.2.0/24"]],
        ),
    ] = None
    hand_over: Annotated[HandOverSpec, Field(description="Where the holder finds the key.")] = HandOverSpec()
    on_compromise: Annotated[
        Literal["Reissue", "Hold"],
        Field(
            description="After a revocation of the current version. Reissue: a new version is issued at once."
            " Hold: none, until rotateNonce changes.",
            examples=["Hold"],
        ),
    ] = "Reissue"
