"""When a gateway's server certificate must be issued: never issued, other names, or 2/3 of its life."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime

from sendward.resources.messaging_gateway import VaultPKISpec


@dataclass(frozen=True, slots=True)
class Held:
    """The certificate that lies in the gateway's Secret; `request` is that of `request_hash`."""

    request: str
    not_before: datetime
    not_after: datetime


def request_hash(spec: VaultPKISpec) -> str:
    """Changes when another certificate is asked for."""
    return hashlib.sha256(json.dumps([spec.dns_names, spec.duration]).encode()).hexdigest()[:16]


def renewal(held: Held) -> datetime:
    """2/3 of the life of a certificate."""
    return held.not_before + (held.not_after - held.not_before) * 2 / 3


def must_issue(spec: VaultPKISpec, held: Held | None, now: datetime) -> bool:
    """Whether to ask Vault PKI for a certificate now."""
    return held is None or held.request != request_hash(spec) or renewal(held) <= now
