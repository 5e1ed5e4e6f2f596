"""The policy `sendward-gateway-label`: the gateway label of an existing pod stays as it is."""

from __future__ import annotations

from sendward import names
from sendward.manifests.cel import Object, constraints, rule, string, validation

_LABEL = f".metadata.?labels[?{string(names.LABEL_GATEWAY)}]"


def spec() -> Object:
    """Every way to change the labels of a pod: also its status, and a binding, whose labels are copied."""
    return {
        "matchConstraints": constraints(
            rule(["UPDATE"], ["pods", "pods/status", "pods/ephemeralcontainers", "pods/resize"]),
            rule(["CREATE"], ["bindings", "pods/binding"]),
            labelled=False,
        ),
        "validations": [
            validation(
                f"metadata.labels[{names.LABEL_GATEWAY}]: the label of an existing pod cannot be added, "
                "changed or removed, because the sidecar is injected at creation; create the pod anew",
                f"oldObject == null ? !object{_LABEL}.hasValue() : object{_LABEL} == oldObject{_LABEL}",
            )
        ],
    }
