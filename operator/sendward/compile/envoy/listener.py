"""The HTTPS listener: who may connect, how many at once, and TLS."""

from __future__ import annotations

from typing import Final

from sendward.compile.envoy import connection_manager, secret
from sendward.compile.envoy.resource import Json, extension
from sendward.compile.sources import peers
from sendward.resources.messaging_gateway import MessagingGatewaySpec

NAME: Final = "http"
# Beyond the largest body: headers, and frames of other streams of the same connection.
_BUFFER_MARGIN_BYTES: Final = 65536
_LISTENER_FILTERS_TIMEOUT: Final = "5s"  # for the PROXY header
_TLS_HANDSHAKE_TIMEOUT: Final = "10s"


def listeners(spec: MessagingGatewaySpec) -> list[Json]:
    """One listener, or none when nobody may connect: an empty list of peers would match everybody."""
    allowed = peers(spec).cidrs()
    if not allowed:
        return []
    return [
        {
            "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
            "name": NAME,
            "address": _address(spec.http.port, ipv6=any(":" in cidr for cidr in allowed)),
            "per_connection_buffer_limit_bytes": spec.http.max_body_bytes + _BUFFER_MARGIN_BYTES,
            "listener_filters": _listener_filters(spec),
            "listener_filters_timeout": _LISTENER_FILTERS_TIMEOUT,
            "filter_chains": [
                {
                    # The peer itself, not an address from a PROXY header. No match closes the
                    # connection before TLS, and nothing is dialled.
                    "filter_chain_match": {"direct_source_prefix_ranges": [_range(c) for c in allowed]},
                    "transport_socket_connect_timeout": _TLS_HANDSHAKE_TIMEOUT,
                    "transport_socket": _tls(spec),
                    # Order: the limit counts a connection before HTTP is parsed.
                    "filters": [_connection_limit(spec), connection_manager.connection_manager(spec)],
                }
            ],
        }
    ]


def _address(port: int, *, ipv6: bool) -> Json:
    """IPv6 only where an IPv6 peer is declared: a node without IPv6 cannot open such a socket."""
    if ipv6:
        return {"socket_address": {"address": "::", "ipv4_compat": True, "port_value": port}}
    return {"socket_address": {"address": "0.0.0.0", "port_value": port}}  # noqa: S104 - clients are outside


def _range(cidr: str) -> Json:
    prefix, length = cidr.split("/")
    return {"address_prefix": prefix, "prefix_len": int(length)}


def _listener_filters(spec: MessagingGatewaySpec) -> list[Json]:
    if not spec.proxy_protocol:
        return []
    # Without a PROXY header the connection is closed (the filter's default).
    return [
        extension(
            "envoy.filters.listener.proxy_protocol",
            "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
        )
    ]


def _connection_limit(spec: MessagingGatewaySpec) -> Json:
    return extension(
        "envoy.filters.network.connection_limit",
        "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit",
        stat_prefix=NAME,
        max_connections=spec.http.max_connections,
    )


def _tls(spec: MessagingGatewaySpec) -> Json:
    return extension(
        "envoy.transport_sockets.tls",
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context={
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": {
                "tls_minimum_protocol_version": spec.tls.minimum_version,
                "tls_maximum_protocol_version": "TLSv1_3",
            },
            "tls_certificate_sds_secret_configs": [secret.reference()],
        },
    )
