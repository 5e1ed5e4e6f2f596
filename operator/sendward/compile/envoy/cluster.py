"""Where Envoy connects to: the application on loopback, and the guard on its socket."""

from __future__ import annotations

from typing import Final

from sendward import names
from sendward.compile.envoy.resource import Json, typed
from sendward.resources.messaging_gateway import MessagingGatewaySpec

APPLICATION: Final = "application"
GUARD: Final = "guard"

# Below the 5 s after which common HTTP servers close an idle connection; else a request meets a reset.
_APPLICATION_IDLE_TIMEOUT: Final = "4s"
_GUARD_IDLE_TIMEOUT: Final = "60s"
_GUARD_CONNECTIONS: Final = 64
_GUARD_REQUESTS: Final = 1024  # at once; beyond that requests are refused with 503


def clusters(spec: MessagingGatewaySpec) -> list[Json]:
    """Both clusters; neither retries, since a message must not be counted or sent twice."""
    loopback: Json = {"socket_address": {"address": "127.0.0.1", "port_value": spec.http.application_port}}
    bound = max(spec.http.max_connections, _GUARD_REQUESTS)
    return [
        _cluster(APPLICATION, loopback, "1s", _APPLICATION_IDLE_TIMEOUT, _bounds(bound, bound)),
        _cluster(
            GUARD,
            {"pipe": {"path": names.PATH_GUARD_SOCKET}},
            "0.25s",
            _GUARD_IDLE_TIMEOUT,
            _bounds(_GUARD_CONNECTIONS, _GUARD_REQUESTS),
        ),
    ]


def _bounds(connections: int, requests: int) -> Json:
    return {
        "max_connections": connections,
        "max_pending_requests": requests,
        "max_requests": requests,
        "max_retries": 0,
    }


def _cluster(name: str, address: Json, connect_timeout: str, idle_timeout: str, bounds: Json) -> Json:
    options = typed(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        common_http_protocol_options={"idle_timeout": idle_timeout},
        explicit_http_config={"http_protocol_options": {}},
    )
    return typed(
        "envoy.config.cluster.v3.Cluster",
        name=name,
        type="STATIC",
        connect_timeout=connect_timeout,
        circuit_breakers={"thresholds": [bounds]},
        typed_extension_protocol_options={"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        load_assignment={
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    )
