from __future__ import annotations

from typing import Any

import pytest

from tests.lab.pods.refuse import refusals


def spec(container: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"containers": [{"name": "c", "image": "i", **(container or {})}], **more}


def test_an_ordinary_pod_passes() -> None:
    container = {
        "resources": {"limits": {"cpu": "1"}},
        "ports": [{"containerPort": 1}],
        "securityContext": {"privileged": False, "capabilities": {"drop": ["ALL"]}},
        "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
    }
    more = {"volumes": [{"name": "v", "emptyDir": {}}], "hostNetwork": False, "tolerations": [{}]}
    assert refusals(spec(container, **more)) == ()


@pytest.mark.parametrize(
    ("pod", "path"),
    [
        (spec(hostNetwork=True), "spec.hostNetwork"),
        (spec(volumes=[{"name": "v", "hostPath": {"path": "/"}}]), "spec.volumes[0].hostPath"),
        (
            spec(volumes=[{"name": "v", "projected": {"sources": [{"clusterTrustBundle": {"path": "x"}}]}}]),
            "spec.volumes[0].projected.sources[0].clusterTrustBundle",
        ),
        (
            spec({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "x"}]}),
            "spec.containers[0].volumeMounts[0].subPath",
        ),
        (spec({"securityContext": {"privileged": True}}), "spec.containers[0].securityContext.privileged"),
        (spec({"livenessProbe": {"grpc": {"port": 1}}}), "spec.containers[0].livenessProbe.grpc"),
        (spec({"lifecycle": {"postStart": {"exec": {}}}}), "spec.containers[0].lifecycle.postStart"),
        (spec({"ports": [{"containerPort": 1, "hostPort": 1}]}), "spec.containers[0].ports[0].hostPort"),
        (spec({"tty": True}), "spec.containers[0].tty"),
    ],
)
def test_what_is_not_supported_is_named(pod: dict[str, Any], path: str) -> None:
    assert refusals(pod) == (f"{path} is not supported by the lab's pod runner",)
