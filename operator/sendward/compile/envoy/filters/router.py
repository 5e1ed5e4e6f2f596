"""Sends the request to its route's cluster."""

from __future__ import annotations

from sendward.compile.envoy.resource import Json, extension
from sendward.resources.messaging_gateway import MessagingGatewaySpec


def router(_spec: MessagingGatewaySpec) -> Json:
    """Without x-envoy headers: neither application nor client needs to know of Envoy."""
    return extension(
        "envoy.filters.http.router",
        "envoy.extensions.filters.http.router.v3.Router",
        suppress_envoy_headers=True,
    )
