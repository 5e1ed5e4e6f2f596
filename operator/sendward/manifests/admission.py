"""Admission: who may become, and stay, a pod of a gateway.

    sendward-inject         webhook    puts the sidecar into new pods with the gateway label
    sendward-sidecar        policy     the sidecar of the final pod is ours, whole (needs the parameters)
    sendward-pod            policy     nothing beside it in the pod reaches into it
    sendward-gateway-label  policy     the label of an existing pod stays as it is
    sendward-exec           policy     exec and attach into the sidecar need a right of their own

The policies run inside the API server, so they hold while the webhook is away, and they see the pod
as later webhooks left it. Of a pod's specification an update can change images and ephemeral
containers only; so updates that change neither are let through: pods that run since before an upgrade
or before the namespace was onboarded stay manageable.
"""

from __future__ import annotations

from typing import Final

from sendward import names
from sendward.manifests import policy_exec, policy_label, policy_pod, policy_sidecar
from sendward.manifests.cel import LABELLED, ONBOARDED, Object, rule

_API: Final = "admissionregistration.k8s.io/v1"
POLICY_SIDECAR: Final = "sendward-sidecar"
POLICY_POD: Final = "sendward-pod"
POLICY_LABEL: Final = "sendward-gateway-label"
POLICY_EXEC: Final = "sendward-exec"
_TIMEOUT_SECONDS: Final = 10


def webhook_configuration(namespace: str, labels: dict[str, str]) -> Object:
    """The injector. Its `caBundle` is left to the operator: until then the API server trusts nobody."""
    service = {
        "name": names.WEBHOOK_SERVICE,
        "namespace": namespace,
        "path": names.WEBHOOK_PATH,
        "port": 443,
    }
    webhook = {
        "name": "inject.sendward.io",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": service},
        "failurePolicy": "Fail",
        "matchPolicy": "Equivalent",
        "sideEffects": "None",
        "timeoutSeconds": _TIMEOUT_SECONDS,
        "reinvocationPolicy": "IfNeeded",
        "namespaceSelector": ONBOARDED,
        "objectSelector": LABELLED,
        "rules": [rule(["CREATE"], ["pods"]) | {"scope": "Namespaced"}],
    }
    return {
        "apiVersion": _API,
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": names.WEBHOOK_CONFIGURATION, "labels": labels},
        "webhooks": [webhook],
    }


def policies(namespace: str, labels: dict[str, str]) -> list[Object]:
    """The policies, each with its binding. `namespace` holds the parameters."""
    reference = {
        "name": names.CONFIGMAP_PARAMETERS,
        "namespace": namespace,
        "parameterNotFoundAction": "Deny",
    }
    return [
        *_policy(POLICY_SIDECAR, policy_sidecar.spec(), labels, {"paramRef": reference}),
        *_policy(POLICY_POD, policy_pod.spec(), labels, {}),
        *_policy(POLICY_LABEL, policy_label.spec(), labels, {}),
        *_policy(POLICY_EXEC, policy_exec.spec(), labels, {}),
    ]


def _policy(name: str, spec: Object, labels: dict[str, str], binding: Object) -> list[Object]:
    metadata = {"name": name, "labels": labels}
    return [
        {
            "apiVersion": _API,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": metadata,
            "spec": {"failurePolicy": "Fail", **spec},
        },
        {
            "apiVersion": _API,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": metadata,
            "spec": {"policyName": name, "validationActions": ["Deny"], **binding},
        },
    ]
