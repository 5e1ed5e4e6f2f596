"""The registry of our kinds: a new kind is a line here, its two models, and its cases in tests/crds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sendward.resources.api_key import APIKeySpec
from sendward.resources.api_key_policy import APIKeyPolicySpec
from sendward.resources.base import Model
from sendward.resources.messaging_gateway import MessagingGatewaySpec
from sendward.resources.rate_limit_policy import RateLimitPolicySpec
from sendward.resources.sender_account import SenderAccountSpec
from sendward.resources.status import (
    APIKeyStatus,
    MessagingGatewayStatus,
    PolicyStatus,
    SenderAccountStatus,
    Status,
)

CATEGORY: Final = "sendward"


@dataclass(frozen=True, slots=True)
class Column:
    """A printer column of `kubectl get`. `type` is the one of the field."""

    name: str
    path: str
    description: str
    type: str = "string"


@dataclass(frozen=True, slots=True)
class Kind:
    """One custom resource; `column` is its domain column, between Reason and Age."""

    name: str
    plural: str
    short: str
    spec: type[Model]
    status: type[Status]
    column: Column

    @property
    def singular(self) -> str:
        return self.name.lower()


KINDS: Final[tuple[Kind, ...]] = (
    Kind(
        "MessagingGateway",
        "messaginggateways",
        "mgw",
        MessagingGatewaySpec,
        MessagingGatewayStatus,
        Column("Mode", ".spec.mode", "Enforce or Audit"),
    ),
    Kind(
        "SenderAccount",
        "senderaccounts",
        "sender",
        SenderAccountSpec,
        SenderAccountStatus,
        Column("Limit", ".status.limit", "Limit of the account"),
    ),
    Kind(
        "APIKeyPolicy",
        "apikeypolicies",
        "akp",
        APIKeyPolicySpec,
        PolicyStatus,
        Column("Every", ".spec.rotation.every", "Time between rotations"),
    ),
    Kind(
        "APIKey",
        "apikeys",
        "akey",
        APIKeySpec,
        APIKeyStatus,
        Column("Version", ".status.currentVersion", "Number of the current version", "integer"),
    ),
    Kind(
        "RateLimitPolicy",
        "ratelimitpolicies",
        "mrl",
        RateLimitPolicySpec,
        PolicyStatus,
        Column("Mode", ".spec.mode", "Enforce or Audit"),
    ),
)

BY_NAME: Final = {kind.name: kind for kind in KINDS}
