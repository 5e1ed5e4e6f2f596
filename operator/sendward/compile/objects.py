"""The Kubernetes objects that the operator owns, as JSON. Secret values are added by `apply`."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from sendward import names
from sendward.resources.base import Meta

Object = dict[str, Any]


def owner_reference(meta: Meta) -> Object:
    """So that the object goes with its owner, also when the operator is gone."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": meta.key.kind,
        "name": meta.key.name,
        "uid": meta.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def _object(kind: str, namespace: str, name: str, part: str, owner_uid: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {
                names.LABEL_MANAGED_BY: "sendward",
                names.LABEL_PART: part,
                names.LABEL_OWNER_UID: owner_uid,
            },
            "annotations": {},
        },
    }


def document_secret(namespace: str, gateway: str, gateway_uid: str, part: str, encoded: bytes) -> Object:
    """One part of a document. It has no owner reference: it outlives a gateway that was deleted by
    force, and says then what it said last.
    """
    secret = _object("Secret", namespace, names.document_secret(gateway, part), "document", gateway_uid)
    return secret | {"type": "Opaque", "data": {"document": b64encode(encoded).decode()}}


def hand_over_secret(key: Meta, values: dict[str, str]) -> Object:
    """A key for its holder; values are secrets."""
    secret = _object("Secret", key.key.namespace, names.hand_over_secret(key.key.name), "hand-over", key.uid)
    secret["metadata"]["ownerReferences"] = [owner_reference(key)]
    return secret | {"type": "Opaque", "data": _encoded(values)}


def tls_secret(gateway: Meta, values: dict[str, str]) -> Object:
    """A server certificate; values are secrets."""
    secret = _object("Secret", gateway.key.namespace, names.tls_secret(gateway.key.name), "tls", gateway.uid)
    secret["metadata"]["ownerReferences"] = [owner_reference(gateway)]
    return secret | {"type": "kubernetes.io/tls", "data": _encoded(values)}


def hub_ca(namespace: str, namespace_uid: str, bundle: str) -> Object:
    """The CA by which guards know the hub."""
    config = _object("ConfigMap", namespace, names.CONFIGMAP_HUB_CA, "hub-ca", namespace_uid)
    return config | {"data": {"ca.crt": bundle}}


def _encoded(values: dict[str, str]) -> dict[str, str]:
    return {name: b64encode(value.encode()).decode() for name, value in values.items()}
