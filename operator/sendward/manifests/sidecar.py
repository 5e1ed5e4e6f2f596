"""The shape of the sidecar, said once: the webhook writes it, the admission policy checks it."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Final

from sendward import names


@dataclass(frozen=True, slots=True)
class Mount:
    """A volume mount, without a subpath."""

    volume: str
    path: str
    read_only: bool


# Order matters: the admission policy compares the lists as they stand.
GUARD_MOUNTS: Final = (
    Mount(names.VOLUME_DOCUMENT, names.PATH_DOCUMENT, read_only=True),
    Mount(names.VOLUME_TOKEN, posixpath.dirname(names.PATH_TOKEN), read_only=True),
    Mount(names.VOLUME_HUB_CA, posixpath.dirname(names.PATH_HUB_CA), read_only=True),
    Mount(names.VOLUME_COUNTERS, names.PATH_COUNTERS, read_only=True),
    Mount(names.VOLUME_RUN, names.PATH_RUN, read_only=False),
    Mount(names.VOLUME_STATE, names.PATH_STATE, read_only=False),
    Mount(names.VOLUME_NO_API, names.PATH_NO_API, read_only=True),
)
PROXY_MOUNTS: Final = (
    Mount(names.VOLUME_RUN, names.PATH_RUN, read_only=False),
    Mount(names.VOLUME_TLS, names.PATH_TLS, read_only=True),
    Mount(names.VOLUME_NO_API, names.PATH_NO_API, read_only=True),
)
VOLUMES: Final = (
    names.VOLUME_DOCUMENT,
    names.VOLUME_TOKEN,
    names.VOLUME_HUB_CA,
    names.VOLUME_TLS,
    names.VOLUME_COUNTERS,
    names.VOLUME_RUN,
    names.VOLUME_STATE,
    names.VOLUME_NO_API,
)

ENV_GATEWAY: Final = "SENDWARD_GATEWAY"
ENV_GATEWAY_UID: Final = "SENDWARD_GATEWAY_UID"
ENV_NAMESPACE: Final = "SENDWARD_NAMESPACE"
ENV_POD: Final = "SENDWARD_POD"
ENV_HUB: Final = "SENDWARD_HUB"
ENV_DOCUMENT_KEY: Final = "SENDWARD_DOCUMENT_KEY"
ENV_APP_PROBES: Final = "SENDWARD_APP_PROBES"
GUARD_ENV: Final = (
    ENV_GATEWAY,
    ENV_GATEWAY_UID,
    ENV_NAMESPACE,
    ENV_POD,
    ENV_HUB,
    ENV_DOCUMENT_KEY,
    ENV_APP_PROBES,
)

GUARD_ARGS: Final = ("guard",)
# Envoy is the image's entry point. %j escapes the message for JSON. Connections of a replaced
# listener end after 5 s; the default would keep them for 10 minutes.
PROXY_ARGS: Final = (
    "-c",
    names.PATH_BOOTSTRAP,
    "--disable-hot-restart",
    "--drain-time-s",
    "5",
    "--log-level",
    "warning",
    "--log-format",
    '{"level":"%l","timestamp":"%Y-%m-%dT%H:%M:%S.%f%z","logger":"envoy.%n","event":"%j"}',
    "--concurrency",  # followed by the parameter PARAM_PROXY_CONCURRENCY
)
