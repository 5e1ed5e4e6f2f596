"""Routes: one per operation, everything else is 404.

The guard is asked before a route acts, also before the 404: a client without a valid key learns 401
for every path, and thus not which paths exist.
"""

from __future__ import annotations

from typing import Final

from sendward import names
from sendward.compile.envoy import access_log, cluster
from sendward.compile.envoy.resource import Json, duration
from sendward.resources.messaging_gateway import MessagingGatewaySpec, OperationSpec
from sendward.verdict import ProxyReason

NO_OPERATION: Final = "none"

# The application learns account and key id, never the key.
_REQUEST_HEADERS_REMOVED: Final = ("authorization", "x-api-key")
# What an application may not tell: its software, and headers that are ours.
_RESPONSE_HEADERS_REMOVED: Final = ("server", "x-powered-by", names.HEADER_REASON)


def route_config(spec: MessagingGatewaySpec) -> Json:
    """Exact paths first, then longer prefixes before shorter ones: the most specific operation wins."""
    ordered = sorted(spec.http.operations, key=_specificity)
    return {
        "name": "operations",
        "request_headers_to_remove": list(_REQUEST_HEADERS_REMOVED),
        "response_headers_to_remove": list(_RESPONSE_HEADERS_REMOVED),
        "virtual_hosts": [
            {
                "name": "operations",
                "domains": ["*"],
                "routes": [_path_parameters(), *(_route(op, spec) for op in ordered), _nothing()],
            }
        ],
    }


def _specificity(operation: OperationSpec) -> tuple[bool, int]:
    return operation.path_match == "Prefix", -len(operation.path)


def _route(operation: OperationSpec, spec: MessagingGatewaySpec) -> Json:
    return {
        "name": operation.name,
        "match": {
            **_path(operation),
            "headers": [{"name": ":method", "string_match": {"exact": operation.method}}],
        },
        "metadata": {"filter_metadata": {access_log.ROUTE_METADATA: {"method": operation.method}}},
        "route": {"cluster": cluster.APPLICATION, "timeout": duration(spec.http.request_timeout)},
    }


def _path(operation: OperationSpec) -> Json:
    if operation.path_match == "Exact":
        return {"path": operation.path}
    prefix = operation.path.rstrip("/")
    # Only at a segment's end: /v1/messages covers /v1/messages/7 and not /v1/messagesX.
    return {"path_separated_prefix": prefix} if prefix else {"prefix": "/"}


def _path_parameters() -> Json:
    """`/messages/cancel;x` is below `/messages` to us and `/messages/cancel` to a servlet container."""
    return {"name": NO_OPERATION, "match": {"safe_regex": {"regex": "[^;]*;.*"}}, **_not_found()}


def _nothing() -> Json:
    return {"name": NO_OPERATION, "match": {"prefix": "/"}, **_not_found()}


def _not_found() -> Json:
    return {"direct_response": {"status": ProxyReason.NotFound.status}}
