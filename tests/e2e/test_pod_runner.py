"""The pod runner does what a kubelet does, as far as the other end-to-end tests rely on it."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.runner_cluster import Cluster, condition, holds
from tests.lab.images import PROXY, SAMPLE_GATEWAY
from tests.lab.pods.network import client_namespace
from tests.lab.pods.runner import PodRunner
from tests.lab.servers import APISERVER, Lab

pytestmark = pytest.mark.lab

SERVE = "import http.server; http.server.test(http.server.SimpleHTTPRequestHandler, port=8080)"
TRAPPED = "trap 'echo {name} >> /shared/end; exit 0' TERM; echo started; while :; do sleep 0.1; done"


@pytest.fixture
async def cluster(servers: Lab, namespace: str) -> AsyncIterator[Cluster]:
    async with PodRunner.of(servers, refresh=0.2, backoff_cap=0.5) as runner:
        yield Cluster(servers, runner, namespace)


def _secret(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def _config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def _pod(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": spec,
    }


def _deployment(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def _shell(name: str, script: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "lab-shell", "args": ["-c", script], **more}


LABELS_FILE = {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}

VOLUMES: list[dict[str, Any]] = [
    {"name": "shared", "emptyDir": {}},
    {"name": "memory", "emptyDir": {"medium": "Memory"}},
    {"name": "secret", "secret": {"secretName": "s", "items": [{"key": "a", "path": "deep/a"}]}},
    {"name": "config", "configMap": {"name": "c"}},
    {"name": "absent", "secret": {"secretName": "nowhere", "optional": True}},
    {
        "name": "mixed",
        "projected": {
            "defaultMode": 0o440,
            "sources": [
                {"secret": {"name": "s"}},
                {"configMap": {"name": "nowhere", "optional": True}},
                {"serviceAccountToken": {"path": "token", "audience": "sendward", "expirationSeconds": 600}},
                {
                    "downwardAPI": {
                        "items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
                    }
                },
            ],
        },
    },
]

MOUNTS = [
    {"name": "shared", "mountPath": "/shared"},
    {"name": "memory", "mountPath": "/run/memory"},
    {"name": "secret", "mountPath": "/etc/lab/secret", "readOnly": True},
    {"name": "config", "mountPath": "/etc/lab/config"},
    {"name": "absent", "mountPath": "/etc/lab/absent"},
    {"name": "mixed", "mountPath": "/var/run/mixed"},
]

WHOLE = {
    "terminationGracePeriodSeconds": 20,
    "securityContext": {"fsGroup": 3000},
    "volumes": VOLUMES,
    "initContainers": [
        _shell("first", "echo first > /shared/order; chmod 666 /shared/order", volumeMounts=MOUNTS),
        _shell(
            "side",
            "test -e /shared/order; echo side >> /shared/order; " + TRAPPED.format(name="side"),
            restartPolicy="Always",
            startupProbe={"exec": {"command": ["grep", "-q", "side", "/shared/order"]}, "periodSeconds": 1},
            securityContext={"runAsUser": 64017},
            volumeMounts=MOUNTS,
        ),
    ],
    "containers": [
        _shell(
            "main",
            "echo main >> /shared/order; " + TRAPPED.format(name="main"),
            securityContext={"runAsUser": 1000, "runAsGroup": 1001, "readOnlyRootFilesystem": True},
            env=[
                {"name": "WHERE", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "a"}}},
                {"name": "BOTH", "value": "$(KEY) at $(WHERE)"},
            ],
            volumeMounts=MOUNTS,
        ),
        {
            "name": "server",
            "image": "lab-python",
            "args": ["-c", SERVE],
            "workingDir": "/shared",
            "securityContext": {"runAsUser": 1000, "runAsNonRoot": True},
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
            "volumeMounts": MOUNTS[:1],
        },
    ],
}


async def test_a_deployment_runs_as_declared(cluster: Cluster) -> None:
    await cluster.apply(_secret("s", a="one"), _config_map("c", k="v"), _deployment("web", WHOLE))
    pod = await cluster.ready_pod()
    name, status = pod["metadata"]["name"], pod["status"]

    assert (await cluster.sh(name, "main", "cat /shared/order")).split() == ["first", "side", "main"]
    assert await cluster.sh(name, "main", "id -u; id -g; id -G") == "1000\n1001\n1001 3000"
    assert await cluster.sh(name, "side", "id -u") == "64017"
    assert await cluster.sh(name, "main", "echo $BOTH") == f"one at {status['podIP']}"
    assert await cluster.sh(name, "main", "cat /etc/lab/secret/deep/a /etc/lab/config/k") == "onev"
    assert await cluster.sh(name, "main", "ls /etc/lab/absent") == ""
    assert await cluster.sh(name, "main", "grep app /var/run/mixed/labels") == 'app="web"'
    assert await cluster.sh(name, "main", "echo shared > /run/memory/x; cat /run/memory/x") == "shared"
    assert await cluster.sh(name, "side", "cat /run/memory/x") == "shared"
    assert await cluster.sh(name, "main", "touch /etc/lab/secret/x 2>/dev/null || echo refused") == "refused"
    assert "Read-only" in await cluster.sh(name, "main", "touch /tmp/x 2>&1 || true")
    assert {"lab", "v"}.isdisjoint(os.listdir("/etc"))
    assert "shared" not in os.listdir("/")

    assert status["phase"] == "Running"
    assert [c["state"].get("terminated", {}).get("exitCode") for c in status["initContainerStatuses"]] == [
        0,
        None,
    ]
    assert all(c["ready"] and c["started"] for c in status["containerStatuses"])
    await cluster.kubectl("rollout", "status", "deployment/web", "--timeout=30s")


async def test_a_token_is_bound_to_the_pod(cluster: Cluster) -> None:
    await cluster.apply(_secret("s", a="one"), _config_map("c", k="v"), _deployment("web", WHOLE))
    pod = await cluster.ready_pod()
    token = await cluster.sh(pod["metadata"]["name"], "side", "cat /var/run/mixed/token")
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": ["sendward"]},
    }
    answer = json.loads(await cluster.kubectl("create", "-o", "json", "-f", "-", stdin=json.dumps(review)))
    extra = answer["status"]["user"]["extra"]
    assert extra["authentication.kubernetes.io/pod-name"] == [pod["metadata"]["name"]]
    assert extra["authentication.kubernetes.io/pod-uid"] == [pod["metadata"]["uid"]]


async def test_a_changed_secret_arrives_in_one_step(cluster: Cluster) -> None:
    volumes = [{"name": "v", "secret": {"secretName": "s"}}]
    mounts = [{"name": "v", "mountPath": "/etc/v"}]
    await cluster.apply(
        _secret("s", a="1", b="1"),
        _pod("reader", {"volumes": volumes, "containers": [_shell("c", "sleep 600", volumeMounts=mounts)]}),
    )
    await cluster.ready_pod("reader")
    before = await cluster.sh("reader", "c", "readlink /etc/v/..data")
    await cluster.apply(_secret("s", a="2", c="2"))
    await cluster.kubectl("patch", "secret", "s", "--type=json", '-p=[{"op": "remove", "path": "/data/b"}]')

    async def changed() -> bool:
        return await cluster.sh("reader", "c", "cd /etc/v; echo * $(cat a)") == "a c 2"

    await holds(changed)
    assert await cluster.sh("reader", "c", "readlink /etc/v/..data") != before
    assert await cluster.sh("reader", "c", "readlink /etc/v/a") == "..data/a"


async def test_a_missing_secret_holds_the_pod_until_it_appears(cluster: Cluster) -> None:
    volumes = [{"name": "v", "secret": {"secretName": "late"}}]
    await cluster.apply(_pod("held", {"volumes": volumes, "containers": [_shell("c", "sleep 600")]}))

    async def waiting() -> bool:
        (pod,) = await cluster.pods()
        states = pod["status"].get("containerStatuses", [])
        return any(
            'secret "late" not found' in c["state"].get("waiting", {}).get("message", "") for c in states
        )

    await holds(waiting)
    await cluster.apply(_secret("late", a="1"))
    await cluster.ready_pod("held")


async def test_a_killed_container_is_restarted_and_counted(cluster: Cluster) -> None:
    await cluster.apply(_secret("s", a="one"), _config_map("c", k="v"), _deployment("web", WHOLE))
    pod = await cluster.ready_pod()
    name = pod["metadata"]["name"]
    for container, field in (("side", "initContainerStatuses"), ("main", "containerStatuses")):
        os.kill(cluster.runner.pid_of(cluster.namespace, name, container), signal.SIGKILL)

        async def restarted(container: str = container, field: str = field) -> bool:
            (now,) = await cluster.pods()
            status = next(c for c in now["status"][field] if c["name"] == container)
            ended = status["lastState"].get("terminated", {}).get("exitCode")
            return status["restartCount"] == 1 and ended == 137 and "running" in status["state"]

        await holds(restarted)
    await cluster.ready_pod()
    assert cluster.runner.logs(cluster.namespace, name, "side").count("started") == 2


async def test_a_failing_liveness_probe_restarts_the_container(cluster: Cluster) -> None:
    probe = {"exec": {"command": ["test", "-e", "/tmp/alive"]}, "periodSeconds": 1, "failureThreshold": 1}
    container = _shell("c", "touch /tmp/alive; exec sleep 600", livenessProbe=probe)
    spec = {"terminationGracePeriodSeconds": 1, "containers": [container]}
    await cluster.apply(_pod("live", spec))
    await cluster.ready_pod("live")
    await cluster.sh("live", "c", "rm /tmp/alive")

    async def restarted() -> bool:
        (pod,) = await cluster.pods()
        return bool(pod["status"]["containerStatuses"][0]["restartCount"] == 1)

    await holds(restarted)


async def test_deletion_ends_main_containers_before_sidecars(cluster: Cluster) -> None:
    await cluster.apply(_secret("s", a="one"), _config_map("c", k="v"), _deployment("web", WHOLE))
    pod = await cluster.ready_pod()
    name = pod["metadata"]["name"]
    kept = _keep_end(cluster, name)
    await cluster.kubectl("delete", "deployment/web", "--cascade=foreground", "--timeout=60s")
    assert await cluster.pods() == []
    assert kept.read_text().split() == ["main", "side"]
    with pytest.raises(LookupError):
        cluster.runner.pid_of(cluster.namespace, name, "main")


def _keep_end(cluster: Cluster, pod: str) -> Path:
    """A second link to what the containers write at their end; the pod's own goes with the pod."""
    end = cluster.runner.volume_path(cluster.namespace, pod, "shared") / "end"
    end.touch()
    end.chmod(0o666)
    kept = cluster.lab.directory / f"{cluster.namespace}-end"
    kept.hardlink_to(end)
    return kept


async def test_unsupported_parts_are_refused_by_name(cluster: Cluster) -> None:
    await cluster.apply(_pod("odd", {"hostNetwork": True, "containers": [_shell("c", "sleep 600")]}))

    async def refused() -> bool:
        (pod,) = await cluster.pods()
        return "spec.hostNetwork is not supported" in pod["status"].get("message", "")

    await holds(refused)


async def test_a_finished_job_like_pod_succeeds_and_its_sidecar_ends(cluster: Cluster) -> None:
    spec = {
        "restartPolicy": "Never",
        "initContainers": [_shell("side", "exec sleep 600", restartPolicy="Always")],
        "containers": [_shell("c", "echo done")],
    }
    await cluster.apply(_pod("job", spec))

    async def succeeded() -> bool:
        (pod,) = await cluster.pods()
        side = pod["status"].get("initContainerStatuses", [{"state": {}}])[0]
        return pod["status"]["phase"] == "Succeeded" and "terminated" in side["state"]

    await holds(succeeded)
    assert cluster.runner.logs(cluster.namespace, "job", "c") == "done\n"


async def test_clients_reach_pods_from_addresses_of_their_own(cluster: Cluster) -> None:
    await cluster.apply(_secret("s", a="one"), _config_map("c", k="v"), _deployment("web", WHOLE))
    pod = await cluster.ready_pod()
    name, address = pod["metadata"]["name"], pod["status"]["podIP"]
    async with client_namespace("10.123.200.5") as client, client.session() as session:
        async with session.get(f"http://{address}:8080/order") as answer:
            assert (await answer.text()).split()[0] == "first"
        assert "10.123.200.5" in cluster.runner.logs(cluster.namespace, name, "server")

        await cluster.runner.network_of(cluster.namespace, name).cut("10.123.200.5")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.connect(address, 8080), 1)
        await cluster.runner.network_of(cluster.namespace, name).restore("10.123.200.5")
        with contextlib.closing(await client.connect(address, 8080)):
            pass


async def test_service_names_resolve_to_pods(cluster: Cluster) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"clusterIP": "None", "selector": {"app": "web"}, "ports": [{"port": 8080}]},
    }
    await cluster.apply(
        _secret("s", a="one"),
        _config_map("c", k="v"),
        service,
        _deployment("web", WHOLE),
        _pod("client", {"containers": [_shell("c", "sleep 600")]}),
    )
    web = await cluster.ready_pod()
    await cluster.ready_pod("client")

    async def resolved() -> bool:
        found = await cluster.sh("client", "c", f"getent ahostsv4 web.{cluster.namespace}.svc || true")
        return found.startswith(str(web["status"]["podIP"]))

    await holds(resolved)


async def test_the_products_images_run_without_root(cluster: Cluster) -> None:
    admin = '{"admin": {"address": {"socket_address": {"address": "0.0.0.0", "port_value": 9901}}}}'
    proxy = {
        "name": "proxy",
        "image": PROXY,
        "args": ["--config-yaml", admin],
        "restartPolicy": "Always",
        "securityContext": {"readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
        "startupProbe": {"httpGet": {"path": "/ready", "port": 9901}, "periodSeconds": 1},
    }
    gateway = {
        "name": "gateway",
        "image": f"registry.example/team/{SAMPLE_GATEWAY}",
        "args": ["--listen", "0.0.0.0:8080"],
        "securityContext": {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False},
        "startupProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1},
    }
    await cluster.apply(_pod("images", {"initContainers": [proxy], "containers": [gateway]}))
    await cluster.ready_pod("images")
    await cluster.kubectl("delete", "pod/images", "--timeout=30s")
    assert "Traceback" not in cluster.runner.logs(cluster.namespace, "images", "gateway")


async def test_pods_outlive_a_crash_of_the_api_server(cluster: Cluster) -> None:
    await cluster.apply(_pod("steady", {"containers": [_shell("c", "exec sleep 600")]}))
    await cluster.ready_pod("steady")
    await asyncio.to_thread(cluster.lab.kill, APISERVER)
    os.kill(cluster.runner.pid_of(cluster.namespace, "steady", "c"), signal.SIGKILL)
    await asyncio.to_thread(cluster.lab.restart, APISERVER)

    async def restarted() -> bool:
        (pod,) = await cluster.pods()
        return (
            condition(pod, "Ready") == "True" and pod["status"]["containerStatuses"][0]["restartCount"] == 1
        )

    await holds(restarted)
    await cluster.apply(_pod("later", {"containers": [_shell("c", "exec sleep 600")]}))
    await cluster.ready_pod("later")


async def test_pre_stop_comes_before_the_signal(cluster: Cluster) -> None:
    hook = {"preStop": {"exec": {"command": ["/bin/sh", "-c", "echo hook >> /shared/end"]}}}
    mounts = [{"name": "shared", "mountPath": "/shared"}]
    container = _shell("c", TRAPPED.format(name="signal"), lifecycle=hook, volumeMounts=mounts)
    spec = {"volumes": [{"name": "shared", "emptyDir": {}}], "containers": [container]}
    await cluster.apply(_pod("polite", spec))
    await cluster.ready_pod("polite")
    kept = _keep_end(cluster, "polite")
    await cluster.kubectl("delete", "pod/polite", "--timeout=30s")
    assert kept.read_text().split() == ["hook", "signal"]
