"""Documents for tests: real keys, real signatures, small content."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sendward import document, keyformat
from sendward.document import Account, EnvoyFiles, Gateway, Key, Limit, Operation, Place, Shard, Version

GATEWAY_UID = "7d3f0c1e-0000-4000-8000-000000000001"
SIGNER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
FORGER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
PUBLIC_KEY = base64.b64encode(SIGNER.public_key().public_bytes_raw()).decode()

SEND = Operation(
    name="send",
    method="POST",
    path="/v1/messages",
    recipient=Place("jsonPointer", "/to"),
    sender_id=Place("jsonPointer", "/from"),
    text=Place("jsonPointer", "/text"),
)
STATUS = Operation(name="status", method="GET", path="/v1/messages", prefix=True)
NO_FILES = EnvoyFiles(listeners=[], clusters=[], secrets=[])


@dataclass(frozen=True)
class Credential:
    """An issued key version: what the sender holds, and what the document says of it."""

    id: str
    secret: str

    @property
    def value(self) -> str:
        return keyformat.encode(self.id, self.secret)

    def version(self, *, not_after: int | None = None, revoked: bool = False) -> Version:
        return Version(self.id, 1, keyformat.digest(self.secret), not_after, revoked)


def credential(name: str) -> Credential:
    """A credential that depends on `name` only."""
    seed = zlib.crc32(name.encode()).to_bytes(4, "big")
    return Credential(keyformat.id_from_bytes(seed * 2), keyformat.secret_from_bytes(seed * 8))


def account(
    name: str,
    *keys: Key,
    denied: str = "",
    cidrs: list[list[str]] | None = None,
    sender_ids: list[str] | None = None,
    limits: list[Limit] | None = None,
) -> Account:
    return Account(
        uid=f"account-{name}",
        name=name,
        denied=denied,
        cidrs=cidrs or [],
        sender_ids=sender_ids,
        limits=limits or [],
        keys=list(keys),
    )


def key(
    name: str,
    *versions: Version,
    operations: list[str] | None = None,
    cidrs: list[list[str]] | None = None,
    limits: list[Limit] | None = None,
    denied: str = "",
) -> Key:
    return Key(
        uid=f"key-{name}",
        name=name,
        versions=list(versions) or [credential(name).version()],
        operations=operations,
        cidrs=cidrs or [],
        limits=limits or [],
        denied=denied,
    )


def gateway(
    *,
    envoy: EnvoyFiles = NO_FILES,
    shards: int = 1,
    cidrs: list[str] | None = None,
    operations: list[Operation] | None = None,
    application_port: int = 1,
    pods: int = 0,
    stale_after: int | None = 86400,
    audit: bool = False,
    deleted: bool = False,
) -> Gateway:
    return Gateway(
        uid=GATEWAY_UID,
        namespace="sms",
        name="main",
        shards=shards,
        operations=[SEND, STATUS] if operations is None else operations,
        cidrs=["0.0.0.0/0", "::/0"] if cidrs is None else cidrs,
        envoy=envoy,
        application_port=application_port,
        pods=pods,
        stale_after=stale_after,
        audit=audit,
        deleted=deleted,
    )


def shard(*accounts: Account) -> Shard:
    return Shard(accounts=list(accounts))


def sealed(
    content: Gateway | Shard,
    revision: int,
    *,
    part: str = "",
    epoch: int = 1,
    signer: Ed25519PrivateKey = SIGNER,
    gateway_uid: str = GATEWAY_UID,
) -> bytes:
    """The encoded envelope; `part` is by default that of the content, or shard 0."""
    part = part or ("gateway" if isinstance(content, Gateway) else "0")
    payload = document.compress(content)
    return document.encode(document.seal(signer, gateway_uid, part, epoch, revision, payload))
