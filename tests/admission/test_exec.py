"""Who may enter the sidecar's containers, asked of a real API server. No kubelet is there to enter them:
a request that the policies let through fails later, for want of a node.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from sendward import names
from sendward.manifests import admission
from tests.admission.conftest import Cluster, until
from tests.lab.prerequisites import LabError

pytestmark = pytest.mark.lab

Object = dict[str, Any]
OURS = (names.GUARD_CONTAINER, names.PROXY_CONTAINER)
NO_NODE = "does not have a host assigned"


def _role(name: str, namespace: str, user: str, groups: str, resource: str, verb: str) -> list[Object]:
    api = "rbac.authorization.k8s.io/v1"
    meta = {"name": name, "namespace": namespace}
    rules = [{"apiGroups": [groups], "resources": [resource], "verbs": [verb]}]
    subject = {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
    reference = {"kind": "Role", "name": name, "apiGroup": "rbac.authorization.k8s.io"}
    return [
        {"apiVersion": api, "kind": "Role", "metadata": meta, "rules": rules},
        {
            "apiVersion": api,
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": reference,
            "subjects": [subject],
        },
    ]


@pytest.fixture
def pod(cluster: Cluster, onboarded: str, injected: Object) -> Iterator[str]:
    """A gateway's pod; `dev` and `breaker` may enter pods of the namespace, as the role `edit` allows."""
    name: str = cluster.create(injected)["metadata"]["name"]
    for user in ("dev", "breaker"):
        for subresource in ("exec", "attach"):
            cluster.apply(
                *_role(f"{user}-{subresource}", onboarded, user, "", f"pods/{subresource}", "create")
            )
        cluster.apply(*_role(f"{user}-get", onboarded, user, "", "pods", "get"))
    cluster.apply(
        *_role("break-glass", onboarded, "breaker", names.GROUP, names.RESOURCE_SIDECARS, names.VERB_ENTER)
    )
    until(lambda: admission.POLICY_EXEC in _entering(cluster, onboarded, name, OURS[0], user="dev"))
    yield name
    cluster.lab.kubectl("delete", "pod", name, "-n", onboarded, "--grace-period=0", "--force")


def _entering(
    cluster: Cluster, namespace: str, pod: str, container: str, *, user: str, how: str = "exec"
) -> str:
    """What the API server answers; there is no way to get in, in this lab."""
    query = f"?command=id&stdout=true&container={container}" if container else "?command=id&stdout=true"
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/{how}{query}"
    with pytest.raises(LabError) as caught:
        cluster.lab.kubectl("create", "--raw", path, "-f", "/dev/null", f"--as={user}")
    return str(caught.value)


@pytest.mark.parametrize("how", ["exec", "attach"])
def test_a_right_on_pods_is_none_on_the_sidecar(cluster: Cluster, onboarded: str, pod: str, how: str) -> None:
    for container in OURS:
        message = _entering(cluster, onboarded, pod, container, user="dev", how=how)
        assert admission.POLICY_EXEC in message
        assert "exec on sidecars.sendward.io" in message
    for container in ("app", ""):
        assert NO_NODE in _entering(cluster, onboarded, pod, container, user="dev", how=how)


def test_break_glass_is_a_right_that_a_role_grants(cluster: Cluster, onboarded: str, pod: str) -> None:
    for container in OURS:
        assert NO_NODE in _entering(cluster, onboarded, pod, container, user="breaker")


def test_namespaces_that_are_not_onboarded_are_left_alone(cluster: Cluster, namespace: str) -> None:
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": namespace},
    }
    own = {"containers": [{"name": names.GUARD_CONTAINER, "image": "own:1"}]}
    cluster.apply(
        account,
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "own", "namespace": namespace},
            "spec": own,
        },
        *_role("dev-exec", namespace, "dev", "", "pods/exec", "create"),
    )
    assert NO_NODE in _entering(cluster, namespace, "own", names.GUARD_CONTAINER, user="dev")
