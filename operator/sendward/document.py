"""The enforcement document: what the guard of one gateway needs, and nothing it could leak.

A document consists of parts: `gateway` (listener, operations, Envoy's configuration) and the shards
`0` .. `n-1` (accounts, their keys and limits; an account's shard is a hash of its uid). Each part
travels in an `Envelope`, signed with Ed25519 over gateway uid, part, format, epoch, revision and
content; it lies in a Secret, is streamed by the hub, and is kept on disk by the guard, always as
the same bytes. The encoding is JSON (RFC 8259) in gzip (RFC 1952), so that a filter in another
language can read it.

Key material in it: SHA-256 of 256-bit secrets only.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from typing import Final, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct, field

FORMAT: Final = 1
MAX_PART_BYTES: Final = 900_000  # compressed; a Secret holds at most 1 MiB
_MAX_CONTENT_BYTES: Final = 64 * 1024 * 1024  # a bound for decompression
# What JSON that is not ours may raise: it may also be no UTF-8, or nested too deeply.
_UNREADABLE: Final = (ValueError, RecursionError)


class Limit(Struct, frozen=True, omit_defaults=True):
    """`messages` per `period` seconds, at most `burst` at once (GCRA: rate and tolerance)."""

    messages: int
    period: int
    burst: int
    audit: bool = False


class Version(Struct, frozen=True, omit_defaults=True):
    """One accepted or revoked value of a key. `digest` is the hex SHA-256 of the 43-character secret."""

    id: str
    number: int
    digest: str
    not_after: int | None = None  # Unix seconds; refused from then on
    revoked: bool = False


class Key(Struct, frozen=True, omit_defaults=True):
    """An API key of an account. `None` in `operations` or `cidrs` means: not narrowed here.

    `cidrs` is a list of lists: the source must be in one network of *each* list.
    """

    uid: str
    name: str
    versions: list[Version] = field(default_factory=list)
    operations: list[str] | None = None
    cidrs: list[list[str]] = field(default_factory=list)
    limits: list[Limit] = field(default_factory=list)
    denied: str = ""  # a reason code of `verdict.Reason`: the key's policy is broken, refuse it


class Account(Struct, frozen=True, omit_defaults=True):
    """A sender account. `denied` holds a reason code when nothing of it may pass."""

    uid: str
    name: str
    denied: str = ""
    cidrs: list[list[str]] = field(default_factory=list)
    sender_ids: list[str] | None = None  # exact, case-sensitive; None: any
    limits: list[Limit] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)


class Shard(Struct, frozen=True):
    """The content of a numbered part, accounts sorted by uid."""

    accounts: list[Account]


class Place(Struct, frozen=True):
    """Where a value stands in a request: exactly one kind. `name` is a JSON pointer (RFC 6901),
    a query parameter or a form field.
    """

    kind: Literal["jsonPointer", "queryParameter", "formField"]
    name: str


class Operation(Struct, frozen=True, omit_defaults=True):
    """One operation of the send API. `prefix` True: `path` and everything below it."""

    name: str
    method: str
    path: str
    prefix: bool = False
    recipient: Place | None = None  # set on operations that submit a message
    sender_id: Place | None = None
    text: Place | None = None


class EnvoyFiles(Struct, frozen=True):
    """Complete xDS resources (JSON objects) for the files named in `names`."""

    listeners: list[dict[str, object]]
    clusters: list[dict[str, object]]
    secrets: list[dict[str, object]]


class Redis(Struct, frozen=True, omit_defaults=True):
    """Where the counters of limits are shared by all guards; how to log in is mounted, not told here."""

    host: str
    port: int = 6379
    tls: bool = False

    @property
    def place(self) -> str:
        """16 hex digits that tell one place from another."""
        return hashlib.sha256(f"{self.host}\n{self.port}\n{self.tls}".encode()).hexdigest()[:16]


class Gateway(Struct, frozen=True, omit_defaults=True):
    """The content of the part `gateway`. `deleted`: refuse all traffic."""

    uid: str
    namespace: str
    name: str
    shards: int
    operations: list[Operation]
    cidrs: list[str]  # judged again in the guard; [] refuses everybody
    envoy: EnvoyFiles
    application_port: int
    pods: int = 0  # known pods; a new guard without the hub takes limit / (pods + 1)
    stale_after: int | None = 86400  # seconds; None: never
    audit: bool = False  # limits and sender ids only
    refuse_exposure: bool = True  # `applicationExposure: Refuse`
    deleted: bool = False
    counters: Redis | None = None  # shared by all guards; None: each limits by its share


class Envelope(Struct, frozen=True):
    """A signed part. `payload` is gzip of the JSON of a `Gateway` or `Shard`; both byte fields are
    base64 in JSON.
    """

    gateway: str
    part: str
    epoch: int
    revision: int
    payload: bytes
    signature: bytes
    format: int = FORMAT

    @property
    def order(self) -> tuple[int, int]:
        """Which of two envelopes of one part is newer."""
        return self.epoch, self.revision

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the payload: equal digests mean equal content."""
        return hashlib.sha256(self.payload).hexdigest()


class DocumentError(Exception):
    """The bytes are no part of this document: forged, truncated, of another gateway or format."""


def _signed_bytes(gateway: str, part: str, epoch: int, revision: int, payload: bytes) -> bytes:
    head = [FORMAT, gateway, part, epoch, revision, hashlib.sha256(payload).hexdigest()]
    return b"sendward-document\n" + msgspec.json.encode(head)


def compress(content: Gateway | Shard) -> bytes:
    """Deterministic: equal content gives equal bytes."""
    return gzip.compress(msgspec.json.encode(content), compresslevel=6, mtime=0)


def seal(
    key: Ed25519PrivateKey, gateway: str, part: str, epoch: int, revision: int, payload: bytes
) -> Envelope:
    """Sign one part. `payload` comes from `compress`."""
    signature = key.sign(_signed_bytes(gateway, part, epoch, revision, payload))
    return Envelope(gateway, part, epoch, revision, payload, signature)


def encode(envelope: Envelope) -> bytes:
    """The bytes that lie in the Secret, on the wire and on the guard's disk."""
    return msgspec.json.encode(envelope)


def decode(raw: bytes) -> Envelope:
    """Raises DocumentError. Says nothing about the signature: call `verify`."""
    try:
        return msgspec.json.decode(raw, type=Envelope)
    except _UNREADABLE as error:
        raise DocumentError(f"not an envelope: {error}") from None


def verify(envelope: Envelope, key: Ed25519PublicKey, gateway: str, part: str) -> None:
    """Raises DocumentError unless the envelope is of this gateway, part and format, and signed by `key`."""
    if envelope.format != FORMAT:
        raise DocumentError(f"format {envelope.format}, expected {FORMAT}")
    if (envelope.gateway, envelope.part) != (gateway, part):
        raise DocumentError(f"belongs to gateway {envelope.gateway} part {envelope.part}")
    signed = _signed_bytes(gateway, part, envelope.epoch, envelope.revision, envelope.payload)
    try:
        key.verify(envelope.signature, signed)
    except InvalidSignature:
        raise DocumentError("signature does not match") from None


def _content(payload: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(payload)) as stream:
            raw = stream.read(_MAX_CONTENT_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DocumentError(f"not gzip: {error}") from None
    if len(raw) > _MAX_CONTENT_BYTES:
        raise DocumentError("content is too large")
    return raw


def open_gateway(envelope: Envelope) -> Gateway:
    """The content of the part `gateway`; raises DocumentError."""
    try:
        return msgspec.json.decode(_content(envelope.payload), type=Gateway)
    except _UNREADABLE as error:
        raise DocumentError(f"not a gateway part: {error}") from None


def open_shard(envelope: Envelope) -> Shard:
    """The content of a numbered part; raises DocumentError."""
    try:
        return msgspec.json.decode(_content(envelope.payload), type=Shard)
    except _UNREADABLE as error:
        raise DocumentError(f"not a shard: {error}") from None


def shard_of(account_uid: str, shards: int) -> int:
    """The shard of an account: stable for the life of both."""
    return int.from_bytes(hashlib.sha256(account_uid.encode()).digest()[:8], "big") % shards
