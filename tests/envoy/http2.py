"""The little HTTP/2 that a test needs to send what no well-behaved client sends."""

import asyncio

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _CONTINUATION = 0, 1, 3, 4, 6, 7, 9
_END_STREAM, _END_HEADERS = 0x1, 0x4
_STREAM = 1
_CANCEL = 8
_INDEXED = 0x80 | 62  # the newest entry of the dynamic table (RFC 7541, 2.3.3)
Fields = tuple[tuple[str, str], ...]


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _literal(name: str, value: str) -> bytes:
    """A header field without indexing and Huffman coding (RFC 7541, 6.2.2)."""
    assert len(name) < 127
    assert len(value) < 127
    return b"\x00" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()


OPENING = _PREFACE + _frame(_SETTINGS, 0, 0, b"")


def _block(fields: Fields) -> bytes:
    return b"".join(_literal(name, value) for name, value in fields)


def pseudo(method: str, path: str) -> Fields:
    """The fields that every request has."""
    return ((":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path))


def request(method: str, path: str, headers: Fields = ()) -> bytes:
    """A whole connection's worth of bytes: preface, settings, one request without a body."""
    return fields((*pseudo(method, path), *headers))


def fields(all_fields: Fields, body: bytes | None = None) -> bytes:
    """The same with exactly these fields, pseudo-header fields included, and perhaps a body."""
    end = _END_STREAM if body is None else 0
    data = b"" if body is None else _frame(_DATA, _END_STREAM, _STREAM, body)
    return OPENING + _frame(_HEADERS, end | _END_HEADERS, _STREAM, _block(all_fields)) + data


def unfinished(streams: int, *, reset: bool) -> bytes:
    """Many requests whose bodies never come; with `reset` each is cancelled at once."""
    made = [OPENING]
    for stream in range(1, 2 * streams, 2):
        made.append(_frame(_HEADERS, _END_HEADERS, stream, _block(pseudo("POST", "/v1/messages"))))
        if reset:
            made.append(_frame(_RST_STREAM, 0, stream, _CANCEL.to_bytes(4, "big")))
    return b"".join(made)


def endless_headers(frames: int) -> bytes:
    """Headers that go on in CONTINUATION frames and never end."""
    piece = _literal("x-more", "a" * 100) * 100
    first = _frame(_HEADERS, _END_STREAM, _STREAM, _block(pseudo("GET", "/v1/balance")))
    return OPENING + first + _frame(_CONTINUATION, 0, _STREAM, piece) * frames


def header_bomb(repetitions: int) -> bytes:
    """One header of 3,000 bytes in the dynamic table, then named again by one byte each time."""
    value = b"a" * 3000
    length = b"\x7f" + bytes(((len(value) - 127) % 128 | 0x80, (len(value) - 127) // 128))
    entry = b"\x40\x06x-bomb" + length + value
    block = _block(pseudo("GET", "/v1/balance")) + entry + bytes((_INDEXED,)) * repetitions
    return OPENING + _frame(_HEADERS, _END_STREAM | _END_HEADERS, _STREAM, block)


def pings(count: int) -> bytes:
    """Each wants an answer."""
    return OPENING + _frame(_PING, 0, 0, bytes(8)) * count


async def ends(reader: asyncio.StreamReader) -> bool:
    """Whether the whole connection is ended by the server."""
    while True:
        try:
            head = await reader.readexactly(9)
            await reader.readexactly(int.from_bytes(head[:3], "big"))
        except (OSError, asyncio.IncompleteReadError):
            return True
        if head[3] == _GOAWAY:
            return True


async def refused_streams(reader: asyncio.StreamReader, at_least: int) -> int:
    """How many streams were reset, once there are this many; all when the connection ends before."""
    resets = 0
    while resets < at_least:
        try:
            head = await reader.readexactly(9)
            await reader.readexactly(int.from_bytes(head[:3], "big"))
        except (OSError, asyncio.IncompleteReadError):
            break
        resets += head[3] == _RST_STREAM
    return resets


async def answered(reader: asyncio.StreamReader) -> bool:
    """Whether the request is answered to its end; False when its stream or the connection is reset."""
    while True:
        try:
            head = await reader.readexactly(9)
            await reader.readexactly(int.from_bytes(head[:3], "big"))
        except (OSError, asyncio.IncompleteReadError):
            return False
        kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
        if kind in {_RST_STREAM, _GOAWAY}:
            return False
        if stream == _STREAM and kind <= _HEADERS and flags & _END_STREAM:
            return True
