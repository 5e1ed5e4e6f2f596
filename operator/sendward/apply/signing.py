"""The key that signs enforcement documents: made once, kept in the operator's own namespace.

Guards are given the public key when their pod is injected, so this key is not replaced on the way:
a guard with another public key refuses every document.
"""

from __future__ import annotations

import base64
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sendward import document, names
from sendward.apply import kinds
from sendward.apply.ports import Kube
from sendward.errors import Bug, Conflict, NotFound

_KEY_FILE: Final = "key.pem"
_PARAMETER: Final = "documentKey"


class DocumentSigner:
    """Seals and verifies the parts of documents."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    async def keep(self, kube: Kube, namespace: str) -> bool:
        """Put the key back if its Secret was deleted, since a start without it would make a new one. True
        when a write was needed. What somebody put in its place is left to a person.
        """
        try:
            await kube.get(kinds.SECRET, namespace, names.SECRET_DOCUMENT_KEY)
        except NotFound:
            await kube.create(kinds.SECRET, _secret(namespace, self._key))
            return True
        return False

    @property
    def public_key_base64(self) -> str:
        """The 32 raw bytes of the public key in base64, as the webhook hands it to guards."""
        return base64.b64encode(self._key.public_key().public_bytes_raw()).decode()

    def seal(
        self, gateway_uid: str, part: str, epoch: int, revision: int, payload: bytes
    ) -> document.Envelope:
        """Sign one part; `payload` comes from `document.compress`."""
        return document.seal(self._key, gateway_uid, part, epoch, revision, payload)

    def verify(self, envelope: document.Envelope, gateway_uid: str, part: str) -> None:
        """Raises DocumentError unless the envelope is ours, of this gateway and part."""
        document.verify(envelope, self._key.public_key(), gateway_uid, part)


async def load_signer(kube: Kube, namespace: str) -> DocumentSigner:
    """The signer of this installation; makes its key on the first start.

    Raises Bug when the Secret holds something else: making a new key would silently cut off every
    running guard, so a person must decide.
    """
    try:
        secret = await kube.get(kinds.SECRET, namespace, names.SECRET_DOCUMENT_KEY)
    except NotFound:
        try:
            secret = await kube.create(kinds.SECRET, _secret(namespace, Ed25519PrivateKey.generate()))
        except Conflict:  # a standby that started at the same time was first
            secret = await kube.get(kinds.SECRET, namespace, names.SECRET_DOCUMENT_KEY)
    return DocumentSigner(_parse(secret.get("data", {}).get(_KEY_FILE, "")))


async def publish_public_key(kube: Kube, namespace: str, signer: DocumentSigner) -> bool:
    """Put the public key where the webhook reads it; True when a write was needed."""
    try:
        parameters = await kube.get(kinds.CONFIG_MAP, namespace, names.CONFIGMAP_PARAMETERS)
    except NotFound:
        parameters = {}
    if (parameters.get("data") or {}).get(_PARAMETER) == signer.public_key_base64:
        return False
    await kube.apply(
        kinds.CONFIG_MAP,
        {
            "apiVersion": kinds.CONFIG_MAP.api_version,
            "kind": kinds.CONFIG_MAP.kind,
            "metadata": {"name": names.CONFIGMAP_PARAMETERS, "namespace": namespace},
            "data": {_PARAMETER: signer.public_key_base64},
        },
    )
    return True


def _secret(namespace: str, key: Ed25519PrivateKey) -> dict[str, object]:
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "apiVersion": kinds.SECRET.api_version,
        "kind": kinds.SECRET.kind,
        "metadata": {
            "name": names.SECRET_DOCUMENT_KEY,
            "namespace": namespace,
            "labels": {names.LABEL_MANAGED_BY: names.FIELD_MANAGER},
        },
        "type": "Opaque",
        "data": {_KEY_FILE: base64.b64encode(pem).decode()},
    }


def _parse(encoded: str) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(base64.b64decode(encoded), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise Bug(f"Secret {names.SECRET_DOCUMENT_KEY}: {_KEY_FILE} is not an Ed25519 private key")
    return key
