"""The statuses that a pass wants for an account and for a key. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sendward import names
from sendward.compile import rotation
from sendward.compile.credentials import Decision, Do
from sendward.compile.status import Finding, conditions, programmed
from sendward.conditions import ConditionType, Reason
from sendward.controller.findings import State, programmed_finding
from sendward.graph.acknowledgement import Ack
from sendward.graph.effective import EffectiveAccount, EffectiveKey
from sendward.graph.problems import Problem
from sendward.resources.api_key import APIKeySpec
from sendward.resources.base import Meta
from sendward.resources.status import APIKeyStatus, EffectivePolicy, SenderAccountStatus


def step_writes(step: Do | None) -> bool:
    """Whether the step itself writes the status of its key."""
    return step in (Do.RECORD, Do.END, Do.DESTROY)


def key_finding(key: EffectiveKey, decision: Decision, state: State, error: str) -> Finding:
    """`Programmed` of a key. `error`: of the step that is being retried, "" for none."""
    status = decision.status
    if error:
        return programmed(Reason.VAULT_UNAVAILABLE, f"A step is being retried: {error}")
    if rotation.current(status) is None and key.policy is not None:
        if status.versions and key.policy.spec.on_compromise == "Hold":
            message = "Every version is revoked and the policy says Hold. Set spec.rotateNonce to issue one"
            return programmed(Reason.KEY_HELD, message)
        return programmed(Reason.PENDING, "A version is being issued")
    if decision.step is not None and not step_writes(decision.step) and state is Ack.ALL:
        return programmed(Reason.PENDING, "A step towards what is declared is under way")
    return programmed_finding(state)


def key_status(
    key: EffectiveKey,
    decision: Decision,
    meta: Meta,
    namespace_uid: str,
    now: datetime,
    finding: Finding,
    problems: Iterable[Problem],
) -> APIKeyStatus:
    """What the decision records, with its conditions. `problems`: besides those of the key itself."""
    hands_over = key.policy is not None and key.policy.spec.hand_over.type == "Secret"
    status = decision.status
    extra = _revoked(key.key.spec, revoking=decision.revoking)
    found = conditions(status.conditions, meta.generation, now, [*key.problems, *problems], finding, extra)
    return status.model_copy(
        update={
            "conditions": found,
            "observed_generation": meta.generation,
            "vault_path": names.key_path(namespace_uid, meta.uid),
            "secret_name": names.hand_over_secret(meta.key.name) if hands_over else "",
        }
    )


def account_status(
    account: EffectiveAccount, known: SenderAccountStatus, meta: Meta, now: datetime, finding: Finding
) -> SenderAccountStatus:
    """The conditions of an account, and which policies it has."""
    spec = account.account.spec
    found = conditions(
        known.conditions,
        meta.generation,
        now,
        account.problems,
        finding,
        ready_reason=Reason.SUSPENDED if spec.suspend else Reason.READY,
    )
    limit = account.limits[0] if account.limits else None
    keys, limits = account.key_policy, account.limit_policy
    return SenderAccountStatus(
        observed_generation=meta.generation,
        conditions=found,
        effective_policy=EffectivePolicy(
            api_key_policy=f"APIKeyPolicy/{keys.meta.key.name}" if keys else "",
            rate_limit_policy=f"RateLimitPolicy/{limits.meta.key.name}" if limits else "",
        ),
        limit=f"{limit.messages}/{limit.period}s" if limit else "",
    )


def _revoked(spec: APIKeySpec, *, revoking: bool) -> list[Finding]:
    """`Revoked` stands once `revokeThrough` is set: True when no version up to it is live any more."""
    if not spec.revoke_through:
        return []
    if revoking:
        message = "Sent to the sidecars, not acknowledged by all of them yet"
        return [Finding(ConditionType.REVOKED, "False", Reason.REVOCATION_PENDING, message)]
    message = f"Versions up to {spec.revoke_through} are refused by every expected sidecar"
    return [Finding(ConditionType.REVOKED, "True", Reason.REVOKED, message)]
