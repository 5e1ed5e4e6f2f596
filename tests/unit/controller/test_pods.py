"""Raw pods as facts."""

from __future__ import annotations

from typing import Any

import pytest

from sendward.controller.pods import parse_pod
from sendward.controller.watch import Pods
from sendward.graph.facts import Pod
from sendward.graph.store import Store


def raw(**changes: Any) -> dict[str, Any]:
    pod: dict[str, Any] = {
        "metadata": {
            "uid": "u-1",
            "namespace": "tenant",
            "name": "gw-0",
            "labels": {"sendward.io/gateway": "gw", "app": "x"},
        },
        "spec": {
            "initContainers": [
                {"name": "sendward-guard", "restartPolicy": "Always"},
                {"name": "sendward-proxy", "restartPolicy": "Always"},
            ],
            "containers": [{"name": "app"}],
        },
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }
    for path, value in changes.items():
        at, *rest = path.split("__")
        pod[at] = {**pod[at], rest[0]: value} if rest else value
    return pod


def test_a_ready_injected_pod() -> None:
    assert parse_pod(raw()) == Pod("u-1", "tenant", "gw-0", "gw", True, False, True)


@pytest.mark.parametrize("conditions", [None, [], [{"type": "Ready", "status": "Unknown"}]])
def test_not_ready(conditions: Any) -> None:
    pod = parse_pod(raw(status__conditions=conditions))
    assert pod is not None
    assert not pod.ready


def test_terminating() -> None:
    pod = parse_pod(raw(metadata__deletionTimestamp="2026-03-01T12:00:00Z"))
    assert pod is not None
    assert pod.terminating


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"initContainers": [{"name": "sendward-guard", "restartPolicy": "Always"}]},
        {"initContainers": [{"name": "sendward-guard"}, {"name": "sendward-proxy"}]},
        {"containers": [{"name": "sendward-guard"}, {"name": "sendward-proxy"}]},
    ],
)
def test_not_injected(spec: dict[str, Any]) -> None:
    pod = parse_pod(raw(spec=spec))
    assert pod is not None
    assert not pod.injected


@pytest.mark.parametrize("change", [{"metadata__labels": {}}, {"status__phase": "Failed"}])
def test_a_pod_that_does_not_count(change: dict[str, Any]) -> None:
    assert parse_pod(raw(**change)) is None


def test_the_gateway_that_the_guard_was_made_for() -> None:
    guard = {
        "name": "sendward-guard",
        "restartPolicy": "Always",
        "env": [{"name": "SENDWARD_POD", "valueFrom": {}}, {"name": "SENDWARD_GATEWAY_UID", "value": "g-1"}],
    }
    own = {"name": "own", "env": [{"name": "SENDWARD_GATEWAY_UID", "value": "g-2"}]}
    pod = parse_pod(raw(spec={"initContainers": [own, guard]}))
    assert pod is not None
    assert pod.gateway_uid == "g-1"
    assert pod.made_for_another("g-2")
    assert not pod.made_for_another("g-1")
    unknown = parse_pod(raw())
    assert unknown is not None
    assert not unknown.made_for_another("g-1")


def test_a_pod_without_a_status_yet() -> None:
    pod = parse_pod(raw(status={}))
    assert pod is not None
    assert not pod.ready


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_pod_that_ended_for_good_is_waited_for_no_more(phase: str) -> None:
    """An evicted pod keeps its object, often with the conditions of its last day."""
    store, gone, changed = Store(), list[str](), list[tuple[str, str]]()
    pods = Pods(store, gone.append, lambda namespace, gateway: changed.append((namespace, gateway)))
    pods.event(raw())
    assert store.pod("tenant", "gw-0") is not None
    pods.event(raw(status__phase=phase))
    assert store.pod("tenant", "gw-0") is None
    assert gone == ["u-1"]
    assert changed == [("tenant", "gw")] * 2
    pods.event(raw(status__phase=phase))  # a line of a list
    assert gone == ["u-1"]
