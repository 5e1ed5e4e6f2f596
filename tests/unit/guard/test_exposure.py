"""The kernel's tables of listening sockets."""

from __future__ import annotations

import socket

import pytest

from sendward.guard.exposure import exposed, read_tables

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue\n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("   0: 0100007F:1F90 00000000:0000 0A 0", ()),
        ("   0: 0200007F:1F90 00000000:0000 0A 0", ()),
        ("   0: 00000000:1F90 00000000:0000 0A 0", ("0.0.0.0",)),
        ("   0: 0500A8C0:1F90 00000000:0000 0A 0", ("192.168.0.5",)),
        ("   0: 00000000:1F91 00000000:0000 0A 0", ()),
        ("   0: 00000000:1F90 00000000:0000 01 0", ()),  # a connection, not a listener
        ("   0: " + "0" * 32 + ":1F90 " + "0" * 32 + ":0000 0A 0", ("::",)),
        ("   0: " + "0" * 24 + "01000000:1F90 " + "0" * 32 + ":0000 0A 0", ()),
        ("   0: 0000000000000000FFFF00000100007F:1F90 " + "0" * 32 + ":0000 0A 0", ()),
        ("", ()),
    ],
)
def test_tables(line: str, expected: tuple[str, ...]) -> None:
    assert exposed(8080, [HEAD + line + "\n"]) == expected


@pytest.mark.parametrize(("host", "expected"), [("127.0.0.1", ()), ("0.0.0.0", ("0.0.0.0",))])
def test_this_machine(host: str, expected: tuple[str, ...]) -> None:
    with socket.socket() as listener:
        listener.bind((host, 0))
        listener.listen()
        assert exposed(listener.getsockname()[1], read_tables()) == expected
