import json
from typing import Any

import pytest

from sendward import names
from sendward.compile.envoy import files
from sendward.compile.envoy.filters import FILTERS
from sendward.compile.sources import peers
from sendward.resources.messaging_gateway import MessagingGatewaySpec


def spec(**changes: Any) -> MessagingGatewaySpec:
    operations = changes.pop("operations", [{"name": "send", "path": "/v1/messages"}])
    fields = {
        "http": {"applicationPort": 8080, "operations": operations},
        "tls": {"secretName": "server"},
        "sourceCIDRs": ["203.0.113.0/24"],
    }
    return MessagingGatewaySpec.model_validate(fields | changes)


def manager(compiled: MessagingGatewaySpec) -> Any:
    (listener,) = files(compiled).listeners
    loaded = json.loads(json.dumps(listener))
    return loaded["filter_chains"][0]["filters"][-1]["typed_config"]


def test_is_json_and_deterministic() -> None:
    first, second = files(spec()), files(spec())
    assert first == second
    for resources in (first.listeners, first.clusters, first.secrets):
        for resource in resources:
            assert str(resource["@type"]).startswith("type.googleapis.com/envoy.")
            assert json.loads(json.dumps(resource)) == resource


def test_without_peers_nothing_listens() -> None:
    """An empty list of prefix ranges would match every peer."""
    unreachable = spec().model_copy(update={"trusted_hops": 1, "front_cidrs": []})
    assert not peers(unreachable)
    assert files(unreachable).listeners == []


def test_most_specific_operation_is_matched_first() -> None:
    operations = [
        {"name": "root", "path": "/v1", "pathMatch": "Prefix"},
        {"name": "below", "path": "/v1/messages", "pathMatch": "Prefix"},
        {"name": "exact", "path": "/v1"},
    ]
    routes = manager(spec(operations=operations))["route_config"]["virtual_hosts"][0]["routes"]
    assert [route["name"] for route in routes] == ["none", "exact", "below", "root", "none"]
    assert all("route" in route for route in routes[1:-1])


def test_guard_is_asked_before_anything_acts() -> None:
    filters = manager(spec())["http_filters"]
    kinds = [item["typed_config"]["@type"].rpartition(".")[2] for item in filters]
    assert kinds == ["ExtAuthz", "Router"]
    assert len(filters) == len(FILTERS)
    guard = filters[0]["typed_config"]
    assert guard["failure_mode_allow"] is False
    assert guard["with_request_body"]["allow_partial_message"] is False
    assert "retry_policy" not in guard["http_service"]


def test_the_guard_is_sent_what_it_judges_and_the_source_only_by_the_proxy() -> None:
    guard = manager(spec())["http_filters"][0]["typed_config"]
    forwarded = [pattern["exact"] for pattern in guard["allowed_headers"]["patterns"]]
    assert {*forwarded, names.HEADER_SOURCE} == set(names.HEADERS_JUDGED)
    assert names.HEADER_SOURCE not in forwarded
    (source,) = guard["http_service"]["authorization_request"]["headers_to_add"]
    assert source == {"key": names.HEADER_SOURCE, "value": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}


def test_ipv6_socket_only_for_ipv6_peers() -> None:
    def address(compiled: MessagingGatewaySpec) -> Any:
        (listener,) = files(compiled).listeners
        socket: Any = listener["address"]
        return socket["socket_address"]["address"]

    assert address(spec()) == "0.0.0.0"
    assert address(spec(sourceCIDRs=["203.0.113.0/24", "2001:db8::/32"])) == "::"


@pytest.mark.parametrize("hops", [0, 1])
def test_forwarded_for_is_kept_only_from_a_trusted_hop(hops: int) -> None:
    front = {"trustedHops": 1, "frontCIDRs": ["10.0.0.0/28"]} if hops else {}
    config = manager(spec(**front))
    removed = config["early_header_mutation_extensions"][0]["typed_config"]["mutations"]
    assert ({"remove": "x-forwarded-for"} in removed) == (hops == 0)
    assert config["xff_num_trusted_hops"] == hops


def test_keys_never_reach_log_or_application() -> None:
    config = manager(spec())
    text = json.dumps(config["access_log"]).upper()
    for word in ("PATH", "AUTHORIZATION", "X-API-KEY", "BODY", "USER-AGENT", "REFERER"):
        assert word not in text
    assert config["route_config"]["request_headers_to_remove"] == ["authorization", "x-api-key"]
