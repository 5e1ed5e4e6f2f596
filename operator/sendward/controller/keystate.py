"""What the operator knows of one key besides its status."""

from __future__ import annotations

from dataclasses import dataclass, field

from sendward.compile.credentials import Pending
from sendward.document import Version
from sendward.resources.status import APIKeyStatus, KeyVersion


@dataclass(slots=True)
class KeyState:
    """Of one key, by uid."""

    pending: Pending | None = None
    digests: dict[str, str] = field(default_factory=dict)
    loaded: dict[str, Version] = field(default_factory=dict)  # by id, accepted by an earlier leader
    cas: int | None = None  # the KV version that the next write follows; None: take the status's
    error: str = ""
    failures: int = 0
    retry_at: float = 0.0  # monotonic
    busy: bool = False
    doubtful: bool = False  # its status may come from a backup
    verified: bool = False  # by this process: whatever the guards say, there is no doubt again
    lost: frozenset[str] = frozenset()  # ids of versions that the status calls live and that ended
    unreadable: bool = False  # Vault was asked for its verifiers, and cannot tell them all
    gone: str = ""  # id of the recorded version that Vault does not hold any more


def to_destroy(state: KeyState, status: APIKeyStatus, ended: list[KeyVersion]) -> list[int]:
    """The KV versions of what ended. A Vault that was restored counts from its snapshot again: a number
    that a version in use has by now, or is about to have, is left alone.
    """
    taken = {v.vault_version for v in status.versions if v.state in ("Current", "Previous")}
    if state.pending is not None:
        taken.add(state.pending.vault_version)
    if state.cas is not None:
        taken.add(state.cas + 1)
    return [v.vault_version for v in ended if v.vault_version not in taken]
