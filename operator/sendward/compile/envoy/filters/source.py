"""Tells the guard where a request comes from."""

from __future__ import annotations

from sendward import names
from sendward.compile.envoy.resource import Json, extension
from sendward.resources.messaging_gateway import MessagingGatewaySpec


def source(_spec: MessagingGatewaySpec) -> Json:
    """Sets x-sw-source to the peer's address, or to the one from the PROXY header or trusted hop."""
    header = {"key": names.HEADER_SOURCE, "value": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}
    return extension(
        "sendward.source",
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
        mutations={
            "request_mutations": [
                {"append": {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}
            ]
        },
    )
