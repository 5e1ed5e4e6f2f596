"""The signing check of the benchmark really checks: else the comparison would flatter it."""

from __future__ import annotations

import hashlib
import hmac
import time

from tests.bench.signing import Checker

SECRET = b"secret"
BODY = b'{"to":"+447700900123"}'


def headers(nonce: bytes = b"1", age: int = 0, body: bytes = BODY) -> dict[bytes, bytes]:
    stamp = str(int(time.time()) - age).encode()
    text = b"\n".join((b"POST", b"/v1/messages", stamp, nonce, hashlib.sha256(body).hexdigest().encode()))
    signature = hmac.digest(SECRET, text, "sha256").hex().encode()
    return {b"x-timestamp": stamp, b"x-nonce": nonce, b"x-signature": signature}


def passes(checker: Checker, found: dict[bytes, bytes], body: bytes = BODY) -> bool:
    return checker.passes(b"POST", b"/v1/messages", found, body)


def test_a_signature_passes_once() -> None:
    checker = Checker(SECRET)
    assert passes(checker, headers())
    assert not passes(checker, headers())
    assert passes(checker, headers(b"2"))


def test_what_is_not_signed_or_old_is_refused() -> None:
    checker = Checker(SECRET)
    assert not passes(checker, {})
    assert not passes(checker, headers(), b"{}")
    assert not passes(checker, headers(age=400))
    assert not passes(checker, {**headers(), b"x-nonce": b"2"})
    assert not passes(Checker(b"other"), headers())
