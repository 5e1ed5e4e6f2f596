"""AdmissionReviews: an answer or `MalformedError`; a pod with the label is never let in without its sidecar.

The first byte says whether the rest is the body, or choices that change a sound review.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from sendward import names
from sendward.apply import kinds
from sendward.guard import settings
from sendward.webhook.review import MalformedError, Outcome, Reviewer
from tests.fakes.memory import MemoryKube
from tests.fuzz.choices import Choices, changed

_T = TypeVar("_T")
Object = dict[str, Any]
NAMESPACE = "messaging"
PARAMETERS = {
    names.PARAM_GUARD_IMAGE: "sendward:1",
    names.PARAM_PROXY_IMAGE: "envoy:1",
    names.PARAM_PROXY_CONCURRENCY: "2",
    names.PARAM_HUB: "hub:9443",
    names.PARAM_DOCUMENT_KEY: base64.b64encode(bytes(32)).decode(),
}
PROBE = {"httpGet": {"port": 8080, "path": "/", "httpHeaders": [{"name": "a", "value": "b"}]}}
POD: Object = {
    "metadata": {"name": "sms-0", "labels": {names.LABEL_GATEWAY: "sms"}, "annotations": {"a": "b"}},
    "spec": {
        "containers": [
            {
                "name": "app",
                "ports": [{"name": "http", "containerPort": 8080}],
                "readinessProbe": PROBE,
                "livenessProbe": {"tcpSocket": {"port": "http"}},
                "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
                "securityContext": {"runAsUser": 1000},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }
        ],
        "initContainers": [{"name": "first"}],
        "volumes": [{"name": "data", "emptyDir": {}}],
        "securityContext": {"runAsNonRoot": True},
    },
}


def reviewer() -> Reviewer:
    """With the gateway `sms` and the parameters in place."""
    kube = MemoryKube()
    metadata = {"namespace": names.OPERATOR_NAMESPACE, "name": names.CONFIGMAP_PARAMETERS}
    kube.put(kinds.CONFIG_MAP, {"metadata": metadata, "data": PARAMETERS})
    spec = {"http": {"applicationPort": 8080}, "tls": {"vaultPKI": {}}}
    kube.put(kinds.MESSAGING_GATEWAY, {"metadata": {"namespace": NAMESPACE, "name": "sms"}, "spec": spec})
    return Reviewer(kube, names.OPERATOR_NAMESPACE)


def review(pod: Any, **changes: Any) -> Object:
    """The API server's question about the creation of a pod."""
    request = {"uid": "u-1", "kind": {"kind": "Pod"}, "operation": "CREATE", "namespace": NAMESPACE}
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
    return {**body, "request": {**request, "object": pod, **changes}}


def now(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """The result of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: _T = stop.value
        return result
    raise AssertionError("it waits")


def response(outcome: Outcome) -> Object:
    """What the API server reads."""
    found: Object = json.loads(json.dumps(outcome.body))["response"]
    return found


def check(outcome: Outcome) -> None:
    """A patch puts both sidecars first, and the guard can read its settings."""
    operations = json.loads(base64.b64decode(response(outcome)["patch"]))
    spec: Object = next(operation["value"] for operation in operations if operation["path"] == "/spec")
    guard, proxy, *_ = spec["initContainers"]
    assert (guard["image"], proxy["image"]) == ("sendward:1", "envoy:1")
    environment = {item["name"]: item.get("value", "pod") for item in guard["env"]}
    assert settings.load(environment).gateway == "sms"


def webhook(data: bytes) -> None:
    """One request."""
    choices = Choices(data)
    body = choices.rest() if choices.flip() else json.dumps(changed(choices, review(POD))).encode()
    try:
        outcome = now(reviewer().review(body))
    except MalformedError:
        return
    if "patch" in response(outcome):
        check(outcome)
    elif outcome.decision == "allowed":
        pod = json.loads(body)["request"]["object"]
        assert names.LABEL_GATEWAY not in pod.get("metadata", {}).get("labels", {})
