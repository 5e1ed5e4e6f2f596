"""The HTTP filters, one module each, in the order in which a request passes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sendward.compile.envoy.filters import ext_authz, router, source, strip
from sendward.compile.envoy.resource import Json
from sendward.resources.messaging_gateway import MessagingGatewaySpec

FILTERS: Final[tuple[Callable[[MessagingGatewaySpec], Json], ...]] = (
    source.source,  # first: the guard judges the address that is set here
    ext_authz.ext_authz,  # before anything may act on the request
    strip.strip,  # after the guard, which needs the key; before the application, which must not see it
    router.router,  # Envoy demands it last
)
