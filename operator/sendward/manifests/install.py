"""Everything that is applied to a cluster, in an order that `kubectl apply -f` accepts at once."""

from __future__ import annotations

from typing import Any, Final

from sendward import names
from sendward.manifests import admission, network, rbac, workloads
from sendward.manifests.options import InstallOptions
from sendward.resources.crds import definition
from sendward.resources.kinds import KINDS

Object = dict[str, Any]
_RESTRICTED: Final = {"pod-security.kubernetes.io/enforce": "restricted"}


def install(options: InstallOptions) -> list[Object]:
    """All objects of an installation. Its own namespace is never onboarded: no webhook waits for itself.

    Raises ValueError when Vault's address is no URL.
    """
    return [
        *custom_resource_definitions(),
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": options.namespace, "labels": {**options.labels, **_RESTRICTED}},
        },
        *(
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": name, "namespace": options.namespace, "labels": options.labels},
            }
            for name in (names.SERVICE_ACCOUNT_OPERATOR, names.SERVICE_ACCOUNT_WEBHOOK)
        ),
        *rbac.cluster_roles(options.namespace, options.labels),
        *rbac.own_namespace(options.namespace, options.labels),
        parameters(options),
        *network.network_policies(options),
        *workloads.services(options),
        workloads.operator(options),
        workloads.webhook(options),
        *workloads.disruption_budgets(options),
        *admission.policies(options.namespace, options.labels),
        admission.webhook_configuration(options.namespace, options.labels),
    ]


def onboard(namespace: str, operator_namespace: str) -> list[Object]:
    """The namespace's label and the operator's rights in it."""
    labels = {names.LABEL_MANAGED_BY: "sendward-install"}
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": namespace, "labels": {names.LABEL_ONBOARDED: "true"}},
        },
        *rbac.onboarded_namespace(namespace, operator_namespace, labels),
    ]


def custom_resource_definitions() -> list[Object]:
    """Of all our kinds."""
    return [definition(kind) for kind in KINDS]


def parameters(options: InstallOptions) -> Object:
    """Read by webhook and admission policy. The operator adds the key that signs documents."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": names.CONFIGMAP_PARAMETERS,
            "namespace": options.namespace,
            "labels": options.labels,
        },
        "data": {
            names.PARAM_GUARD_IMAGE: options.image,
            names.PARAM_PROXY_IMAGE: options.proxy_image,
            names.PARAM_PROXY_CONCURRENCY: str(options.proxy_concurrency),
            names.PARAM_HUB: f"{names.HUB_SERVICE}.{options.namespace}.svc:{names.PORT_HUB}",
        },
    }
