"""Sets of IP addresses: union, intersection and whether one covers the world.

A set is kept as sorted, disjoint, non-adjacent ranges of integers, so that the union over ten
thousand accounts is one sort. Every function takes CIDRs as the resource models accept them: strict
(no host bits), IPv4 and IPv6, no IPv4-mapped IPv6.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network, summarize_address_range
from itertools import islice
from typing import Final

_BITS: Final = {4: 32, 6: 128}

Range = tuple[int, int, int]  # IP version, first address, last address


@dataclass(frozen=True, slots=True)
class Addresses:
    """A set of IPv4 and IPv6 addresses. Equal sets compare equal, however they were written."""

    ranges: tuple[Range, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __contains__(self, address: str) -> bool:
        parsed = ip_address(address)
        number = int(parsed)
        return any(v == parsed.version and first <= number <= last for v, first, last in self.ranges)

    def __or__(self, other: Addresses) -> Addresses:
        return Addresses(_merge([*self.ranges, *other.ranges]))

    def __and__(self, other: Addresses) -> Addresses:
        return Addresses(tuple(_overlaps(self.ranges, other.ranges)))

    def cidrs(self, limit: int | None = None) -> tuple[str, ...]:
        """The fewest CIDRs that make up this set, IPv4 first, ascending; the first `limit` of them."""
        return tuple(islice((cidr for item in self.ranges for cidr in _cidrs(*item)), limit))

    def covers_world(self) -> bool:
        """Whether every IPv4 or every IPv6 address is in it."""
        return any(first == 0 and last == 2 ** _BITS[v] - 1 for v, first, last in self.ranges)


def union(cidrs: Iterable[str]) -> Addresses:
    """The set of all addresses in any of `cidrs`; raises ValueError on text that is no CIDR."""
    return Addresses(_merge([_range(cidr) for cidr in set(cidrs)]))


@lru_cache(maxsize=65536)  # one changed account must not parse the others' lists again
def _range(cidr: str) -> Range:
    network = ip_network(cidr)
    return network.version, int(network.network_address), int(network.broadcast_address)


def _merge(ranges: list[Range]) -> tuple[Range, ...]:
    merged: list[Range] = []
    for version, first, last in sorted(ranges):
        if merged and merged[-1][0] == version and first <= merged[-1][2] + 1:
            merged[-1] = (version, merged[-1][1], max(last, merged[-1][2]))
        else:
            merged.append((version, first, last))
    return tuple(merged)


def _overlaps(left: tuple[Range, ...], right: tuple[Range, ...]) -> Iterable[Range]:
    i = j = 0
    while i < len(left) and j < len(right):
        (left_version, left_first, left_last), (right_version, right_first, right_last) = left[i], right[j]
        first, last = max(left_first, right_first), min(left_last, right_last)
        if left_version == right_version and first <= last:
            yield left_version, first, last
        if (left_version, left_last) <= (right_version, right_last):
            i += 1
        else:
            j += 1


def _cidrs(version: int, first: int, last: int) -> Iterable[str]:
    if version == 4:
        return (str(net) for net in summarize_address_range(IPv4Address(first), IPv4Address(last)))
    return (str(net) for net in summarize_address_range(IPv6Address(first), IPv6Address(last)))
