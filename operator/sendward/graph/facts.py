"""Facts that are not custom resources: what was observed of pods, guards, namespaces and Vault.

Immutable; the controller replaces them in the `Store` as they change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace; `onboarded` by its label. `terminating`: Kubernetes is removing all that is in it.
    `reserved`: the operator's own, which its label does not bring under Sendward.
    """

    name: str
    uid: str
    onboarded: bool
    terminating: bool = False
    reserved: bool = False


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod with the gateway label. `injected`: both sidecar containers are in its spec. `gateway_uid`: of
    the MessagingGateway that its guard was made for; empty when nothing says so.
    """

    uid: str
    namespace: str
    name: str
    gateway: str
    ready: bool
    terminating: bool
    injected: bool
    gateway_uid: str = ""

    def made_for_another(self, gateway_uid: str) -> bool:
        """Whether its guard belongs to an earlier gateway of the name, and takes nothing of this one."""
        return self.gateway_uid not in ("", gateway_uid)


@dataclass(frozen=True, slots=True)
class PartState:
    """Which envelope of a part a guard has in force, and why it refused a newer one, if it did."""

    epoch: int
    revision: int
    digest: str
    rejected: str = ""


@dataclass(frozen=True, slots=True)
class Guard:
    """A guard that the hub has seen. `last_contact` is UTC; a connected guard is in contact now."""

    pod_uid: str
    connected: bool
    last_contact: datetime
    parts: Mapping[str, PartState] = field(default_factory=dict)
