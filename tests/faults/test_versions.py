"""Documents of another format, as another version of Sendward would write them: refused with a reason, and
what was in force before stays."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator

import msgspec
import pytest

from sendward import document
from sendward.document import Envelope
from sendward.protocol import PPM, Ack, Hello, Nack, Part, Shares
from tests.guard import builders
from tests.guard.harness import Harness, eventually

KEY = builders.credential("one")
BEARER = {"authorization": f"Bearer {KEY.value}"}
SHARD = builders.shard(builders.account("acme", builders.key("one", KEY.version())))


@pytest.fixture
async def pod() -> AsyncIterator[Harness]:
    """Guard and Envoy, ready, with a document from the hub."""
    harness = Harness()
    try:
        await harness.start()
        await harness.hub.wait_for(Hello)
        content = builders.gateway(envoy=harness.files(), application_port=harness.application_port)
        for raw in (builders.sealed(content, 5), builders.sealed(SHARD, 5)):
            await harness.hub.send(Part(raw))
        await harness.hub.wait_for(Ack, lambda ack: ack.part == "gateway")
        await harness.hub.send(Shares(round=1, default=PPM))
        await eventually(harness.ready, "readiness")
        yield harness
    finally:
        await harness.stop()


def of_another_format(number: int) -> bytes:
    """Newer than what the guard has, without the key, and in a format that it does not know."""
    known = document.decode(builders.sealed(builders.shard(), 9))
    return document.encode(msgspec.structs.replace(known, format=number))


@pytest.mark.parametrize("number", [0, document.FORMAT + 1, 99])
async def test_a_document_of_another_format_is_refused_and_the_previous_one_stays(
    pod: Harness, number: int
) -> None:
    await pod.hub.send(Part(of_another_format(number)))
    nack = await pod.hub.wait_for(Nack)
    assert f"format {number}, expected {document.FORMAT}" in nack.message
    assert (nack.part, nack.revision) == ("0", 9)  # so that the gateway's status can tell it
    status, _, _ = await pod.send(BEARER)
    assert status == 200


def test_fields_of_a_newer_version_are_no_reason_to_refuse() -> None:
    """Of the same format: what this version does not know is ignored, the signature covers it."""
    content = msgspec.json.decode(msgspec.json.encode(SHARD))
    content["accounts"][0]["quota"] = {"messages": 7}
    content["regions"] = ["eu"]
    payload = gzip.compress(msgspec.json.encode(content), mtime=0)
    sealed = document.seal(builders.SIGNER, builders.GATEWAY_UID, "0", 1, 1, payload)
    document.verify(sealed, builders.SIGNER.public_key(), builders.GATEWAY_UID, "0")
    assert document.open_shard(sealed) == SHARD


def test_an_envelope_of_a_newer_version_keeps_its_place() -> None:
    """Unknown fields of the envelope itself change nothing of what is signed."""
    raw = msgspec.json.decode(builders.sealed(SHARD, 3))
    found = document.decode(msgspec.json.encode({**raw, "compression": "zstd"}))
    assert isinstance(found, Envelope)
    document.verify(found, builders.SIGNER.public_key(), builders.GATEWAY_UID, "0")
