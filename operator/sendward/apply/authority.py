"""The operator's own CA: it serves the hub and the webhook, and nobody else.

It lies in one Secret. At two thirds of its life a new CA joins it and both are trusted; the new one
signs only after a day, when every guard and the API server have long been given the new bundle.
Nothing is written while nothing is due.
"""

from __future__ import annotations

import base64
import ssl
import tempfile
from binascii import Error as Base64Error
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from sendward import names
from sendward.apply import kinds
from sendward.apply.certificates import Pair, is_leaf_of, load_pair, new_authority, new_leaf
from sendward.apply.ports import Kube, Object
from sendward.clock import Clock
from sendward.errors import Bug, Conflict, NotFound

_DISTRIBUTION: Final = timedelta(days=1)
_CURRENT: Final = ("ca.crt", "ca.key")
_OLD: Final = ("old.crt", "old.key")


class Authority:
    """The CA and what it issues. Call `ensure` at start, and again and again.

    Every operator process holds one: standbys serve TLS too. Only the leader calls `ensure_webhook`.
    """

    def __init__(self, kube: Kube, namespace: str, clock: Clock) -> None:
        self._kube = kube
        self._namespace = namespace
        self._clock = clock
        self._authorities: list[Pair] = []  # newest first, one or two
        self._hub: Pair | None = None
        self.hub_context: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.hub_context.minimum_version = ssl.TLSVersion.TLSv1_3

    @property
    def bundle(self) -> str:
        """PEM of every CA that is trusted now; "" before the first `ensure`."""
        now = self._clock.now()
        valid = [pair for pair in self._authorities if pair.is_valid(now)]
        return "".join(pair.certificate_pem.decode() for pair in valid)

    async def ensure(self) -> None:
        """Load, make, restore or renew the CA, and the hub's certificate in `hub_context`."""
        secret = await self._read_or_create()
        authorities = _parse(secret)
        now = self._clock.now()
        if not authorities:
            # Emptied or broken by somebody: what guards already trust comes back, if we know it.
            authorities = self._authorities or [new_authority(now)]
        if authorities[0].is_due(now):
            authorities = [new_authority(now), authorities[0]]
        if authorities != _parse(secret):
            authorities = await self._replace(secret, authorities)
        self._authorities = authorities
        self._ensure_hub(now)

    async def ensure_webhook(self) -> bool:
        """The webhook's certificate in its Secret; True when a write was needed."""
        now = self._clock.now()
        dns_names = _service_names(names.WEBHOOK_SERVICE, self._namespace)
        try:
            secret = await self._kube.get(kinds.SECRET, self._namespace, names.SECRET_WEBHOOK_TLS)
        except NotFound:
            secret = {}
        leaf = _pair(secret, ("tls.crt", "tls.key"))
        if leaf and self._is_good(leaf, dns_names, now):
            return False
        leaf = new_leaf(self._signer(now), dns_names, now)
        data = {"tls.crt": _encode(leaf.certificate_pem), "tls.key": _encode(leaf.key_pem)}
        await self._kube.apply(
            kinds.SECRET, _secret(names.SECRET_WEBHOOK_TLS, self._namespace, "kubernetes.io/tls", data)
        )
        return True

    def _ensure_hub(self, now: datetime) -> None:
        dns_names = _service_names(names.HUB_SERVICE, self._namespace)
        if self._hub and self._is_good(self._hub, dns_names, now):
            return
        self._hub = new_leaf(self._signer(now), dns_names, now)
        # The ssl module reads keys from files only; connections from now on get the new certificate.
        with tempfile.TemporaryDirectory(prefix="sendward-") as directory:
            path = Path(directory) / "hub.pem"
            path.touch(mode=0o600)
            path.write_bytes(self._hub.key_pem + self._hub.certificate_pem)
            self.hub_context.load_cert_chain(path)

    def _is_good(self, leaf: Pair, dns_names: tuple[str, ...], now: datetime) -> bool:
        return not leaf.is_due(now) and is_leaf_of(leaf, self._authorities, dns_names)

    def _signer(self, now: datetime) -> Pair:
        """The newest CA that everybody has been given; a lone or last valid one at once."""
        if not self._authorities:
            raise Bug("the CA was not loaded")
        newest, *older = self._authorities
        if now >= newest.certificate.not_valid_before_utc + _DISTRIBUTION:
            return newest
        return next((pair for pair in older if pair.is_valid(now)), newest)

    async def _read_or_create(self) -> Object:
        try:
            return await self._kube.get(kinds.SECRET, self._namespace, names.SECRET_CA)
        except NotFound:
            authorities = self._authorities or [new_authority(self._clock.now())]
        try:
            return await self._kube.create(kinds.SECRET, self._ca_secret(authorities))
        except Conflict:  # a standby that started at the same time was first
            return await self._kube.get(kinds.SECRET, self._namespace, names.SECRET_CA)

    async def _replace(self, secret: Object, authorities: list[Pair]) -> list[Pair]:
        """What stands in the Secret afterwards: another process may have renewed first."""
        wanted = self._ca_secret(authorities)
        wanted["metadata"] = secret["metadata"]
        wanted["type"] = secret.get("type", "Opaque")  # immutable
        try:
            await self._kube.replace(kinds.SECRET, wanted)
        except Conflict:
            stored = _parse(await self._kube.get(kinds.SECRET, self._namespace, names.SECRET_CA))
            if not stored:
                raise
            return stored
        return authorities

    def _ca_secret(self, authorities: list[Pair]) -> Object:
        data: dict[str, str] = {}
        for pair, (certificate, key) in zip(authorities, (_CURRENT, _OLD), strict=False):
            data |= {certificate: _encode(pair.certificate_pem), key: _encode(pair.key_pem)}
        return _secret(names.SECRET_CA, self._namespace, "Opaque", data)


async def patch_webhook(kube: Kube, bundle: str) -> bool:
    """Give the API server the bundle for our webhook; True when a write was needed.

    Only `caBundle` of the named configuration; raises NotFound when it is not installed.
    """
    kind = kinds.MUTATING_WEBHOOK_CONFIGURATION
    configuration = await kube.get(kind, None, names.WEBHOOK_CONFIGURATION)
    wanted = _encode(bundle.encode())
    operations: list[Object] = []
    for index, webhook in enumerate(configuration.get("webhooks") or []):
        if webhook["clientConfig"].get("caBundle") == wanted:
            continue
        path = f"/webhooks/{index}"
        operations += [
            {"op": "test", "path": f"{path}/name", "value": webhook["name"]},
            {"op": "add", "path": f"{path}/clientConfig/caBundle", "value": wanted},
        ]
    if operations:
        await kube.patch(kind, None, names.WEBHOOK_CONFIGURATION, operations)
    return bool(operations)


def _service_names(service: str, namespace: str) -> tuple[str, ...]:
    return (
        f"{service}.{namespace}.svc",
        f"{service}.{namespace}.svc.cluster.local",
        f"{service}.{namespace}",
    )


def _secret(name: str, namespace: str, kind: str, data: dict[str, str]) -> Object:
    return {
        "apiVersion": kinds.SECRET.api_version,
        "kind": kinds.SECRET.kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {names.LABEL_MANAGED_BY: names.FIELD_MANAGER},
        },
        "type": kind,
        "data": data,
    }


def _parse(secret: Object) -> list[Pair]:
    pairs = [_pair(secret, files) for files in (_CURRENT, _OLD)]
    return [pair for pair in pairs if pair] if pairs[0] else []


def _pair(secret: Object, files: tuple[str, str]) -> Pair | None:
    data = secret.get("data") or {}
    try:
        certificate, key = (base64.b64decode(data[file]) for file in files)
    except (KeyError, Base64Error):
        return None
    return load_pair(certificate, key)


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
