"""Who may open a connection to a gateway's pods, as opposed to who may send messages.

Behind a load balancer the peer of a connection is the load balancer (`frontCIDRs`), and the sender
is known only from its PROXY header or `X-Forwarded-For`; the guard judges the sender in both cases.
"""

from __future__ import annotations

from sendward.compile.cidrs import Addresses, union
from sendward.resources.messaging_gateway import MessagingGatewaySpec


def behind_load_balancer(spec: MessagingGatewaySpec) -> bool:
    """Whether the peer of a connection is another address than the sender's."""
    return spec.proxy_protocol or spec.trusted_hops > 0


def peers(spec: MessagingGatewaySpec) -> Addresses:
    """The addresses that may open a connection; empty means nobody."""
    return union(spec.front_cidrs if behind_load_balancer(spec) else spec.source_cidrs)
