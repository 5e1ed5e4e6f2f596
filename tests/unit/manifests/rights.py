"""Every right that an installation gives, with the reason: in Kubernetes and in Vault.

The tests beside this file compare it with what `sendward install`, `onboard` and `vault bootstrap` print;
the audit test compares it with what the processes did. A right that is not explained here is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sendward import names
from sendward.resources.kinds import KINDS

Object = dict[str, Any]
OPERATOR: Final = names.SERVICE_ACCOUNT_OPERATOR
WEBHOOK: Final = names.SERVICE_ACCOUNT_WEBHOOK
OWN, ONBOARDED, CLUSTER = "own namespace", "onboarded namespaces", "cluster"
ALL_OURS: Final = tuple(kind.plural for kind in KINDS)


class Atom(NamedTuple):
    """One verb on one resource. `where`: one of the three above. `name` "": of any name."""

    who: str
    where: str
    group: str
    resource: str
    verb: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Right:
    """What is given, and why. `names`: of these objects only. `seldom`: verbs that a few minutes without a
    fault do not need.
    """

    who: str
    where: str
    group: str
    resources: tuple[str, ...]
    verbs: str
    why: str
    names: tuple[str, ...] = ("",)
    seldom: str = ""

    def atoms(self, verbs: str = "") -> Iterator[Atom]:
        """Each of them by itself."""
        for resource in self.resources:
            for verb in (verbs or self.verbs).split():
                for name in self.names:
                    yield Atom(self.who, self.where, self.group, resource, verb, name)


def _of(*resources: str) -> tuple[str, ...]:
    return resources


_OUR_SECRETS: Final = (names.SECRET_CA, names.SECRET_DOCUMENT_KEY, names.SECRET_WEBHOOK_TLS)
_PARAMETERS: Final = (names.CONFIGMAP_PARAMETERS,)
_WEBHOOKS: Final = "admissionregistration.k8s.io"

# fmt: off
RIGHTS: Final = (
    Right(OPERATOR, CLUSTER, names.GROUP, ALL_OURS, "list watch",
          "what is declared; a namespace that is not onboarded is told so in the status"),
    Right(OPERATOR, CLUSTER, names.GROUP, _of("apikeys", "messaginggateways"), "patch",
          "the finalizer: a deleted key is revoked first, a deleted gateway denies first"),
    Right(OPERATOR, CLUSTER, names.GROUP, tuple(f"{plural}/status" for plural in ALL_OURS), "patch",
          "conditions, versions and the effective policy"),
    Right(OPERATOR, CLUSTER, "", _of("namespaces"), "list watch",
          "which are onboarded, their UIDs for Vault's paths, which are ending"),
    Right(OPERATOR, CLUSTER, "", _of("pods"), "list watch",
          "whose guards must acknowledge; watched with the gateway's label only"),
    Right(OPERATOR, CLUSTER, "authentication.k8s.io", _of("tokenreviews"), "create",
          "which pod a guard is"),
    Right(OPERATOR, CLUSTER, _WEBHOOKS, _of("mutatingwebhookconfigurations"), "get patch",
          "the CA bundle of our own webhook", names=(names.WEBHOOK_CONFIGURATION,)),
    Right(OPERATOR, OWN, "coordination.k8s.io", _of("leases"), "create",
          "the first start; `create` cannot be bound to a name"),
    Right(OPERATOR, OWN, "coordination.k8s.io", _of("leases"), "get update",
          "leadership", names=(names.LEASE,)),
    Right(OPERATOR, OWN, "", _of("secrets"), "create",
          "the first start, or somebody deleted one; `create` cannot be bound to a name"),
    Right(OPERATOR, OWN, "", _of("secrets"), "get",
          "the CA, the key that signs documents, the webhook's certificate", names=_OUR_SECRETS),
    Right(OPERATOR, OWN, "", _of("secrets"), "update",
          "the CA is renewed, at two thirds of its life", names=(names.SECRET_CA,), seldom="update"),
    Right(OPERATOR, OWN, "", _of("secrets"), "patch",
          "the webhook's certificate is issued and renewed", names=(names.SECRET_WEBHOOK_TLS,)),
    Right(OPERATOR, OWN, "", _of("configmaps"), "create",
          "somebody deleted the parameters: server-side apply makes them again", seldom="create"),
    Right(OPERATOR, OWN, "", _of("configmaps"), "get patch",
          "the public key that documents are signed with", names=_PARAMETERS),
    Right(OPERATOR, ONBOARDED, "", _of("secrets"), "get list watch create patch delete",
          "documents, certificates, hand-overs; a certificate that the user keeps is read by its name; lists "
          "and watches carry our label. `create` cannot be bound to names, and theirs depend on gateways"),
    Right(OPERATOR, ONBOARDED, "", _of("configmaps"), "list watch create patch",
          "the hub's CA for the guards"),
    Right(OPERATOR, ONBOARDED, "networking.k8s.io", _of("networkpolicies"),
          "get list watch create patch delete",
          "one for each gateway; read before a deletion when no watch has shown it yet", seldom="get"),
    Right(OPERATOR, ONBOARDED, "events.k8s.io", _of("events"), "create",
          "what happened, for `kubectl describe`"),
    Right(WEBHOOK, CLUSTER, names.GROUP, _of("messaginggateways"), "get",
          "the gateway that a pod names, read when the pod is created"),
    Right(WEBHOOK, OWN, "", _of("configmaps"), "get",
          "images and the public key to inject", names=_PARAMETERS),
)
# fmt: on


@dataclass(frozen=True, slots=True)
class VaultRight:
    """A path of the operator's policy; `+` stands for one segment."""

    path: str
    capabilities: str
    why: str
    seldom: str = ""


VAULT_RIGHTS: Final = (
    VaultRight(
        "sendward/data/+/+", "create update read", "write versions, hand over, read back after a crash"
    ),
    VaultRight("sendward/metadata/+/+", "delete", "a deleted key leaves nothing"),
    VaultRight(
        "sendward/metadata/+/", "list", "what no key declares is swept, every ten minutes", seldom="list"
    ),
    VaultRight("sendward/destroy/+/+", "update", "versions that ended are destroyed"),
    VaultRight("sys/tools/random", "update", "Vault draws the secrets"),
    VaultRight("auth/token/renew-self", "update", "at two thirds of the token's hour", seldom="update"),
    VaultRight("auth/token/lookup-self", "read", "a refusal: is it the token or the policy", seldom="read"),
    VaultRight("sendward-pki/issue/gateways", "update", "server certificates"),
)


def atoms_of(
    roles: Iterable[Object], bindings: Iterable[Object], own_namespace: str = names.OPERATOR_NAMESPACE
) -> set[Atom]:
    """What these roles give, through these bindings, to service accounts of the operator's namespace.

    Raises ValueError for a subject of any other kind or place, and for a role that is not there.
    """
    by_name = {(r["kind"], r["metadata"].get("namespace", ""), r["metadata"]["name"]): r for r in roles}
    found: set[Atom] = set()
    for binding in bindings:
        place = binding["metadata"].get("namespace", "")
        ref = binding["roleRef"]
        role = by_name.get((ref["kind"], place if ref["kind"] == "Role" else "", ref["name"]))
        if role is None:
            raise ValueError(f"{binding['metadata']['name']} binds {ref['kind']} {ref['name']}, not ours")
        where = CLUSTER if not place else OWN if place == own_namespace else ONBOARDED
        for subject in binding["subjects"]:
            if (subject["kind"], subject.get("namespace")) != ("ServiceAccount", own_namespace):
                raise ValueError(f"{binding['metadata']['name']} gives rights to {subject}")
            found |= {atom for rule in role["rules"] for atom in _atoms(subject["name"], where, rule)}
    return found


def _atoms(who: str, where: str, rule: Object) -> Iterator[Atom]:
    if rule.keys() - {"apiGroups", "resources", "verbs", "resourceNames"}:
        raise ValueError(f"a rule with {', '.join(rule)}")
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                for name in rule.get("resourceNames", [""]):
                    yield Atom(who, where, group, resource, verb, name)


def explained() -> set[Atom]:
    """Every right that the table names."""
    return {atom for right in RIGHTS for atom in right.atoms()}


def seldom() -> set[Atom]:
    """Those of them that a few minutes without a fault do not need."""
    return {atom for right in RIGHTS if right.seldom for atom in right.atoms(right.seldom)}
