"""HTTP of the listener: limits, normalisation, and what a client may not say.

Limits that no field of the MessagingGateway sets are constants here, chosen for a send API: requests
are small, answers come soon.
"""

from __future__ import annotations

from typing import Final

from sendward import names
from sendward.compile.envoy import access_log, local_reply, route
from sendward.compile.envoy.filters import FILTERS
from sendward.compile.envoy.resource import Json, duration, extension
from sendward.resources.messaging_gateway import MessagingGatewaySpec

MAX_HEADERS: Final = 64
MAX_HEADERS_KB: Final = 16
MAX_CONCURRENT_STREAMS: Final = 100
_STREAM_WINDOW_BYTES: Final = 65536
_CONNECTION_WINDOW_BYTES: Final = 1048576
_HEADERS_TIMEOUT: Final = "10s"
_REQUEST_TIMEOUT: Final = "30s"  # to receive headers and body: a slow client is cut off
_IDLE_TIMEOUT: Final = "300s"  # of a connection without requests
# An idle stream ends after the route's own timeout, so that the client gets 504 and not a reset.
_STREAM_IDLE_MARGIN_SECONDS: Final = 30

_NO_PEER: Final = "255.255.255.255"

# Headers by which a client could claim another address. Kept where a trusted hop may have set them.
_CLAIMED_SOURCE: Final = ("x-forwarded-for", "forwarded", "x-real-ip")

# Headers by which many frameworks take another method or path than those of the request line, which
# are what the guard judges.
_CLAIMED_OPERATION: Final = (
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-uri",
    "x-original-url",
    "x-rewrite-url",
)


def connection_manager(spec: MessagingGatewaySpec) -> Json:
    """The network filter that speaks HTTP/1.1 and HTTP/2."""
    return extension(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="api",
        codec_type="AUTO",
        **_limits(spec),
        **_path_rules(),
        **_identity(spec),
        early_header_mutation_extensions=[_strip_claims(spec)],
        local_reply_config=local_reply.local_reply_config(),
        access_log=[access_log.access_log()],
        route_config=route.route_config(spec),
        http_filters=[build(spec) for build in FILTERS],
    )


def _limits(spec: MessagingGatewaySpec) -> Json:
    return {
        "max_request_headers_kb": MAX_HEADERS_KB,
        "request_headers_timeout": _HEADERS_TIMEOUT,
        "request_timeout": _REQUEST_TIMEOUT,
        "stream_idle_timeout": duration(spec.http.request_timeout, _STREAM_IDLE_MARGIN_SECONDS),
        "common_http_protocol_options": {
            "max_headers_count": MAX_HEADERS,
            # x_sw_account would reach many applications as X-SW-Account.
            "headers_with_underscores_action": "REJECT_REQUEST",
            "idle_timeout": _IDLE_TIMEOUT,
        },
        # HTTP/1.0, and Content-Length beside Transfer-Encoding, are refused by default; said here
        # because request smuggling depends on it.
        "http_protocol_options": {"accept_http_10": False, "allow_chunked_length": False},
        "http2_protocol_options": {
            "max_concurrent_streams": MAX_CONCURRENT_STREAMS,
            "initial_stream_window_size": _STREAM_WINDOW_BYTES,
            "initial_connection_window_size": _CONNECTION_WINDOW_BYTES,
            "allow_connect": False,
        },
    }


def _path_rules() -> Json:
    """One spelling per path, so that guard, route and application judge the same operation."""
    return {
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
    }


def _identity(spec: MessagingGatewaySpec) -> Json:
    return {
        "use_remote_address": True,
        "xff_num_trusted_hops": spec.trusted_hops,
        # No peer is "internal" (an empty list would mean RFC 1918): Envoy obeys such peers.
        "internal_address_config": {"cidr_ranges": [{"address_prefix": _NO_PEER, "prefix_len": 32}]},
        "always_set_request_id_in_response": True,
        # Neither Envoy's name nor the application's (`route` removes that one).
        "server_header_transformation": "PASS_THROUGH",
    }


def _strip_claims(spec: MessagingGatewaySpec) -> Json:
    """Before any filter and before the request id is made: nothing of ours may come from a client."""
    mutations: list[Json] = [
        {"remove_on_match": {"key_matcher": {"prefix": prefix}}}
        for prefix in (names.HEADER_PREFIX, "x-envoy-")
    ]
    # The request id stands in the access log, so a client may not choose it.
    removed = ["x-request-id", *_CLAIMED_OPERATION]
    if spec.trusted_hops == 0:
        removed.extend(_CLAIMED_SOURCE)
    mutations.extend({"remove": header} for header in removed)
    return extension(
        "envoy.http.early_header_mutation.header_mutation",
        "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        mutations=mutations,
    )
