"""Sets of networks against the standard library's own arithmetic."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendward.document import Account, Key, Limit, Version
from sendward.guard.policy import Networks, Policy, gateway_view
from tests.guard import builders

v4 = st.builds(
    lambda number, length: str(ipaddress.ip_network((number, length), strict=False)),
    st.integers(0, 2**32 - 1),
    st.integers(0, 32),
)
v6 = st.builds(
    lambda number, length: str(ipaddress.ip_network((number, length), strict=False)),
    st.integers(2**64, 2**128 - 1),
    st.integers(0, 128),
)


@given(st.lists(v4 | v6, max_size=8), st.integers(0, 2**32 - 1), st.integers(-2, 2))
def test_membership(cidrs: list[str], number: int, near: int) -> None:
    networks = Networks(cidrs)
    parsed = [ipaddress.ip_network(cidr) for cidr in cidrs]
    edges = [int(net.network_address) + near for net in parsed] + [
        int(net.broadcast_address) + near for net in parsed
    ]
    for candidate in (number, *edges):
        for version, cls in ((4, ipaddress.IPv4Address), (6, ipaddress.IPv6Address)):
            if 0 <= candidate < 2 ** (32 if version == 4 else 128):
                expected = any(net.version == version and cls(candidate) in net for net in parsed)
                assert ((version, candidate) in networks) is expected


@pytest.mark.parametrize("cidr", ["10.0.0.1/8", "10.0.0.0/33", "example", ""])
def test_what_is_no_network_is_refused(cidr: str) -> None:
    with pytest.raises(ValueError, match=r"does not appear|has host bits"):
        Networks([cidr])


def test_missing_shards_are_named() -> None:
    policy = Policy()
    assert list(policy.missing) == []
    policy.set_shard(1, builders.shard())
    policy.set_gateway(gateway_view(builders.gateway(shards=3)))
    assert list(policy.missing) == [0, 2]
    policy.set_shard(0, builders.shard())
    assert list(policy.missing) == [2]


def test_set_shard_tells_the_longest_fill_time() -> None:
    account = builders.account("a", builders.key("k", limits=[Limit(1, 60, 10)]), limits=[Limit(10, 1, 10)])
    assert Policy().set_shard(0, builders.shard(account)) == 600 * 10**9


claims = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), max_size=4)


@given(st.lists(st.tuples(st.integers(0, 2), claims), max_size=8))
def test_an_id_or_digest_that_two_keys_claim_is_accepted_for_neither(
    updates: list[tuple[int, list[tuple[str, str]]]],
) -> None:
    policy = Policy()
    held: dict[int, list[tuple[str, str]]] = {}
    for number, found in updates:
        held[number] = found
        keys = [Key(f"k{n}", "", [Version(key_id, 1, digest)]) for n, (key_id, digest) in enumerate(found)]
        policy.set_shard(number, builders.shard(builders.account(f"a{number}", *keys)))
        everything = [claim for shard in held.values() for claim in shard]
        for key_id in "abc":
            digests = [digest for claimed, digest in everything if claimed == key_id]
            sole = len(digests) == 1 and [digest for _, digest in everything].count(digests[0]) == 1
            entry = policy.find(key_id)
            assert (entry.digest.decode() if entry else None) == (digests[0] if sole else None)


def test_only_what_changed_in_a_shard_is_compiled_anew() -> None:
    policy = Policy()
    key = Key("k", "", [Version("a", 1, "x")])
    changes = Key("c", "", [Version("b", 1, "y")])
    shard = builders.shard(builders.account("stays", key), builders.account("changes", changes))
    policy.set_shard(0, shard)
    stays = policy.find("a")
    revoked = Key("c", "", [Version("b", 1, "y", revoked=True)])
    policy.set_shard(0, builders.shard(builders.account("stays", key), builders.account("changes", revoked)))
    assert policy.find("a") is stays
    found = policy.find("b")
    assert found is not None
    assert found.revoked
    policy.set_shard(0, builders.shard(builders.account("changes", revoked)))
    assert policy.find("a") is None


def test_a_shard_that_names_an_account_twice_is_refused_and_changes_nothing() -> None:
    policy = Policy()
    account = builders.account("a", Key("k", "", [Version("a", 1, "x")]))
    policy.set_shard(0, builders.shard(account))
    with pytest.raises(ValueError, match="twice"):
        policy.set_shard(0, builders.shard(account, account))
    assert policy.find("a") is not None


def test_what_keys_have_in_common_takes_memory_once() -> None:
    policy = Policy()

    def account(name: str, period: int) -> Account:
        limits = [Limit(10, period, 10)]
        key = builders.key(
            name,
            builders.credential(name).version(),
            operations=["send"],
            cidrs=[["10.0.0.0/8"]],
            limits=limits,
        )
        return builders.account(name, key, cidrs=[["10.0.0.0/8"]], sender_ids=["ACME"], limits=limits)

    policy.set_shard(0, builders.shard(account("a", 1), account("b", 1), account("c", 2)))
    a, b, c = (policy.find(builders.credential(name).id) for name in "abc")
    assert a is not None
    assert b is not None
    assert c is not None
    assert a.limits is b.limits is a.account.limits
    assert a.operations is b.operations
    assert a.account.sender_ids is b.account.sender_ids
    assert a.networks[0] is b.networks[0] is c.networks[0]
    assert len(a.networks) == 1  # the same for account and key: judged once
    assert c.limits == (Limit(10, 2, 10),)


def test_the_smallest_burst_is_told_of_accounts_and_keys_that_have_limits() -> None:
    policy = Policy()
    limits = [Limit(1, 1, 7), Limit(1, 60, 5)]
    one = builders.account("a", builders.key("one", limits=limits[:1]), builders.key("two"), limits=limits)
    policy.set_shard(0, builders.shard(one))
    policy.set_shard(1, builders.shard(builders.account("b", builders.key("three", limits=limits[1:]))))
    asked = {"account-a", "key-one", "key-two", "account-b", "key-three", "nobody"}
    assert policy.bursts(asked) == {"account-a": 5, "key-one": 7, "key-three": 5}
    assert policy.bursts({"account-a"}) == {"account-a": 5}
