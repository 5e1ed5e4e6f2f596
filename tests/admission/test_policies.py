"""The admission policies alone, on a real API server: the webhook is not in place here."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from sendward import names
from sendward.manifests import admission
from tests.admission.conftest import SYSTEM, Cluster, pod_object
from tests.lab.prerequisites import LabError

pytestmark = pytest.mark.lab

Object = dict[str, Any]
GUARD, PROXY = 0, 1


def _sidecar(pod: Object, index: int) -> Object:
    container: Object = pod["spec"]["initContainers"][index]
    return container


def _volume(pod: Object, name: str) -> Object:
    found: Object = next(v for v in pod["spec"]["volumes"] if v["name"] == name)
    return found


def _app(pod: Object, **fields: Any) -> None:
    pod["spec"]["containers"][0] |= fields


def _swap(pod: Object) -> None:
    first, second, *rest = pod["spec"]["initContainers"]
    pod["spec"]["initContainers"] = [second, first, *rest]


def _second_guard_as_main(pod: Object) -> None:
    """The names are there, but as containers of the user's own: a check by name alone lets it pass."""
    pod["spec"]["containers"] += [
        {"name": c["name"], "image": "own:1"} for c in pod["spec"]["initContainers"]
    ]
    del pod["spec"]["initContainers"]


def _own_first(pod: Object) -> None:
    pod["spec"]["initContainers"].insert(0, {"name": "own", "image": "own:1"})


SIDECAR: dict[str, tuple[Callable[[Object], object], str]] = {
    "no sidecar": (lambda p: p["spec"].pop("initContainers"), "spec.initContainers"),
    "own containers of our names": (_second_guard_as_main, "spec.initContainers"),
    "only the guard": (lambda p: p["spec"]["initContainers"].pop(), "spec.initContainers"),
    "order": (_swap, "spec.initContainers"),
    "own container first": (_own_first, "spec.initContainers"),
    "guard image": (lambda p: _sidecar(p, GUARD).update(image="own:1"), "image"),
    "proxy image": (lambda p: _sidecar(p, PROXY).update(image="own:1"), "image"),
    "restart policy": (
        lambda p: [_sidecar(p, GUARD).pop(f) for f in ("restartPolicy", "startupProbe", "readinessProbe")],
        "restartPolicy",
    ),
    "user": (lambda p: _sidecar(p, GUARD)["securityContext"].update(runAsUser=1000), "securityContext"),
    "root filesystem": (
        lambda p: _sidecar(p, PROXY)["securityContext"].update(readOnlyRootFilesystem=False),
        "securityContext",
    ),
    "capability of the sidecar": (
        lambda p: _sidecar(p, PROXY)["securityContext"]["capabilities"].update(add=["NET_BIND_SERVICE"]),
        "securityContext",
    ),
    "command": (lambda p: _sidecar(p, GUARD).update(command=["sleep", "1"]), "command, args"),
    "guard args": (lambda p: _sidecar(p, GUARD).update(args=["operator"]), "command, args"),
    "proxy args": (lambda p: _sidecar(p, PROXY)["args"].append("--config-yaml={}"), "command, args"),
    "hook": (
        lambda p: _sidecar(p, GUARD).update(lifecycle={"postStart": {"exec": {"command": ["sh"]}}}),
        "lifecycle",
    ),
    "exec probe": (
        lambda p: _sidecar(p, GUARD).update(readinessProbe={"exec": {"command": ["true"]}}),
        "probes",
    ),
    "liveness probe": (
        lambda p: _sidecar(p, PROXY).update(livenessProbe={"exec": {"command": ["true"]}}),
        "probes",
    ),
    "other gateway": (lambda p: _sidecar(p, GUARD)["env"][0].update(value="other"), "env"),
    "other hub": (lambda p: _sidecar(p, GUARD)["env"][4].update(value="evil:1"), "env"),
    "other document key": (lambda p: _sidecar(p, GUARD)["env"][5].update(value="x"), "env"),
    "more environment": (
        lambda p: _sidecar(p, GUARD)["env"].append({"name": "PYTHONPATH", "value": "/x"}),
        "env",
    ),
    "environment of the proxy": (
        lambda p: _sidecar(p, PROXY).update(env=[{"name": "X", "value": "1"}]),
        "env",
    ),
    "environment from": (
        lambda p: _sidecar(p, GUARD).update(envFrom=[{"configMapRef": {"name": "own"}}]),
        "env",
    ),
    "a mount less": (lambda p: _sidecar(p, GUARD)["volumeMounts"].pop(), "volumeMounts"),
    "a mount more": (
        lambda p: _sidecar(p, PROXY)["volumeMounts"].append(
            {"name": names.VOLUME_TOKEN, "mountPath": "/token"}
        ),
        "volumeMounts",
    ),
    "a subpath": (lambda p: _sidecar(p, PROXY)["volumeMounts"][1].update(subPath="x"), "volumeMounts"),
    "documents of another gateway": (
        lambda p: _volume(p, names.VOLUME_DOCUMENT)["projected"]["sources"][3]["secret"].update(
            name="sendward-other-doc-2"
        ),
        "spec.volumes",
    ),
    "documents from a ConfigMap": (
        lambda p: _volume(p, names.VOLUME_DOCUMENT)["projected"]["sources"].append(
            {"configMap": {"name": "own", "items": [{"key": "document", "path": "gateway2"}]}}
        ),
        "spec.volumes",
    ),
    "audience": (
        lambda p: _volume(p, names.VOLUME_TOKEN)["projected"]["sources"][0]["serviceAccountToken"].update(
            audience="other"
        ),
        "spec.volumes",
    ),
    "another CA": (
        lambda p: _volume(p, names.VOLUME_HUB_CA)["configMap"].update(name="own"),
        "spec.volumes",
    ),
    "optional certificate": (
        lambda p: _volume(p, names.VOLUME_TLS)["secret"].update(optional=True),
        "spec.volumes",
    ),
    "counters of another gateway": (
        lambda p: _volume(p, names.VOLUME_COUNTERS)["secret"].update(secretName="sendward-other-counters"),
        "spec.volumes",
    ),
    "counters by another Secret's keys": (
        lambda p: _volume(p, names.VOLUME_COUNTERS)["secret"].update(
            items=[{"key": "other", "path": "password"}]
        ),
        "spec.volumes",
    ),
    "counters that a pod waits for": (
        lambda p: _volume(p, names.VOLUME_COUNTERS)["secret"].update(optional=False),
        "spec.volumes",
    ),
    "counters from a ConfigMap": (
        lambda p: p["spec"].update(
            volumes=[
                {"name": v["name"], "configMap": {"name": "own"}} if v["name"] == names.VOLUME_COUNTERS else v
                for v in p["spec"]["volumes"]
            ]
        ),
        "spec.volumes",
    ),
    "run on disk": (
        lambda p: _volume(p, names.VOLUME_RUN).update(emptyDir={}),
        "spec.volumes",
    ),
    "a volume of our prefix": (
        lambda p: p["spec"]["volumes"].append({"name": "sendward-more", "emptyDir": {}}),
        "spec.volumes",
    ),
}

BESIDE: dict[str, tuple[Callable[[Object], object], str]] = {
    "host network": (lambda p: p["spec"].update(hostNetwork=True), "hostNetwork"),
    "host processes": (lambda p: p["spec"].update(hostPID=True), "hostPID"),
    "host IPC": (lambda p: p["spec"].update(hostIPC=True), "hostIPC"),
    "shared processes": (lambda p: p["spec"].update(shareProcessNamespace=True), "shareProcessNamespace"),
    "our user, pod": (
        lambda p: p["spec"].update(securityContext={"runAsUser": names.SIDECAR_UID}),
        "runAsUser",
    ),
    "our user, container": (
        lambda p: _app(p, securityContext={"runAsUser": names.SIDECAR_UID}),
        "runAsUser",
    ),
    "our user, init container": (
        lambda p: p["spec"]["initContainers"].append(
            {"name": "own", "image": "own:1", "securityContext": {"runAsUser": names.SIDECAR_UID}}
        ),
        "runAsUser",
    ),
    "our volume in the application": (
        lambda p: _app(p, volumeMounts=[{"name": names.VOLUME_RUN, "mountPath": "/x"}]),
        "volumeMounts",
    ),
    "our volume in an init container": (
        lambda p: p["spec"]["initContainers"].append(
            {
                "name": "own",
                "image": "own:1",
                "volumeMounts": [{"name": names.VOLUME_TOKEN, "mountPath": "/x"}],
            }
        ),
        "volumeMounts",
    ),
    "privileged": (lambda p: _app(p, securityContext={"privileged": True}), "privileged"),
    "NET_ADMIN": (
        lambda p: _app(p, securityContext={"capabilities": {"add": ["NET_ADMIN"]}}),
        "capabilities",
    ),
    "NET_RAW": (lambda p: _app(p, securityContext={"capabilities": {"add": ["NET_RAW"]}}), "capabilities"),
    "SYS_PTRACE": (
        lambda p: _app(p, securityContext={"capabilities": {"add": ["SYS_PTRACE"]}}),
        "capabilities",
    ),
    "lower case": (
        lambda p: _app(p, securityContext={"capabilities": {"add": ["net_admin"]}}),
        "capabilities",
    ),
    "with prefix": (
        lambda p: _app(p, securityContext={"capabilities": {"add": ["CAP_SYS_ADMIN"]}}),
        "capabilities",
    ),
    "host path": (
        lambda p: p["spec"]["volumes"].append({"name": "host", "hostPath": {"path": "/var/lib/kubelet"}}),
        "hostPath",
    ),
    "route to loopback": (
        lambda p: p["spec"].update(
            securityContext={"sysctls": [{"name": "net.ipv4.conf.all.route_localnet", "value": "1"}]}
        ),
        "sysctls",
    ),
    "a guard's token": (
        lambda p: p["spec"]["volumes"].append(
            {
                "name": "own",
                "projected": {"sources": [{"serviceAccountToken": {"audience": "sendward", "path": "t"}}]},
            }
        ),
        "audience",
    ),
}


def _refusal(action: Callable[[], object]) -> str:
    with pytest.raises(LabError) as caught:
        action()
    return str(caught.value)


def test_the_injected_pod_is_accepted(cluster: Cluster, injected: Object) -> None:
    stored = cluster.create(injected)
    assert [c["name"] for c in stored["spec"]["initContainers"]] == [
        names.GUARD_CONTAINER,
        names.PROXY_CONTAINER,
    ]


def test_a_pod_without_the_label_is_left_alone(cluster: Cluster, onboarded: str) -> None:
    pod = pod_object(onboarded, gateway=None)
    pod["spec"] |= {"hostPID": True, "volumes": [{"name": "sendward-x", "emptyDir": {}}]}
    cluster.create(pod, "--dry-run=server")


@pytest.mark.parametrize("name", SIDECAR)
def test_a_changed_sidecar_is_refused(cluster: Cluster, injected: Object, name: str) -> None:
    spoil, field = SIDECAR[name]
    spoil(injected)
    message = _refusal(lambda: cluster.create(injected, "--dry-run=server"))
    assert admission.POLICY_SIDECAR in message
    assert field in message
    assert "evaluation" not in message  # an error of the expression is no message for a user


@pytest.mark.parametrize("name", BESIDE)
def test_what_reaches_into_the_sidecar_is_refused(cluster: Cluster, injected: Object, name: str) -> None:
    spoil, field = BESIDE[name]
    spoil(injected)
    message = _refusal(lambda: cluster.create(injected, "--dry-run=server"))
    assert admission.POLICY_POD in message
    assert field in message


EPHEMERAL: dict[str, tuple[Object, str]] = {
    "targets the guard": ({"targetContainerName": names.GUARD_CONTAINER}, "targetContainerName"),
    "targets the proxy": ({"targetContainerName": names.PROXY_CONTAINER}, "targetContainerName"),
    "mounts": ({"volumeMounts": [{"name": names.VOLUME_RUN, "mountPath": "/x"}]}, "volumeMounts"),
    "our user": ({"securityContext": {"runAsUser": names.SIDECAR_UID}}, "runAsUser"),
    "capability": ({"securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}}}, "capabilities"),
    "privileged": ({"securityContext": {"privileged": True}}, "privileged"),
}


def test_ephemeral_containers(cluster: Cluster, injected: Object, onboarded: str) -> None:
    pod = cluster.create(injected)
    path = f"/api/v1/namespaces/{onboarded}/pods/{pod['metadata']['name']}/ephemeralcontainers"

    def attach(fields: Object) -> None:
        changed = copy.deepcopy(pod)
        changed["spec"]["ephemeralContainers"] = [{"name": "debug", "image": "debug:1", **fields}]
        cluster.replace_raw(path, changed)

    for fields, field in EPHEMERAL.values():
        message = _refusal(lambda fields=fields: attach(fields))  # type: ignore[misc]
        assert admission.POLICY_POD in message
        assert field in message
    attach({"targetContainerName": "app"})


@pytest.mark.parametrize("label", [None, "other"], ids=["removed", "changed"])
@pytest.mark.parametrize("subresource", ["", "/status"])
def test_the_label_stays(
    cluster: Cluster, injected: Object, onboarded: str, label: str | None, subresource: str
) -> None:
    pod = cluster.create(injected)
    pod["metadata"]["labels"] = {} if label is None else {names.LABEL_GATEWAY: label}
    path = f"/api/v1/namespaces/{onboarded}/pods/{pod['metadata']['name']}{subresource}"
    message = _refusal(lambda: cluster.replace_raw(path, pod))
    assert admission.POLICY_LABEL in message
    assert "create the pod anew" in message


def test_the_label_is_not_added(cluster: Cluster, onboarded: str) -> None:
    pod = cluster.create(pod_object(onboarded, gateway=None))
    name = pod["metadata"]["name"]
    assert admission.POLICY_LABEL in _refusal(
        lambda: cluster.lab.kubectl("label", "pod", name, "-n", onboarded, f"{names.LABEL_GATEWAY}=api")
    )
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": name, "namespace": onboarded, "labels": {names.LABEL_GATEWAY: "api"}},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "node"},
    }
    for path in (f"pods/{name}/binding", "bindings"):
        message = _refusal(lambda p=path: cluster.create_raw(f"/api/v1/namespaces/{onboarded}/{p}", binding))  # type: ignore[misc]
        assert admission.POLICY_LABEL in message
    del binding["metadata"]["labels"]  # type: ignore[attr-defined]
    cluster.create_raw(f"/api/v1/namespaces/{onboarded}/pods/{name}/binding", binding)


def test_an_image_of_the_sidecar_is_not_replaced(cluster: Cluster, injected: Object, onboarded: str) -> None:
    pod = cluster.create(injected)
    name = pod["metadata"]["name"]
    message = _refusal(
        lambda: cluster.lab.kubectl(
            "set", "image", f"pod/{name}", f"{names.GUARD_CONTAINER}=own:1", "-n", onboarded
        )
    )
    assert admission.POLICY_SIDECAR in message
    cluster.lab.kubectl("set", "image", f"pod/{name}", "app=app:2", "-n", onboarded)


def test_running_pods_survive_an_upgrade(cluster: Cluster, injected: Object, onboarded: str) -> None:
    """The parameters name new images: pods with the old ones can still be labelled, and finalized."""
    pod = cluster.create(injected)
    change = ["patch", "configmap", names.CONFIGMAP_PARAMETERS, "-n", SYSTEM, "-p"]
    cluster.lab.kubectl(*change, f'{{"data":{{"{names.PARAM_GUARD_IMAGE}":"new:2"}}}}')
    try:
        cluster.lab.kubectl("label", "pod", pod["metadata"]["name"], "-n", onboarded, "team=a")
    finally:
        old = injected["spec"]["initContainers"][GUARD]["image"]
        cluster.lab.kubectl(*change, f'{{"data":{{"{names.PARAM_GUARD_IMAGE}":"{old}"}}}}')
