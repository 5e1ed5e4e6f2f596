"""One account with the one key of the same name, and the steps that scenarios are made of."""

from __future__ import annotations

import json
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sendward import names
from sendward.apply import kinds
from sendward.apply.ports import Kind
from tests.faults.matrix import objects
from tests.faults.matrix.bed import Bed, create_pod
from tests.lab.stack import eventually

Object = dict[str, Any]
_STAMP: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class View:
    """What the API server shows now; None for what is not there."""

    key: Object | None
    account: Object | None
    gateway: Object | None

    def states(self) -> list[str]:
        """Of the key's versions, oldest first."""
        return [v["state"] for v in ((self.key or {}).get("status") or {}).get("versions", [])]


def holds(obj: Object | None, condition: str, status: str = "True") -> bool:
    """Whether a condition has a status for the present generation."""
    if obj is None:
        return False
    return any(
        c["type"] == condition
        and c["status"] == status
        and c["observedGeneration"] == obj["metadata"]["generation"]
        for c in (obj.get("status") or {}).get("conditions", [])
    )


class Subject:
    """`gateway` and `address` are where its messages go."""

    def __init__(self, bed: Bed, name: str) -> None:
        self.bed = bed
        self.name = name
        self.gateway = objects.GATEWAY
        self.address = bed.address
        self.key_uid = ""
        self.refused: Callable[[], bool] = lambda: False  # the last message of version 1; set by the witness

    @property
    def path(self) -> str:
        """Below Vault's mount; only after the key was created."""
        return names.key_path(self.bed.namespace_uid, self.key_uid)

    async def view(self) -> View:
        """What the API server shows now."""
        find = self.bed.find
        return View(
            await find(kinds.API_KEY, self.name),
            await find(kinds.SENDER_ACCOUNT, self.name),
            await find(kinds.MESSAGING_GATEWAY, self.gateway),
        )

    async def until(self, reached: Callable[[View], bool], what: str) -> None:
        """Wait for a state."""

        async def check() -> bool:
            return reached(await self.view())

        await eventually(check, f"{self.name}: {what}", seconds=90, every=0.05)

    async def patch(self, kind: Kind, field: str, value: object) -> None:
        """Set one field of the spec, as a user would."""
        change = {"op": "add", "path": f"/spec/{field}", "value": value}
        await self.bed.kube.patch(kind, objects.NAMESPACE, self.name, [change])

    async def edit_version(self, index: int, field: str, value: str) -> None:
        """Change a recorded version: what would take weeks is due at once."""
        change = [{"op": "add", "path": f"/status/versions/{index}/{field}", "value": value}]
        await self.bed.stack.kubectl(
            "patch", "akey", self.name, "-n", objects.NAMESPACE, "--subresource=status", "--type=json",
            "-p", json.dumps(change),
        )  # fmt: skip


Step = Callable[[Subject], Awaitable[None]]


def stamp(**ago: float) -> str:
    """A moment before now, as the API server writes it."""
    return (datetime.now(UTC) - timedelta(**ago)).strftime(_STAMP)


# --- steps ------------------------------------------------------------------------------------------


async def own_gateway(subject: Subject) -> None:
    """A gateway and a pod for this run only."""
    subject.gateway = f"gw-{subject.name}"
    await subject.bed.kube.create(kinds.MESSAGING_GATEWAY, objects.gateway(subject.gateway))
    subject.address = await create_pod(subject.bed, subject.gateway)


def declare(policy: str) -> Step:
    """Create the account and its key."""

    async def step(subject: Subject) -> None:
        made = objects.account(subject.name, subject.gateway)
        await subject.bed.kube.create(kinds.SENDER_ACCOUNT, made)
        key = await subject.bed.kube.create(kinds.API_KEY, objects.key(subject.name, policy))
        subject.key_uid = key["metadata"]["uid"]

    return step


async def ready(subject: Subject) -> None:
    """Wait until account and key are Ready."""
    await subject.until(lambda v: holds(v.key, "Ready") and holds(v.account, "Ready"), "Ready")


def age(days: float) -> Step:
    """The first version was issued so long ago."""

    async def step(subject: Subject) -> None:
        await subject.edit_version(0, "issuedAt", stamp(days=days))

    return step


async def overlap_over(subject: Subject) -> None:
    """The overlap of the first version ends now."""
    await subject.edit_version(0, "retireAt", stamp(seconds=1))


async def ask_for_rotation(subject: Subject) -> None:
    """A new nonce."""
    await subject.patch(kinds.API_KEY, "rotateNonce", "now")


async def rotated(subject: Subject) -> None:
    """Wait for the second version."""
    await subject.until(lambda v: v.states() == ["Previous", "Current"], "rotated")


async def revoke(subject: Subject) -> None:
    """Revoke the first version."""
    await subject.patch(kinds.API_KEY, "revokeThrough", 1)


async def suspend(subject: Subject) -> None:
    """Suspend the account."""
    await subject.patch(kinds.SENDER_ACCOUNT, "suspend", True)


async def delete_account(subject: Subject) -> None:
    """The account and its key, as `kubectl delete -f` does."""
    await subject.bed.kube.delete(kinds.SENDER_ACCOUNT, objects.NAMESPACE, subject.name)
    await subject.bed.kube.delete(kinds.API_KEY, objects.NAMESPACE, subject.name)


async def delete_gateway(subject: Subject) -> None:
    """The gateway, and its pod as soon as that refuses all messages."""
    await subject.bed.kube.delete(kinds.MESSAGING_GATEWAY, objects.NAMESPACE, subject.gateway)
    await eventually(subject.refused, f"{subject.gateway} refuses all messages", every=0.02)
    await subject.bed.kube.delete(kinds.POD, objects.NAMESPACE, subject.gateway)


async def end_leader(subject: Subject) -> None:
    """SIGTERM to the leader: a standby takes over, and finds what was just asked for."""
    await subject.bed.signal_leader(signal.SIGTERM)


async def remove(subject: Subject) -> None:
    """Whatever is left of a run."""
    bed = subject.bed
    await bed.kube.delete(kinds.API_KEY, objects.NAMESPACE, subject.name)
    await bed.kube.delete(kinds.SENDER_ACCOUNT, objects.NAMESPACE, subject.name)
    if subject.gateway != objects.GATEWAY:
        await bed.kube.delete(kinds.MESSAGING_GATEWAY, objects.NAMESPACE, subject.gateway)
        await bed.kube.delete(kinds.POD, objects.NAMESPACE, subject.gateway)

    def gone(view: View) -> bool:
        lasting = subject.gateway == objects.GATEWAY
        return view.key is None and view.account is None and (lasting or view.gateway is None)

    await subject.until(gone, "removed")
