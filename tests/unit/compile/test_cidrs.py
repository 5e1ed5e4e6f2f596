from ipaddress import IPv4Network, collapse_addresses, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendward.compile.cidrs import Addresses, union

# Few distinct networks, so that they overlap, touch and nest often.
V4 = st.builds(
    lambda number, length: str(ip_network((number << 28 | number << 2, length), strict=False)),
    st.integers(0, 15),
    st.integers(0, 32),
)
V6 = st.builds(
    lambda number, length: str(ip_network(((number << 124) | (1 << 100), length), strict=False)),
    st.integers(0, 15),
    st.integers(0, 128),
)
CIDRS = st.lists(st.one_of(V4, V6), max_size=12)
PROBES = st.one_of(
    st.integers(0, 2**32 - 1).map(ip_address),
    st.integers(0, 2**128 - 1).map(ip_address),
    st.one_of(V4, V6).map(lambda cidr: ip_network(cidr)[0]),
    st.one_of(V4, V6).map(lambda cidr: ip_network(cidr)[-1]),
).map(str)


def contains(cidrs: list[str], address: str) -> bool:
    return any(ip_address(address) in ip_network(cidr) for cidr in cidrs)


@given(CIDRS, CIDRS, PROBES)
def test_sets_hold_what_their_cidrs_hold(left: list[str], right: list[str], address: str) -> None:
    in_left, in_right = contains(left, address), contains(right, address)
    assert (address in union(left)) == in_left
    assert (address in union(left) | union(right)) == (in_left or in_right)
    assert (address in union(left) & union(right)) == (in_left and in_right)


@given(CIDRS)
def test_cidrs_are_collapsed_and_complete(cidrs: list[str]) -> None:
    networks = [ip_network(cidr) for cidr in cidrs]
    expected = [
        *collapse_addresses(n for n in networks if isinstance(n, IPv4Network)),
        *collapse_addresses(n for n in networks if not isinstance(n, IPv4Network)),
    ]
    assert union(cidrs).cidrs() == tuple(str(network) for network in expected)


@given(CIDRS, CIDRS)
def test_equal_sets_are_equal(left: list[str], right: list[str]) -> None:
    assert union([*left, *right]) == union(right) | union(left)
    assert union(left) & union(right) == union(right) & union(left)
    assert union(union(left).cidrs()) == union(left)
    assert union(left) & union(left) == union(left)


@pytest.mark.parametrize(
    ("cidrs", "world"),
    [
        ([], False),
        (["0.0.0.0/0"], True),
        (["::/0"], True),
        (["0.0.0.0/1", "128.0.0.0/1"], True),
        (["::/1", "8000::/1", "10.0.0.0/8"], True),
        (["0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/3", "224.0.0.0/3"], True),
        (["0.0.0.0/1", "128.0.0.0/2"], False),
        (["0.0.0.0/1", "8000::/1"], False),
    ],
)
def test_covers_world(cidrs: list[str], world: bool) -> None:
    assert union(cidrs).covers_world() is world


def test_empty_set_is_false() -> None:
    assert not Addresses()
    assert not union(["10.0.0.0/8"]) & union(["fd00::/8"])
    assert union(["10.0.0.0/8"])


def test_text_that_is_no_cidr_raises() -> None:
    with pytest.raises(ValueError, match="host bits"):
        union(["10.0.0.1/8"])
