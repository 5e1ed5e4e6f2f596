"""Whether the application listens where clients could reach it past the sidecar.

A NetworkPolicy does not stop a pod's own node, and nothing without an enforcing CNI; so the
application has to listen on loopback. The pod's network namespace is shared: /proc/net shows it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_LISTEN: Final = "0A"
_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The kernel's notation: 32-bit words in the machine's byte order (little endian)."""
    words = [bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(words))
    if address.version == 6 and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def exposed(port: int, tables: Iterable[str]) -> tuple[str, ...]:
    """Addresses other than loopback on which `port` listens. `tables`: text of /proc/net/tcp{,6}."""
    found = []
    for table in tables:
        for line in table.splitlines()[1:]:
            fields = line.split()
            if len(fields) < 4 or fields[3] != _LISTEN:
                continue
            address, _, number = fields[1].partition(":")
            if int(number, 16) == port and not _address(address).is_loopback:
                found.append(str(_address(address)))
    return tuple(found)


def read_tables() -> tuple[str, ...]:
    """The tables of this network namespace; tcp6 is absent where IPv6 is off."""
    return tuple(path.read_text() for path in _TABLES if path.exists())
