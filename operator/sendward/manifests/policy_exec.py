"""The policy `sendward-exec`: a right to enter pods is none to enter the sidecar beside the application."""

from __future__ import annotations

from sendward import names
from sendward.manifests.cel import OURS, Object, constraints, rule, string, validation


def spec() -> Object:
    """Of the pod itself the API server shows nothing here, so this holds for all pods of the namespace:
    containers of our names are ours. Without a name the first container of the application is meant.
    """
    allowed = (
        f"authorizer.group({string(names.GROUP)}).resource({string(names.RESOURCE_SIDECARS)})"
        f".namespace(request.namespace).check({string(names.VERB_ENTER)}).allowed()"
    )
    return {
        "matchConstraints": constraints(rule(["CONNECT"], ["pods/exec", "pods/attach"]), labelled=False),
        "validations": [
            validation(
                "the sidecar's containers hold a gateway's policy and identity: entering them needs the verb "
                f"{names.VERB_ENTER} on {names.RESOURCE_SIDECARS}.{names.GROUP} in this namespace, which an "
                "administrator may grant for as long as it is needed (see SECURITY.md)",
                f"!(object.?container.orValue('') in {OURS}) || {allowed}",
            )
        ],
    }
