"""Envoy's configuration of one gateway, as complete xDS resources.

Pure, and free of tenants: nothing in it comes from an account or a key, so it changes only when the
MessagingGateway does, and a revoked key is never kept alive by an old listener. Everything that must
be judged per message is judged by the guard, which Envoy asks through `ext_authz`.

    connection → peer allowed? → connection limit → TLS → HTTP limits, path normalisation
        → filters (see `filters`) → route → application on loopback
"""

from __future__ import annotations

from sendward.compile.envoy import cluster, listener, secret
from sendward.document import EnvoyFiles
from sendward.resources.messaging_gateway import MessagingGatewaySpec


def files(spec: MessagingGatewaySpec) -> EnvoyFiles:
    """The resources for Envoy's listener, cluster and secret files."""
    return EnvoyFiles(
        listeners=listener.listeners(spec), clusters=cluster.clusters(spec), secrets=[secret.server()]
    )
