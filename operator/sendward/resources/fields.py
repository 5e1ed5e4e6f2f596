"""Field types that several kinds share; each carries its bounds, so schema and pydantic agree."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Final

from pydantic import Field

from sendward import names
from sendward.resources.rules import Rule, Unique, cel_compare

_DURATION: Final = re.compile(r"([1-9][0-9]{0,5})(s|m|h|d)")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}

LABEL_NAME: Final = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_DNS_LABEL: Final = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_DNS_NAME: Final = rf"({_DNS_LABEL}\.)*{_DNS_LABEL}"

DURATION_PATTERN: Final = r"^[1-9][0-9]{0,5}(s|m|h|d)$"
DURATION_OR_NEVER_PATTERN: Final = r"^([1-9][0-9]{0,5}(s|m|h|d)|Never)$"
NAME_PATTERN: Final = r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$"
NAMESPACE_PATTERN: Final = rf"^{_DNS_LABEL}$"
SECRET_NAME_PATTERN: Final = rf"^{_DNS_NAME}$"
CERTIFICATE_NAME_PATTERN: Final = rf"^(\*\.)?{_DNS_NAME}$"
OPERATION_PATTERN: Final = r"^[a-z][a-z0-9-]{0,30}$"
SENDER_ID_PATTERN: Final = r"^(\+?[0-9]{3,15}|[A-Za-z0-9 ._&-]{1,11})$"
TEXT_PATTERN: Final = r"^[^\x00-\x1f\x7f]*$"
PRINTABLE_PATTERN: Final = r"^[!-~]*$"
LABEL_VALUE_PATTERN: Final = rf"^({LABEL_NAME})?$"
PATH_PATTERN: Final = r"^/[A-Za-z0-9._~/-]*$"
POINTER_PATTERN: Final = r"^(/([^/~]|~[01])*)+$"

_NAME: Final = re.compile(NAME_PATTERN.strip("^$"))

# What to write instead, for each pattern: `parse` shows it in place of the expression.
HINTS: Final = {
    DURATION_PATTERN: "is no duration. Write a whole number and a unit: 30s, 15m, 12h or 90d",
    DURATION_OR_NEVER_PATTERN: "is no duration. Write 30s, 15m, 12h or 90d, or Never",
    NAME_PATTERN: "is no name. Write a DNS label: a-z, 0-9 and -, at most 40 characters",
    NAMESPACE_PATTERN: "is no namespace name. Write a DNS label: a-z, 0-9 and -, at most 63 characters",
    SECRET_NAME_PATTERN: "is no name of a Secret. Write a DNS name: a-z, 0-9, - and .",
    CERTIFICATE_NAME_PATTERN: "is no DNS name. Write, for example, api.example.com or *.example.com",
    OPERATION_PATTERN: "is no operation name. Write a-z, 0-9 and -, from a letter on, at most 31 characters",
    SENDER_ID_PATTERN: "is no sender id. Write 3 to 15 digits, or up to 11 letters, digits, blanks, . _ & -",
    TEXT_PATTERN: "has control characters. Remove them",
    PRINTABLE_PATTERN: "has blanks or unprintable characters. Write printable ASCII without blanks",
    LABEL_VALUE_PATTERN: "is no label value. Write letters, digits, - _ and ., at most 63 characters",
    PATH_PATTERN: "is no path. Start with /, go on with letters, digits and . _ ~ / -",
    POINTER_PATTERN: "is no JSON pointer (RFC 6901). Write, for example, /to or /message/text",
}


def seconds(duration: str) -> int:
    """Seconds of a duration such as "30s", "15m", "12h", "90d"; raises ValueError."""
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise ValueError(f"{duration!r} is no duration such as 30s, 15m, 12h or 90d")
    return int(match[1]) * _UNITS[match[2]]


def is_name(value: str) -> bool:
    """Whether an object of ours may have this name."""
    return _NAME.fullmatch(value) is not None


def _network(value: str) -> IPv4Network | IPv6Network | None:
    """The network, host bits dropped; None when the text is none, or is an IPv4-mapped one."""
    try:
        network = ip_network(value, strict=False)
    except ValueError:
        return None
    if "%" in value:  # a zone: names an interface of some machine
        return None
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
        return None
    return network


def _is_canonical(value: str) -> bool:
    return str(_network(value)) == value


def _cidr_remedy(value: str) -> str:
    network = _network(value)
    if network is None:
        return f"{value} is no CIDR. Write, for example, 192.0.2.0/24 or 2001:db8::/32"
    if "/" not in value:
        return f"{value} has no prefix length. Write {network}"
    return f"{value} has host bits set, or another spelling. Write {network}"


def at_least(minimum: str) -> Rule:
    """A duration that is not shorter than `minimum`."""
    return Rule(
        cel=cel_compare("self", ">=", seconds(minimum)),
        message=f"is too short. Write at least {minimum}",
        holds=lambda value: seconds(value) >= seconds(minimum),
    )


def at_most(maximum: str) -> Rule:
    """A duration that is not longer than `maximum`."""
    return Rule(
        cel=cel_compare("self", "<=", seconds(maximum)),
        message=f"is too long. Write at most {maximum}",
        holds=lambda value: seconds(value) <= seconds(maximum),
    )


NOT_ANY: Final = Rule(
    cel="!self.endsWith('/0')",
    message="lets every address in. Remove it; to narrow nothing, leave the whole list out",
    holds=lambda value: not value.endswith("/0"),
)
_NOT_RESERVED: Final = Rule(
    cel=f"!(self in {sorted(names.RESERVED_PORTS)})",
    message=f"is a port of the sidecar. Write any but {' and '.join(map(str, sorted(names.RESERVED_PORTS)))}",
    holds=lambda value: value not in names.RESERVED_PORTS,
)
_CANONICAL: Final = Rule(
    cel="isCIDR(self) && string(cidr(self).masked()) == self",
    message="is no canonical CIDR. Write, for example, 192.0.2.0/24 or 2001:db8::/32, without host bits",
    holds=_is_canonical,
    describe=_cidr_remedy,
    # The network itself is not in it: the API server takes `string(cidr)` for unbounded.
    message_cel=(
        "isCIDR(self)"
        " ? self + ' has host bits set, or another spelling. Write the network: 10.0.0.0/8, not 10.1.2.3/8'"
        " : self + ' is no CIDR. Write, for example, 192.0.2.0/24 or 2001:db8::/32'"
    ),
)

CIDR = Annotated[
    str,
    Field(max_length=43, description="A network in CIDR notation."),
    _CANONICAL,
]
# Where the list narrows and its absence means "not narrowed", a /0 is a mistake.
NarrowCIDR = Annotated[CIDR, NOT_ANY]
Duration = Annotated[str, Field(pattern=DURATION_PATTERN, max_length=7)]
DurationOrNever = Annotated[str, Field(pattern=DURATION_OR_NEVER_PATTERN, max_length=7)]
# DNS label (RFC 1123); 40 characters leave room for the names of owned objects.
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=40, description="Name of an object.")]
OperationName = Annotated[
    str, Field(pattern=OPERATION_PATTERN, max_length=31, description="Name of an operation of the gateway.")
]
Port = Annotated[int, Field(ge=1, le=65535)]
PodPort = Annotated[Port, _NOT_RESERVED]
# A sender id: up to 15 digits with an optional +, or an alphanumeric one of up to 11
# (3GPP TS 23.040, 9.1.2.5).
SenderId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=16,
        pattern=SENDER_ID_PATTERN,
        description="A sender id, as the request has it.",
    ),
]
SourceCIDRs = Annotated[list[NarrowCIDR], Field(min_length=1, max_length=64), Unique()]
OperationNames = Annotated[list[OperationName], Field(min_length=1, max_length=32), Unique()]
