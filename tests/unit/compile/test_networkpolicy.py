from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendward import names
from sendward.compile.networkpolicy import MAX_CIDRS, network_policy
from sendward.conditions import Reason
from sendward.resources.messaging_gateway import MessagingGatewaySpec

HTTP = {"port": 8443, "applicationPort": 8080, "operations": [{"name": "send", "path": "/v1/messages"}]}
WHOLE = "203.0.112.0/22"

Accounts = Sequence[Sequence[str] | None]


def spec(**changes: Any) -> MessagingGatewaySpec:
    fields = {"http": HTTP, "tls": {"secretName": "server"}, "sourceCIDRs": [WHOLE]}
    return MessagingGatewaySpec.model_validate(fields | changes)


def compiled(accounts: Accounts, **changes: Any) -> tuple[dict[str, Any], list[Reason]]:
    policy, findings = network_policy(
        name="sms", namespace="messaging", uid="u-1", spec=spec(**changes), account_cidrs=accounts
    )
    return policy, [reason for reason, _ in findings]


def blocks(policy: dict[str, Any], port: int) -> list[str]:
    """CIDRs that the policy lets in on a port, read as Kubernetes reads it."""
    return [
        peer["ipBlock"]["cidr"]
        for rule in policy["spec"]["ingress"]
        for peer in rule["from"]
        if "ipBlock" in peer and {"protocol": "TCP", "port": port} in rule["ports"]
    ]


def lets_in(policy: dict[str, Any], address: str, port: int = 8443) -> bool:
    return any(ip_address(address) in ip_network(cidr) for cidr in blocks(policy, port))


# Around the gateway's /22, so that accounts lie inside, outside and across it.
CIDRS = st.builds(
    lambda host, length: str(ip_network(((0xCB007000 - 512) + host, length), strict=False)),
    st.integers(0, 2047),
    st.integers(20, 32),
)
ACCOUNTS = st.lists(st.one_of(st.none(), st.lists(CIDRS, max_size=4)), max_size=6)
ADDRESSES = st.integers(0xCB007000 - 512, 0xCB007000 + 1536).map(lambda number: str(ip_address(number)))


@given(ACCOUNTS, ADDRESSES)
def test_lets_in_exactly_what_accounts_use_of_the_gateways(accounts: Accounts, address: str) -> None:
    policy, _ = compiled(accounts)
    used = any(
        cidrs is None or any(ip_address(address) in ip_network(cidr) for cidr in cidrs) for cidrs in accounts
    )
    assert lets_in(policy, address) == (used and ip_address(address) in ip_network(WHOLE))


@given(ACCOUNTS, ACCOUNTS, ADDRESSES)
def test_more_accounts_never_close_what_was_open(before: Accounts, added: Accounts, address: str) -> None:
    assert not lets_in(compiled(before)[0], address) or lets_in(compiled([*before, *added])[0], address)


@given(ACCOUNTS, ACCOUNTS)
def test_a_transition_is_one_write_of_one_object(before: Accounts, after: Accounts) -> None:
    """So at every instant the flows are those of the old or of the new policy, never a third set."""
    old, new = compiled(before)[0], compiled(after)[0]
    assert old["metadata"] == new["metadata"]
    assert old["spec"]["podSelector"] == new["spec"]["podSelector"]
    assert old["spec"]["policyTypes"] == new["spec"]["policyTypes"] == ["Ingress", "Egress"]


@given(ACCOUNTS)
def test_order_of_accounts_changes_nothing(accounts: Accounts) -> None:
    assert compiled(accounts) == compiled(list(reversed(accounts)))


@given(ACCOUNTS)
def test_no_rule_admits_everybody(accounts: Accounts) -> None:
    """To Kubernetes an absent or empty list of peers or ports means all."""
    redis = {"host": "redis", "podLabels": {"app": "redis"}}
    policy, _ = compiled(accounts, metricsNamespace="monitoring", limits={"redis": redis})
    for direction, key in (("ingress", "from"), ("egress", "to")):
        for rule in policy["spec"][direction]:
            assert rule[key]
            assert all(peer for peer in rule[key])
            assert rule["ports"]


def _scattered(count: int) -> list[str]:
    return [f"203.0.{112 + n // 128}.{n % 128 * 2}/32" for n in range(count)]


def test_bound_on_cidrs() -> None:
    policy, findings = compiled([_scattered(MAX_CIDRS)])
    assert (len(blocks(policy, 8443)), findings) == (MAX_CIDRS, [])
    policy, findings = compiled([_scattered(MAX_CIDRS + 1)])
    assert (blocks(policy, 8443), findings) == ([WHOLE], [Reason.CIDRS_COLLAPSED])


def test_owner_is_a_label_and_no_reference() -> None:
    metadata = compiled([None])[0]["metadata"]
    assert "ownerReferences" not in metadata
    assert metadata["labels"][names.LABEL_OWNER_UID] == "u-1"


def test_findings() -> None:
    assert compiled([None])[1] == []
    assert compiled([])[1] == [Reason.NO_SOURCES]
    assert compiled([["198.51.100.0/24"]])[1] == [Reason.NO_SOURCES]
    assert compiled([None], egress={"dns": "None"})[1] == [Reason.DNS_CUT_OFF]
    resolver = {"cidr": "192.0.2.53/32", "port": 53, "protocol": "UDP"}
    assert compiled([None], egress={"dns": "None", "rules": [resolver]})[1] == []


@pytest.mark.parametrize(
    ("redis", "rules", "expected"),
    [
        ({"host": "redis", "podLabels": {"app": "redis"}}, [], []),
        ({"host": "192.0.2.7", "podLabels": {"app": "redis"}}, [], []),
        ({"host": "redis"}, [], [Reason.COUNTERS_CUT_OFF]),
        ({"host": "redis"}, [{"cidr": "192.0.2.0/24", "port": 6379}], []),
        (
            {"host": "redis", "port": 6380},
            [{"cidr": "192.0.2.0/24", "port": 6379}],
            [Reason.COUNTERS_CUT_OFF],
        ),
        (
            {"host": "redis"},
            [{"cidr": "192.0.2.0/24", "port": 6379, "protocol": "UDP"}],
            [Reason.COUNTERS_CUT_OFF],
        ),
        ({"host": "192.0.2.7"}, [{"cidr": "192.0.2.0/24", "port": 6379}], []),
        ({"host": "192.0.2.7"}, [{"cidr": "192.0.2.8/29", "port": 6379}], [Reason.COUNTERS_CUT_OFF]),
        ({"host": "2001:db8::7"}, [{"cidr": "192.0.2.0/24", "port": 6379}], [Reason.COUNTERS_CUT_OFF]),
        ({"host": "2001:db8::7"}, [{"cidr": "2001:db8::/64", "port": 6379}], []),
    ],
)
def test_counters_that_no_rule_reaches_are_found(
    redis: dict[str, Any], rules: list[dict[str, Any]], expected: list[Reason]
) -> None:
    assert compiled([None], limits={"redis": redis}, egress={"rules": rules})[1] == expected


def test_world_is_found_also_as_a_union_or_in_front() -> None:
    halves = ["::/1", "8000::/1"]
    assert compiled([["2001:db8::/32"]], sourceCIDRs=halves)[1] == [Reason.OPEN_TO_WORLD]
    assert compiled([["2001:db8::/32"]], sourceCIDRs=halves, allowAnySource=True)[1] == []
    front = ["0.0.0.0/1", "128.0.0.0/1"]
    assert compiled([None], proxyProtocol=True, frontCIDRs=front)[1] == [Reason.OPEN_TO_WORLD]


def test_behind_a_load_balancer_only_it_gets_in() -> None:
    policy, _ = compiled([["203.0.113.7/32"]], trustedHops=1, frontCIDRs=["10.0.0.0/28"])
    assert blocks(policy, 8443) == blocks(policy, names.PORT_PROBE) == ["10.0.0.0/28"]
    assert blocks(compiled([None])[0], names.PORT_PROBE) == []
