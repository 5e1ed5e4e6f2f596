"""The little HTTP/2 that a test needs to send what no well-behaved client sends."""

import asyncio

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY = 1, 3, 4, 7
_END_STREAM, _END_HEADERS = 0x1, 0x4
_STREAM = 1


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _literal(name: str, value: str) -> bytes:
    """A header field without indexing and Huffman coding (RFC 7541, 6.2.2)."""
    assert len(name) < 127
    assert len(value) < 127
    return b"\x00" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()


def request(method: str, path: str, headers: tuple[tuple[str, str], ...] = ()) -> bytes:
    """A whole connection's worth of bytes: preface, settings, one request without a body."""
    pseudo = ((":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path))
    block = b"".join(_literal(name, value) for name, value in (*pseudo, *headers))
    return (
        _PREFACE + _frame(_SETTINGS, 0, 0, b"") + _frame(_HEADERS, _END_STREAM | _END_HEADERS, _STREAM, block)
    )


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
