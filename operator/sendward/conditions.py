"""The closed vocabulary of conditions and Events, documented here; `docs/conditions.md` is made from it.

Each member carries its meaning, and a reason also the condition that it stands in. `Ready`, `Stalled`
and `Reconciling` repeat the reason of the condition that failed first.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Self


class _Documented(StrEnum):
    """Equal to its word. `meaning`: a sentence for people; `stands_in`: "Type=Status" of the condition."""

    meaning: str
    stands_in: str

    def __new__(cls, word: str, meaning: str = "", stands_in: str = "") -> Self:
        member = str.__new__(cls, word)
        member._value_ = word
        member.meaning = meaning
        member.stands_in = stands_in
        return member


class ConditionType(_Documented):
    """Types of conditions on our kinds."""

    ACCEPTED = "Accepted", "The object itself is sound, and its namespace is onboarded."
    RESOLVED_REFS = "ResolvedRefs", "Everything that it names exists and is sound."
    PROGRAMMED = "Programmed", "Every expected sidecar acknowledged it. Not on policies."
    READY = "Ready", "All of the above."
    RECONCILING = "Reconciling", "Only while work is under way that needs nobody's help."
    STALLED = "Stalled", "Only while nothing but a change by the user helps."
    REVOKED = "Revoked", "APIKey, once spec.revokeThrough is set: no version up to it is accepted any more."
    SIDECARS_IN_CONTACT = (
        "SidecarsInContact",
        "MessagingGateway: False names ready pods that the hub has lost; they enforce what they have.",
    )
    NETWORK_POLICY_SOUND = "NetworkPolicySound", "MessagingGateway: False names a lint problem."

    @property
    def rank(self) -> int:
        """Its place in a status. The API server keeps the order of what stands there already, so one that
        is not ours to choose would be another status for ever.
        """
        return _RANKS[self]


_RANKS: Final = {type_: rank for rank, type_ in enumerate(ConditionType)}


class Reason(_Documented):
    """Reasons; CamelCase, never reused for another meaning."""

    ACCEPTED = "Accepted", "The object is sound.", "Accepted=True"
    RESOLVED = "Resolved", "Every reference is.", "ResolvedRefs=True"
    PROGRAMMED = "Programmed", "Every expected sidecar acknowledged this generation.", "Programmed=True"
    READY = "Ready", "Nothing is missing.", "Ready=True"
    SUSPENDED = (
        "Suspended",
        "SenderAccount: enforced as declared, all its messages are refused.",
        "Ready=True",
    )
    REVOKED = "Revoked", "Every expected sidecar refuses the revoked versions.", "Revoked=True"
    SOUND = "Sound", "The NetworkPolicy has no lint problem.", "NetworkPolicySound=True"
    IN_CONTACT = "InContact", "The hub hears of every ready pod.", "SidecarsInContact=True"

    INVALID = "Invalid", "The object breaks a rule of its schema.", "Accepted=False"
    NAMESPACE_NOT_ONBOARDED = (
        "NamespaceNotOnboarded",
        "The namespace lacks the label that `sendward onboard` prints, or is the operator's own. What is "
        "being deleted there keeps its finalizer until it is onboarded again.",
        "Accepted=False",
    )

    NOT_FOUND = "NotFound", "A reference dangles.", "ResolvedRefs=False"
    REFERENCE_INVALID = (
        "ReferenceInvalid",
        "A reference names an object that cannot be used as it is.",
        "ResolvedRefs=False",
    )
    UNKNOWN_OPERATION = (
        "UnknownOperation",
        "An operation that no gateway of the account has.",
        "ResolvedRefs=False",
    )
    NO_POLICY = "NoPolicy", "An APIKey without a usable APIKeyPolicy: it is refused.", "ResolvedRefs=False"
    NO_GATEWAY = "NoGateway", "An account none of whose gateways can be used.", "ResolvedRefs=False"

    PENDING = "Pending", "Not yet acknowledged by every expected sidecar.", "Programmed=False"
    NO_SIDECARS = "NoSidecars", "The gateway has no ready pod with a sidecar.", "Programmed=False"
    DOCUMENT_REJECTED = (
        "DocumentRejected",
        "A guard refused a part of the document; it keeps the previous one.",
        "Programmed=False",
    )
    DOCUMENT_TOO_LARGE = "DocumentTooLarge", "A shard is over its bound.", "Programmed=False"
    CERTIFICATE_MISSING = (
        "CertificateMissing",
        "Vault PKI did not issue a server certificate, and none that is valid is there.",
        "Programmed=False",
    )
    VAULT_UNAVAILABLE = "VaultUnavailable", "A step of the key's life is being retried.", "Programmed=False"
    INTERNAL_ERROR = "InternalError", "The object could not be compiled.", "Programmed=False"
    KEY_HELD = (
        "KeyHeld",
        "All versions are revoked, and the policy says Hold: change spec.rotateNonce to issue one.",
        "Programmed=False",
    )
    REVOCATION_PENDING = "RevocationPending", "Sent, not yet acknowledged everywhere.", "Revoked=False"

    PROGRESSING = "Progressing", "Work is under way; the message says which.", "Reconciling=True"

    OUT_OF_CONTACT = (
        "OutOfContact",
        "The hub has not heard of a ready pod for 15 s, and the message says since when; or a pod has no "
        "sidecar, or one that was made for an earlier gateway of this name, and must be recreated.",
        "SidecarsInContact=False",
    )
    DNS_CUT_OFF = (
        "DNSCutOff",
        "spec.egress reaches no resolver, so the guard cannot find the hub.",
        "NetworkPolicySound=False",
    )
    COUNTERS_CUT_OFF = (
        "CountersCutOff",
        "spec.limits.redis has no podLabels, and spec.egress does not reach it: no sidecar can count there.",
        "NetworkPolicySound=False",
    )
    OPEN_TO_WORLD = (
        "OpenToWorld",
        "0.0.0.0/0 or ::/0, or CIDRs that add up to it, without allowAnySource.",
        "NetworkPolicySound=False",
    )
    NO_SOURCES = "NoSources", "No client may connect.", "NetworkPolicySound=False"
    CIDRS_COLLAPSED = (
        "TooManyCIDRs",
        "The accounts' CIDRs are over the bound: the NetworkPolicy admits the gateway's own instead.",
        "NetworkPolicySound=False",
    )


class EventReason(_Documented):
    """Reasons of Events; past tense for what is done."""

    KEY_ISSUED = "KeyIssued", "The first version of a key was issued."
    KEY_ROTATED = "KeyRotated", "A further version was issued; the message says why."
    KEY_RETIRED = "KeyRetired", "A version is retired: every expected sidecar refuses it."
    KEY_REVOKED = "KeyRevoked", "A version, or all of a deleted key, is revoked."
    CERTIFICATE_ISSUED = "CertificateIssued", "A server certificate was issued by Vault PKI."
    DRIFT_REPAIRED = "DriftRepaired", "Somebody changed an object that Sendward owns; it was put back."
    DOCUMENT_REJECTED = "DocumentRejected", "A guard refused a part of the document."
    STEP_FAILED = "StepFailed", "A step of a key's life failed and is being retried; the message says why."
