"""The HTTP filters, one module each, in the order in which a request passes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sendward.compile.envoy.filters import ext_authz, router
from sendward.compile.envoy.resource import Json
from sendward.resources.messaging_gateway import MessagingGatewaySpec

FILTERS: Final[tuple[Callable[[MessagingGatewaySpec], Json], ...]] = (
    ext_authz.ext_authz,  # before anything may act on the request
    router.router,  # Envoy demands it last
)
