"""The form of an API key: what is encoded parses, and nothing else does."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendward import keyformat

ids = st.binary(min_size=8, max_size=8).map(keyformat.id_from_bytes)
secrets = st.binary(min_size=32, max_size=32).map(keyformat.secret_from_bytes)


@given(ids, secrets)
def test_what_is_encoded_parses(key_id: str, secret: str) -> None:
    text = keyformat.encode(key_id, secret)
    assert len(text) == 65
    assert keyformat.parse(text) == (key_id, secret)


@given(ids, secrets, st.integers(0, 64), st.sampled_from(keyformat.ALPHABET + "_-. \n"))
def test_a_single_wrong_character_is_noticed(key_id: str, secret: str, at: int, wrong: str) -> None:
    text = keyformat.encode(key_id, secret)
    changed = text[:at] + wrong + text[at + 1 :]
    assert changed == text or keyformat.parse(changed) is None


@given(st.text())
def test_parse_is_total(text: str) -> None:
    assert keyformat.parse(text) is None


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_secrets_are_as_different_as_their_bytes(left: bytes, right: bytes) -> None:
    same = keyformat.secret_from_bytes(left) == keyformat.secret_from_bytes(right)
    assert same is (left == right)


@pytest.mark.parametrize(
    ("number", "width", "expected"), [(0, 1, "0"), (61, 2, "0z"), (62, 2, "10"), (10, 1, "A"), (36, 1, "a")]
)
def test_base62(number: int, width: int, expected: str) -> None:
    assert keyformat.base62(number, width) == expected


@pytest.mark.parametrize(("number", "width"), [(62, 1), (-1, 3)])
def test_base62_refuses_what_does_not_fit(number: int, width: int) -> None:
    with pytest.raises(ValueError, match="number"):
        keyformat.base62(number, width)


def test_widest_values_fit() -> None:
    assert len(keyformat.secret_from_bytes(b"\xff" * 32)) == 43
    assert len(keyformat.id_from_bytes(b"\xff" * 8)) == 10


@pytest.mark.parametrize(
    ("key_id", "secret"), [("short", "s" * 43), ("A" * 10, "s" * 42), ("A_" * 5, "s" * 43)]
)
def test_encode_refuses_wrong_parts_without_naming_them(key_id: str, secret: str) -> None:
    with pytest.raises(ValueError, match="wrong form") as error:
        keyformat.encode(key_id, secret)
    assert secret not in str(error.value)


def test_digest_is_sha256_in_hex() -> None:
    assert keyformat.digest("s" * 43) == hashlib.sha256(b"s" * 43).hexdigest()
