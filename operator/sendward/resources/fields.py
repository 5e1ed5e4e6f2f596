"""Field types that several kinds share; each carries its bounds, so schema and pydantic agree."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Annotated, Final

from pydantic import AfterValidator, Field

_DURATION: Final = re.compile(r"^([1-9][0-9]{0,5})(s|m|h|d)$")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _network(value: str) -> str:
    network = ip_network(value, strict=True)  # raises on host bits
    if network.version == 6 and network.network_address.ipv4_mapped is not None:
        raise ValueError("an IPv4-mapped IPv6 network; write the IPv4 network")
    return value


def seconds(duration: str) -> int:
    """Seconds of a duration such as "30s", "15m", "12h", "90d"; raises ValueError."""
    match = _DURATION.match(duration)
    if match is None:
        raise ValueError(f"{duration!r} is no duration such as 30s, 15m, 12h or 90d")
    return int(match[1]) * _UNITS[match[2]]


def _duration(value: str) -> str:
    seconds(value)
    return value


CIDR = Annotated[str, Field(min_length=4, max_length=43), AfterValidator(_network)]
Duration = Annotated[
    str, Field(pattern=_DURATION.pattern, max_length=7), AfterValidator(_duration)
]
# DNS label (RFC 1123); 40 characters leave room for the names of owned objects.
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$", max_length=40)]
OperationName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$", max_length=31)]
Port = Annotated[int, Field(ge=1, le=65535)]
# A sender id: up to 15 digits with an optional +, or an alphanumeric one of up to 11 (3GPP TS 23.040, 9.1.2.5).
SenderId = Annotated[
    str, Field(min_length=1, max_length=16, pattern=r"^(\+?[0-9]{3,15}|[A-Za-z0-9 ._&-]{1,11})$")
]
