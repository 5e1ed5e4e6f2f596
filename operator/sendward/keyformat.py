"""HTTP API keys: `swk_<id>_<secret>_<checksum>`, all in base62 of fixed width.

The id (10 characters) names one key version and is no secret. The secret (43 characters) carries
256 bits; only its SHA-256 is ever published. The checksum (6 characters) is the CRC-32 of everything
before the last underscore, so that typing errors and leak scanners need no lookup.
"""

from __future__ import annotations

import hashlib
import re
import string
import zlib
from typing import Final

ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
ID_WIDTH: Final = 10
SECRET_WIDTH: Final = 43
CHECKSUM_WIDTH: Final = 6
SECRET_BYTES: Final = 32
ID_BYTES: Final = 8

_KEY: Final = re.compile(r"(swk_([0-9A-Za-z]{10})_([0-9A-Za-z]{43}))_([0-9A-Za-z]{6})")
_ID: Final = re.compile(r"[0-9A-Za-z]{10}")
_SECRET: Final = re.compile(r"[0-9A-Za-z]{43}")


def base62(number: int, width: int) -> str:
    """`number` in base62, padded with zeros; ValueError if it is negative or does not fit."""
    if number < 0:
        raise ValueError("negative number")
    digits = []
    for _ in range(width):
        number, rest = divmod(number, 62)
        digits.append(ALPHABET[rest])
    if number:
        raise ValueError(f"number needs more than {width} base62 digits")
    return "".join(reversed(digits))


def secret_from_bytes(raw: bytes) -> str:
    """The secret for 32 random bytes; ValueError for any other length."""
    if len(raw) != SECRET_BYTES:
        raise ValueError(f"a secret takes {SECRET_BYTES} bytes")
    return base62(int.from_bytes(raw, "big"), SECRET_WIDTH)


def id_from_bytes(raw: bytes) -> str:
    """The id of a key version for 8 random bytes; ValueError for any other length."""
    if len(raw) != ID_BYTES:
        raise ValueError(f"an id takes {ID_BYTES} bytes")
    return base62(int.from_bytes(raw, "big") % 62**ID_WIDTH, ID_WIDTH)


# Two digits at a time: a checksum is made for each request.
_PAIRS: Final = tuple(first + second for first in ALPHABET for second in ALPHABET)


def _checksum(head: str) -> str:
    rest, last = divmod(zlib.crc32(head.encode("ascii")), len(_PAIRS))
    first, middle = divmod(rest, len(_PAIRS))
    return _PAIRS[first] + _PAIRS[middle] + _PAIRS[last]


def encode(key_id: str, secret: str) -> str:
    """The complete key; ValueError (without the values) if a part has the wrong form."""
    if not _ID.fullmatch(key_id) or not _SECRET.fullmatch(secret):
        raise ValueError("id or secret has the wrong form")
    head = f"swk_{key_id}_{secret}"
    return f"{head}_{_checksum(head)}"


def parse(text: str) -> tuple[str, str] | None:
    """(id, secret) of a complete key, or None if it is none or its checksum is wrong."""
    match = _KEY.fullmatch(text)
    if match is None:
        return None
    head, key_id, secret, checksum = match.groups()
    return (key_id, secret) if _checksum(head) == checksum else None


def digest(secret: str) -> str:
    """Hex SHA-256 of a secret: its verifier in the enforcement document."""
    return hashlib.sha256(secret.encode("ascii")).hexdigest()
