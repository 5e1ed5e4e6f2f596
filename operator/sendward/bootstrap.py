"""Envoy's static configuration: node, admin socket, where its dynamic files lie, and metrics.

It is the same in every pod. Nothing of a tenant stands in it.
"""

from __future__ import annotations

from typing import Final

from sendward import names

MAX_CONNECTIONS: Final = 50_000  # over all listeners; a gateway's own bound is in its listener
_HCM: Final = (
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
)
_ROUTER: Final = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
_MONITOR: Final = (
    "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3."
    "DownstreamConnectionsConfig"
)


def _watched(path: str) -> dict[str, object]:
    # Without watched_directory a replaced file is not seen.
    directory = path.rsplit("/", 1)[0]
    return {
        "resource_api_version": "V3",
        "initial_fetch_timeout": "0s",
        "path_config_source": {"path": path, "watched_directory": {"path": directory}},
    }


def _pipe_cluster(name: str, path: str) -> dict[str, object]:
    endpoint = {"endpoint": {"address": {"pipe": {"path": path}}}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _get(path: str, cluster: str, rewrite: str) -> dict[str, object]:
    method = {"name": ":method", "string_match": {"exact": "GET"}}
    return {
        "match": {"path": path, "headers": [method]},
        "route": {"cluster": cluster, "prefix_rewrite": rewrite, "timeout": "10s"},
    }


def _metrics_listener(port: int, *, ipv6: bool) -> dict[str, object]:
    routes = [
        _get("/metrics", "admin", "/stats/prometheus"),
        _get("/ready", "admin", "/ready"),
        _get("/metrics/guard", "guard-metrics", "/metrics"),
    ]
    manager = {
        "@type": _HCM,
        "stat_prefix": "metrics",
        "request_headers_timeout": "5s",
        "stream_idle_timeout": "15s",
        "route_config": {
            "name": "metrics",
            "virtual_hosts": [{"name": "metrics", "domains": ["*"], "routes": routes}],
        },
        "http_filters": [{"name": "router", "typed_config": {"@type": _ROUTER}}],
    }
    address: dict[str, object] = {"address": "0.0.0.0", "port_value": port}  # noqa: S104  scraped from other pods
    if ipv6:
        address = {"address": "::", "port_value": port, "ipv4_compat": True}
    return {
        "name": "metrics",
        "address": {"socket_address": address},
        "ignore_global_conn_limit": True,  # stays visible under overload
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def bootstrap(
    *, root: str = "", metrics_port: int = names.PORT_METRICS, ipv6: bool = True
) -> dict[str, object]:
    """The content of bootstrap.json. `root` prefixes every path; `ipv6` binds both families."""
    monitor = {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {"@type": _MONITOR, "max_active_downstream_connections": MAX_CONNECTIONS},
    }
    return {
        "node": {"id": "sendward", "cluster": "sendward"},
        "admin": {"address": {"pipe": {"path": root + names.PATH_ADMIN_SOCKET, "mode": 0o600}}},
        "overload_manager": {"resource_monitors": [monitor]},
        "dynamic_resources": {
            "lds_config": _watched(root + names.PATH_LDS),
            "cds_config": _watched(root + names.PATH_CDS),
        },
        "static_resources": {
            "listeners": [_metrics_listener(metrics_port, ipv6=ipv6)],
            "clusters": [
                _pipe_cluster("admin", root + names.PATH_ADMIN_SOCKET),
                _pipe_cluster("guard-metrics", root + names.PATH_METRICS_SOCKET),
            ],
        },
    }
