"""Metrics of the hub. Labels are bounded: namespaces, gateways, and reasons of a closed list."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

GUARDS: Final = Gauge("sendward_hub_guards", "Guards that are connected to the hub", ["namespace", "gateway"])
OUT_OF_SYNC: Final = Gauge(
    "sendward_sidecars_out_of_sync",
    "Ready gateway pods that do not enforce the current policy",
    ["namespace", "gateway"],
)
REJECTIONS: Final = Counter(
    "sendward_sidecar_config_rejections_total",
    "Parts of a document that a guard refused",
    ["namespace", "gateway"],
)
REFUSED: Final = Counter(
    "sendward_hub_connections_refused_total", "Connections that the hub refused", ["reason"]
)
CLOSED: Final = Counter("sendward_hub_streams_closed_total", "Streams that ended", ["reason"])
