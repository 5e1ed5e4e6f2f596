from __future__ import annotations

from typing import Any

import pytest

from tests.lab.pods.status import ContainerState, PodFacts, Role, phase, pod_status, running, terminated

FACTS = PodFacts("10.0.0.9", "10.0.0.1", "2026-01-01T00:00:00Z", "Always")


def container(role: Role, state: dict[str, Any] | None = None, ready: bool = False) -> ContainerState:
    made = ContainerState(role, "image", role, ready=ready, started=ready)
    if state is not None:
        made.state = state
    return made


RUNNING = running("2026-01-01T00:00:00Z")
DONE = terminated(0, "a", "b", "c")
FAILED = terminated(3, "a", "b", "c")


@pytest.mark.parametrize(
    ("states", "policy", "expected"),
    [
        ([container("main")], "Always", "Pending"),
        ([container("main", RUNNING)], "Always", "Running"),
        ([container("main", DONE)], "Always", "Running"),
        ([container("main", DONE)], "Never", "Succeeded"),
        ([container("main", FAILED)], "Never", "Failed"),
        ([container("main", FAILED)], "OnFailure", "Running"),
        ([container("init", FAILED), container("main")], "Never", "Failed"),
        ([container("init", FAILED), container("main")], "Always", "Pending"),
    ],
)
def test_phase(states: list[ContainerState], policy: str, expected: str) -> None:
    assert phase(states, policy) == expected


def conditions(status: dict[str, Any]) -> dict[str, str]:
    return {c["type"]: c["status"] for c in status["conditions"]}


def test_ready_needs_every_sidecar_and_main_container() -> None:
    states = [container("init", DONE), container("sidecar", RUNNING), container("main", RUNNING, ready=True)]
    first = pod_status(states, FACTS, {}, "t1")
    assert conditions(first)["Initialized"] == "True"
    assert conditions(first)["Ready"] == "False"

    states[1].ready = states[1].started = True
    second = pod_status(states, FACTS, first, "t2")
    assert conditions(second)["Ready"] == "True"
    since = {c["type"]: c["lastTransitionTime"] for c in second["conditions"]}
    assert (since["Ready"], since["PodScheduled"]) == ("t2", "t1")
    assert pod_status(states, FACTS, second, "t3") == second


def test_a_signal_is_reported_as_128_and_its_number() -> None:
    ended = terminated(-9, "a", "b", "c")["terminated"]
    assert (ended["exitCode"], ended["signal"], ended["reason"]) == (137, 9, "Error")
