"""The readers of signed parts: whatever the bytes, a value or `DocumentError`."""

from __future__ import annotations

import gzip

import pytest

from sendward import document
from sendward.document import DocumentError, Envelope

DEEP = b"[" * 100_000


@pytest.mark.parametrize("raw", [DEEP, b'{"gateway":' + DEEP, b'{"x":' + DEEP, b'{"x":' + b'{"a":' * 5000])
def test_an_envelope_nested_beyond_all_bounds_is_refused(raw: bytes) -> None:
    with pytest.raises(DocumentError, match="not an envelope"):
        document.decode(raw)


@pytest.mark.parametrize(
    "raw", [b"\xff\xfe", b'{"gateway":"\xb9"}', b'{"part":"\xed\xa0\x80"}', b'{"x":"\xff"}']
)
def test_an_envelope_that_is_no_utf_8_is_refused(raw: bytes) -> None:
    with pytest.raises(DocumentError, match="not an envelope"):
        document.decode(raw)


@pytest.mark.parametrize("raw", [DEEP, b'{"accounts":' + DEEP, b'{"x":' + DEEP, b'{"accounts":["\xff"]}'])
def test_content_nested_beyond_all_bounds_is_refused(raw: bytes) -> None:
    envelope = Envelope("g", "0", 1, 1, gzip.compress(raw), b"")
    with pytest.raises(DocumentError, match="not a shard"):
        document.open_shard(envelope)
    with pytest.raises(DocumentError, match="not a gateway part"):
        document.open_gateway(envelope)
