"""Takes credentials off a request that was allowed."""

from __future__ import annotations

from typing import Final

from sendward import names
from sendward.compile.envoy.resource import Json, extension
from sendward.resources.messaging_gateway import MessagingGatewaySpec

_REMOVED: Final = ("authorization", "x-api-key", names.HEADER_SOURCE)


def strip(_spec: MessagingGatewaySpec) -> Json:
    """The application learns account and key id, never the key."""
    return extension(
        "sendward.strip",
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
        mutations={"request_mutations": [{"remove": header} for header in _REMOVED]},
    )
