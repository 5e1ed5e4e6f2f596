from __future__ import annotations

from typing import Any

from tests.lab.pods.hosts import render

POD = {
    "metadata": {"name": "gw-0", "namespace": "team"},
    "spec": {"hostAliases": [{"ip": "10.1.1.1", "hostnames": ["a", "b"]}]},
}
SLICE: dict[str, Any] = {
    "metadata": {"namespace": "sys", "labels": {"kubernetes.io/service-name": "hub"}},
    "addressType": "IPv4",
    "endpoints": [
        {"addresses": ["10.0.0.2"], "conditions": {"ready": True}},
        {"addresses": ["10.0.0.3"], "conditions": {"ready": False}},
    ],
}


def lines(service: dict[str, Any], namespace: str = "team") -> list[str]:
    pod = {**POD, "metadata": {"name": "gw-0", "namespace": namespace}}
    return render(pod, "10.0.0.9", {("sys", "hub"): {"spec": service}}, [SLICE]).splitlines()


def test_own_name_and_aliases() -> None:
    assert lines({})[2:4] == ["10.0.0.9 gw-0", "10.1.1.1 a b"]


def test_only_ready_addresses_of_a_service() -> None:
    assert lines({})[4:] == ["10.0.0.2 hub.sys.svc hub.sys.svc.cluster.local hub.sys"]


def test_all_addresses_when_the_service_publishes_them() -> None:
    found = lines({"publishNotReadyAddresses": True})[4:]
    assert [line.split()[0] for line in found] == ["10.0.0.2", "10.0.0.3"]


def test_short_name_inside_the_namespace() -> None:
    assert lines({}, namespace="sys")[4].endswith(" hub.sys hub")
