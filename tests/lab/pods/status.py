"""The Pod status that the runner reports. Pure: no clock, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["init", "sidecar", "main"]


@dataclass
class ContainerState:
    """What is known of one container; mutated by the container that it describes."""

    name: str
    image: str
    role: Role
    state: dict[str, Any] = field(default_factory=lambda: waiting("PodInitializing"))
    last_state: dict[str, Any] = field(default_factory=dict)
    container_id: str = ""
    ready: bool = False
    started: bool = False
    restarts: int = 0

    def exit_code(self) -> int | None:
        """Exit code of a container that has ended for good, else None."""
        code = self.state.get("terminated", {}).get("exitCode")
        return None if code is None else int(code)

    def as_status(self) -> dict[str, Any]:
        status: dict[str, Any] = {
            "name": self.name,
            "image": self.image,
            "imageID": f"lab://{self.image}",
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last_state,
        }
        if self.container_id:
            status["containerID"] = self.container_id
        return status


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    """The state of a container that has no process."""
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def running(started_at: str) -> dict[str, Any]:
    return {"running": {"startedAt": started_at}}


def terminated(code: int, started_at: str, finished_at: str, container_id: str) -> dict[str, Any]:
    """A negative code is the signal that ended the process, as subprocess reports it."""
    exit_code = code if code >= 0 else 128 - code
    ended: dict[str, Any] = {
        "exitCode": exit_code,
        "reason": "Completed" if exit_code == 0 else "Error",
        "startedAt": started_at,
        "finishedAt": finished_at,
        "containerID": container_id,
    }
    if code < 0:
        ended["signal"] = -code
    return {"terminated": ended}


@dataclass(frozen=True)
class PodFacts:
    """What a status is made of, besides the containers."""

    address: str
    host_address: str
    start_time: str
    restart_policy: str
    message: str = ""
    reason: str = ""


def phase(containers: Sequence[ContainerState], restart_policy: str) -> str:
    """Phase by the Pod lifecycle's definition."""
    mains = [c for c in containers if c.role == "main"]
    failed_init = any(c.role == "init" and c.exit_code() not in (None, 0) for c in containers)
    if failed_init and restart_policy == "Never":
        return "Failed"
    codes = [c.exit_code() for c in mains]
    if all(code is not None for code in codes):
        if all(code == 0 for code in codes):
            return "Succeeded" if restart_policy != "Always" else "Running"
        return "Failed" if restart_policy == "Never" else "Running"
    if all("waiting" in c.state and not c.last_state for c in mains):
        return "Pending"
    return "Running"


def pod_status(
    containers: Sequence[ContainerState], facts: PodFacts, previous: Mapping[str, Any], now: str
) -> dict[str, Any]:
    """The whole status; transition times are kept where a condition did not change."""
    inits = [c for c in containers if c.role != "main"]
    mains = [c for c in containers if c.role == "main"]
    initialized = all(c.started if c.role == "sidecar" else c.exit_code() == 0 for c in inits)
    # A sidecar that dies later does not undo the initialisation.
    initialized = initialized or any("waiting" not in c.state or c.last_state for c in mains)
    current = phase(containers, facts.restart_policy)
    serving = [c for c in containers if c.role != "init"]
    unready = [c.name for c in serving if not c.ready]
    ready = initialized and not unready and current == "Running"
    detail = f"containers with unready status: [{' '.join(unready)}]" if unready else ""
    wanted = [
        ("PodReadyToStartContainers", bool(facts.address), "", ""),
        ("Initialized", initialized, "ContainersNotInitialized", ""),
        ("ContainersReady", ready, "ContainersNotReady", detail),
        ("Ready", ready, "ContainersNotReady", detail),
        ("PodScheduled", True, "", ""),
    ]
    status: dict[str, Any] = {
        "phase": current,
        "hostIP": facts.host_address,
        "hostIPs": [{"ip": facts.host_address}],
        "startTime": facts.start_time,
        "qosClass": previous.get("qosClass", "BestEffort"),
        "conditions": [_condition(*entry, previous=previous, now=now) for entry in wanted],
        "containerStatuses": [c.as_status() for c in mains],
        "initContainerStatuses": [c.as_status() for c in inits],
        "message": facts.message or None,
        "reason": facts.reason or None,
    }
    if facts.address:
        status |= {"podIP": facts.address, "podIPs": [{"ip": facts.address}]}
    return status


def _condition(
    kind: str, holds: bool, reason: str, message: str, *, previous: Mapping[str, Any], now: str
) -> dict[str, Any]:
    value = "True" if holds else "False"
    old = next((c for c in previous.get("conditions") or () if c["type"] == kind), None)
    since = old.get("lastTransitionTime") if old and old["status"] == value else None
    return {
        "type": kind,
        "status": value,
        "lastTransitionTime": since or now,
        "lastProbeTime": None,
        "reason": None if holds else (reason or None),
        "message": None if holds else (message or None),
    }
