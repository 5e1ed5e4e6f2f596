"""The guard's settings, from the environment that the webhook wrote."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct, field

from sendward import names


class Header(Struct, frozen=True):
    """A header of a probe, as Kubernetes writes it."""

    name: str
    value: str


class AppProbe(Struct, frozen=True):
    """A probe of the application that the webhook turned to the guard's port; dialled on loopback."""

    port: int
    path: str = "/"
    scheme: str = "HTTP"
    headers: list[Header] = field(default_factory=list)
    tcp: bool = False


class SettingsError(Exception):
    """A variable is missing or unreadable; the message names it, never its value."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`root` prefixes every path; it is empty in a pod."""

    gateway: str
    gateway_uid: str
    namespace: str
    pod: str
    hub_host: str
    hub_port: int
    document_key: Ed25519PublicKey
    app_probes: Mapping[str, AppProbe]
    root: str
    probe_port: int
    metrics_port: int

    def path(self, name: str) -> Path:
        """A path of `names` below `root`."""
        return Path(self.root + name)


def _document_key(text: str) -> Ed25519PublicKey:
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error):
        raise SettingsError("SENDWARD_DOCUMENT_KEY is not the base64 of 32 bytes") from None


def _port(environment: Mapping[str, str], name: str, default: int) -> int:
    try:
        return int(environment.get(name, default))
    except ValueError:
        raise SettingsError(f"{name} is no port number") from None


def load(environment: Mapping[str, str]) -> Settings:
    """Read SENDWARD_* variables; raises SettingsError."""

    def required(name: str) -> str:
        value = environment.get(name, "")
        if not value:
            raise SettingsError(f"{name} is not set")
        return value

    host, _, port = required("SENDWARD_HUB").rpartition(":")
    if not host or not port.isdigit():
        raise SettingsError("SENDWARD_HUB is not host:port")
    try:
        probes = msgspec.json.decode(environment.get("SENDWARD_APP_PROBES") or "{}", type=dict[str, AppProbe])
    except msgspec.MsgspecError as error:
        raise SettingsError(f"SENDWARD_APP_PROBES: {error}") from None
    return Settings(
        gateway=required("SENDWARD_GATEWAY"),
        gateway_uid=required("SENDWARD_GATEWAY_UID"),
        namespace=required("SENDWARD_NAMESPACE"),
        pod=required("SENDWARD_POD"),
        hub_host=host,
        hub_port=int(port),
        document_key=_document_key(required("SENDWARD_DOCUMENT_KEY")),
        app_probes=probes,
        root=environment.get("SENDWARD_ROOT", ""),
        probe_port=_port(environment, "SENDWARD_PROBE_PORT", names.PORT_PROBE),
        metrics_port=_port(environment, "SENDWARD_METRICS_PORT", names.PORT_METRICS),
    )
