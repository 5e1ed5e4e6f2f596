"""The closed vocabulary of conditions: types and reasons, documented here and nowhere else.

`Accepted` the object itself is sound; `ResolvedRefs` what it names exists; `Programmed` every
expected sidecar acknowledged it; `Ready` all of these. `Reconciling` and `Stalled` stand only while
something is abnormal, as kstatus reads them.
"""

from __future__ import annotations

from enum import StrEnum


class ConditionType(StrEnum):
    """Types of conditions on our kinds."""

    ACCEPTED = "Accepted"
    RESOLVED_REFS = "ResolvedRefs"
    PROGRAMMED = "Programmed"
    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    REVOKED = "Revoked"  # APIKey: versions were revoked, and every expected guard acknowledged it
    NETWORK_POLICY_SOUND = "NetworkPolicySound"  # MessagingGateway: False names a lint problem


class Reason(StrEnum):
    """Reasons; CamelCase, never reused for another meaning."""

    # True
    ACCEPTED = "Accepted"  # the object is sound
    RESOLVED = "Resolved"  # every reference is
    PROGRAMMED = "Programmed"  # every expected sidecar acknowledged this generation
    READY = "Ready"
    SUSPENDED = "Suspended"  # SenderAccount: enforced as declared, all its messages are refused
    REVOKED = "Revoked"
    SOUND = "Sound"
    # Accepted=False
    INVALID = "Invalid"  # the object breaks a rule of its schema
    NAMESPACE_NOT_ONBOARDED = "NamespaceNotOnboarded"
    DUPLICATE = "Duplicate"  # two entries that must differ are equal
    # ResolvedRefs=False
    NOT_FOUND = "NotFound"  # a reference dangles
    REFERENCE_INVALID = "ReferenceInvalid"  # it names an object that is itself not accepted
    UNKNOWN_OPERATION = "UnknownOperation"  # an operation that the gateway does not have
    NO_POLICY = "NoPolicy"  # an APIKey without an APIKeyPolicy: refused
    NO_GATEWAY = "NoGateway"  # an account whose gateways are all missing
    # Programmed=False
    PENDING = "Pending"  # not yet acknowledged by every expected sidecar
    NO_SIDECARS = "NoSidecars"  # no ready pod of the gateway
    DOCUMENT_REJECTED = "DocumentRejected"  # a guard refused it; the previous one stays
    DOCUMENT_TOO_LARGE = "DocumentTooLarge"  # a shard is over its bound
    CERTIFICATE_MISSING = "CertificateMissing"
    VAULT_UNAVAILABLE = "VaultUnavailable"
    INTERNAL_ERROR = "InternalError"
    REVOCATION_PENDING = "RevocationPending"  # Revoked=False: sent, not acknowledged everywhere
    KEY_HELD = "KeyHeld"  # all versions revoked and the policy says Hold
    # Reconciling=True / Stalled=True
    PROGRESSING = "Progressing"
    DELETING = "Deleting"
    # NetworkPolicySound=False
    DNS_CUT_OFF = "DNSCutOff"
    OPEN_TO_WORLD = "OpenToWorld"  # 0.0.0.0/0 or ::/0, or their union, without allowAnySource
    NO_SOURCES = "NoSources"  # nothing may connect
    CIDRS_COLLAPSED = "TooManyCIDRs"  # over the bound: the gateway's own CIDRs are used


class EventReason(StrEnum):
    """Reasons of Events; past tense for what is done."""

    KEY_ISSUED = "KeyIssued"
    KEY_ROTATED = "KeyRotated"
    KEY_RETIRED = "KeyRetired"
    KEY_REVOKED = "KeyRevoked"
    CERTIFICATE_ISSUED = "CertificateIssued"
    DRIFT_REPAIRED = "DriftRepaired"
    DOCUMENT_REJECTED = "DocumentRejected"
    VAULT_FAILED = "VaultFailed"
