"""Requests that hide a second one from whoever reads their length in another way (RFC 9112, section 11.2)."""

from collections.abc import Callable


def _smuggled(key: str, *lines: str, body: bytes) -> bytes:
    head = ["POST /v1/messages HTTP/1.1", "host: x", f"authorization: Bearer {key}",
            "content-type: application/json", *lines]  # fmt: skip
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


SECOND = b"GET /debug/last HTTP/1.1\r\nhost: x\r\n\r\n"
CHUNKED = b"0\r\n\r\n"
SMUGGLING: dict[str, Callable[[str], bytes]] = {
    "CL and TE": lambda key: _smuggled(
        key, f"content-length: {len(CHUNKED + SECOND)}", "transfer-encoding: chunked", body=CHUNKED + SECOND
    ),
    "TE and CL": lambda key: _smuggled(
        key, "transfer-encoding: chunked", "content-length: 5", body=CHUNKED + SECOND
    ),
    "two lengths": lambda key: _smuggled(key, "content-length: 0", "content-length: 41", body=SECOND),
    "TE in disguise": lambda key: _smuggled(
        key, "content-length: 5", "transfer-encoding: xchunked", body=CHUNKED + SECOND
    ),
    "space before the colon": lambda key: _smuggled(
        key, "content-length : 5", "transfer-encoding: chunked", body=CHUNKED + SECOND
    ),
    "negative length": lambda key: _smuggled(key, "content-length: -1", body=SECOND),
    "chunk size beyond all bounds": lambda key: _smuggled(
        key, "transfer-encoding: chunked", body=b"fffffffffffffffff\r\n" + SECOND
    ),
    "header folded": lambda key: _smuggled(key, "x-note: a", " authorization: Bearer x", body=b""),
    "bare line feeds": lambda key: _smuggled(key, "content-length: 0", body=b"").replace(b"\r\n", b"\n"),
    "HTTP/1.0": lambda key: _smuggled(key, "content-length: 0", body=b"").replace(b"/1.1", b"/1.0"),
    "HTTP/0.9": lambda key: b"GET /debug/last\r\n\r\n",
    "CONNECT": lambda key: b"CONNECT 127.0.0.1:8080 HTTP/1.1\r\nhost: 127.0.0.1:8080\r\n\r\n",
    "upgrade to HTTP/2": lambda key: _smuggled(
        key, "connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQ", body=b""
    ),
    "binary": lambda key: bytes(range(256)) * 8,
}
