"""Field types that several kinds share; each carries its bounds, so schema and pydantic agree."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
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
_BROADCAST: Final = IPv4Address("255.255.255.255")
# What resolvers read as a number, and so as an address: 10.1, 0x7f.1, 2130706433.
_NUMBER_AT_END: Final = r"(^|[.])([0-9]+|0x[0-9a-f]*)$"
# A label's key: an optional DNS prefix of at most 253 characters, and a name.
_LABEL_KEY: Final = rf"([a-z0-9]([-a-z0-9.]{{0,251}}[a-z0-9])?/)?{LABEL_NAME}"
_BROKEN_PREFIX: Final = "([.][.]|[.]-|-[.]).*/"

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


def address(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host is written as; None for a name, a zone's and an IPv4-mapped address."""
    try:
        found = ip_address(host)
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and (found.scope_id is not None or found.ipv4_mapped is not None):
        return None
    return found


def _is_host(value: str) -> bool:
    found = address(value)
    if found is not None:
        return str(found) == value
    return re.fullmatch(_DNS_NAME, value) is not None and re.search(_NUMBER_AT_END, value) is None


def _is_elsewhere(host: str) -> bool:
    found = address(host)
    if found is None:
        return host != "localhost" and not host.endswith(".localhost")
    nobodys = found.is_unspecified or found.is_multicast or found == _BROADCAST
    return not (nobodys or found.is_loopback or found.is_link_local)


def _is_label_key(key: str) -> bool:
    return (
        len(key) <= 317
        and re.fullmatch(_LABEL_KEY, key) is not None
        and re.search(_BROKEN_PREFIX, key) is None
    )


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

_IS_HOST: Final = Rule(
    cel="isIP(self) ? ip.isCanonical(self)"
    f" : self.matches(r'^{_DNS_NAME}$') && !self.matches('{_NUMBER_AT_END}')",
    message="is no host. Write a DNS name in lower case, or an IP address in its usual spelling:"
    " redis.example.com, 192.0.2.7 or 2001:db8::7",
    holds=_is_host,
)
_IS_ELSEWHERE: Final = Rule(
    cel="isIP(self) ? ip(self).isGlobalUnicast() : self != 'localhost' && !self.endsWith('.localhost')",
    message="is another host in each pod. Write a name or an address that is the same for all of them",
    holds=_is_elsewhere,
)
_LABEL_KEYS: Final = Rule(
    cel=f"self.all(k, size(k) <= 317 && k.matches('^{_LABEL_KEY}$') && !k.matches('{_BROKEN_PREFIX}'))",
    message="has a key that is no label. Write, for example, tier or example.com/tier",
    holds=lambda labels: all(_is_label_key(key) for key in labels),
)

CIDR = Annotated[
    str,
    Field(max_length=43, description="A network in CIDR notation."),
    _CANONICAL,
]
# Where the list narrows and its absence means "not narrowed", a /0 is a mistake.
NarrowCIDR = Annotated[CIDR, NOT_ANY]
# The same host for every pod: a name, or a canonical address.
Host = Annotated[str, Field(max_length=253), _IS_HOST, _IS_ELSEWHERE]
Labels = Annotated[
    dict[str, Annotated[str, Field(max_length=63, pattern=LABEL_VALUE_PATTERN, description="Its value.")]],
    Field(min_length=1, max_length=8),
    _LABEL_KEYS,
]
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
