"""Signed parts: whatever the bytes, a value or `DocumentError`; only what was signed is believed.

The first byte chooses: bytes as an envelope, as content of a shard or of a gateway part; or a genuine
envelope with some bytes changed.
"""

from __future__ import annotations

import contextlib
import gzip

from sendward import document
from sendward.document import DocumentError, Envelope
from sendward.guard.policy import Policy, gateway_view
from tests.fuzz.choices import Choices
from tests.guard import builders

_PARTS = (
    builders.sealed(builders.gateway(), 1),
    builders.sealed(builders.shard(builders.account("acme", builders.key("one"))), 2, part="0"),
)
_GENUINE = {document.decode(raw) for raw in _PARTS}


def envelopes(data: bytes) -> None:
    """One message or file."""
    choices = Choices(data)
    match choices.number(4):
        case 0:
            _examine(choices.rest())
        case 1:
            _examine(_damaged(choices, choices.pick(_PARTS)))
        case 2:
            _read(gzip.compress(choices.rest(), compresslevel=1, mtime=0))
        case _:
            _read(choices.rest())


def _examine(raw: bytes) -> None:
    try:
        envelope = document.decode(raw)
        assert document.decode(document.encode(envelope)) == envelope
        document.verify(envelope, builders.SIGNER.public_key(), builders.GATEWAY_UID, envelope.part)
    except DocumentError:
        return
    assert envelope in _GENUINE


def _damaged(choices: Choices, raw: bytes) -> bytes:
    for _ in range(1 + choices.number(4)):
        at, length = choices.number(len(raw)), choices.number(8)
        raw = raw[:at] + choices.take(choices.number(8)) + raw[at + length :]
    return raw


def _read(payload: bytes) -> None:
    """Content counts only when it was signed; still it is read by code that must not fail otherwise."""
    envelope = Envelope(builders.GATEWAY_UID, "0", 1, 1, payload, b"")
    try:
        content = document.open_shard(envelope)
        assert document.open_shard(Envelope("", "0", 1, 1, document.compress(content), b"")) == content
        Policy().set_shard(0, content)
    except DocumentError:
        pass
    with contextlib.suppress(DocumentError, ValueError):
        gateway_view(document.open_gateway(envelope))
