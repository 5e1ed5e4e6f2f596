"""A stateful Vault in memory, on a loopback port: `async with FakeVault() as vault`.

KV v2 with check-and-set, destroy and metadata; sys/tools/random; PKI issue; JWT login with tokens
that expire; a seal. No policies: `forbidden` lists path prefixes that every token lacks.
"""

from __future__ import annotations

import base64
import os
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.fakes.server import FakeServer

ROOT = "root-token"
JWT = "a-service-account-token"


@dataclass(slots=True)
class Entry:
    """A KV path: every version's data, None once destroyed."""

    versions: dict[int, dict[str, str] | None] = field(default_factory=dict)

    @property
    def current(self) -> int:
        return max(self.versions, default=0)

    @property
    def live(self) -> list[int]:
        """Versions whose value can still be read."""
        return [number for number, data in self.versions.items() if data is not None]


@dataclass(slots=True)
class _Token:
    expires: float
    max_expires: float


class _RefusedError(Exception):
    def __init__(self, status: int, *errors: str) -> None:
        super().__init__(status)
        self.status = status
        self.errors = list(errors)


class FakeVault(FakeServer):
    """`kv` holds the entries by path; `token_ttl` and `token_max_ttl` are in seconds."""

    def __init__(self, *, kv_mount: str = "sendward", pki_mount: str = "sendward-pki") -> None:
        super().__init__()
        self.kv: dict[str, Entry] = {}
        self.sealed = False
        self.forbidden: list[str] = []
        self.token_ttl = 3600
        self.token_max_ttl = 86400
        self.logins = 0
        self.renewals = 0
        self.jwts = {JWT}
        self._kv_mount = kv_mount
        self._pki_mount = pki_mount
        self._tokens: dict[str, _Token] = {}
        self._issuer = Issuer()

    def revoke_tokens(self) -> None:
        """Forget every token but the root token."""
        self._tokens.clear()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else {}
        try:
            answer = self._answer(request, request.path.removeprefix("/v1/"), body)
        except _RefusedError as refusal:
            return web.json_response({"errors": refusal.errors}, status=refusal.status)
        return answer if answer is not None else web.Response(status=204)

    def _answer(self, request: web.Request, path: str, body: dict[str, Any]) -> web.Response | None:
        if self.sealed:
            raise _RefusedError(503, "Vault is sealed")
        if path == "auth/jwt/login":
            return self._login(body)
        token = request.headers.get("X-Vault-Token", "")
        self._authenticate(token)
        if any(path.startswith(prefix) for prefix in self.forbidden):
            raise _RefusedError(403, "permission denied")
        if path.startswith(f"{self._kv_mount}/"):
            return self._keys(request, path.removeprefix(f"{self._kv_mount}/"), body)
        match path:
            case "auth/token/lookup-self":
                return _data({"policies": ["sendward-operator"]})
            case "auth/token/renew-self":
                return self._renew(token)
            case "sys/tools/random":
                return _data({"random_bytes": base64.b64encode(os.urandom(body["bytes"])).decode()})
        if path == f"{self._pki_mount}/issue/gateways":
            return _data(self._issue(body))
        raise _RefusedError(404, f'no handler for route "{path}". route entry not found.')

    # Tokens.

    def _login(self, body: dict[str, Any]) -> web.Response:
        if body.get("jwt") not in self.jwts:
            raise _RefusedError(400, "error validating token: no known key successfully validated it")
        self.logins += 1
        token = f"hvs.{uuid.uuid4().hex}"
        now = time.monotonic()
        self._tokens[token] = _Token(now + self.token_ttl, now + self.token_max_ttl)
        return _auth(token, self.token_ttl)

    def _authenticate(self, token: str) -> None:
        known = self._tokens.get(token)
        if token != ROOT and (known is None or known.expires < time.monotonic()):
            raise _RefusedError(403, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")

    def _renew(self, token: str) -> web.Response:
        if token == ROOT:
            raise _RefusedError(400, "lease is not renewable")
        self.renewals += 1
        known = self._tokens[token]
        now = time.monotonic()
        known.expires = min(now + self.token_ttl, known.max_expires)
        return _auth(token, int(known.expires - now))

    # KV v2.

    def _keys(self, request: web.Request, path: str, body: dict[str, Any]) -> web.Response | None:
        part, _, name = path.partition("/")
        match part, request.method:
            case "data", "GET":
                return self._read(name, int(request.query.get("version", "0")))
            case "data", _:
                return self._write(name, body)
            case "destroy", _:
                entry = self.kv.get(name, Entry())
                for number in body["versions"]:
                    if number in entry.versions:
                        entry.versions[number] = None
            case "metadata", "DELETE":
                self.kv.pop(name, None)
            case "metadata", _:
                return self._list(name)
        return None

    def _read(self, name: str, version: int) -> web.Response:
        entry = self.kv.get(name)
        number = version or (entry.current if entry else 0)
        if entry is None or number not in entry.versions:
            raise _RefusedError(404)
        data = entry.versions[number]
        shown = {"data": data, "metadata": {"version": number, "destroyed": data is None}}
        return _data(shown, status=200 if data is not None else 404)

    def _write(self, name: str, body: dict[str, Any]) -> web.Response:
        entry = self.kv.get(name, Entry())
        if "cas" not in body.get("options", {}):
            raise _RefusedError(400, "check-and-set parameter required for this call")
        if body["options"]["cas"] != entry.current:
            raise _RefusedError(400, "check-and-set parameter did not match the current version")
        entry.versions[entry.current + 1] = dict(body["data"])
        self.kv[name] = entry
        return _data({"version": entry.current})

    def _list(self, prefix: str) -> web.Response:
        folder = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        below = [name.removeprefix(folder) for name in self.kv if name.startswith(folder)]
        names = sorted({name if "/" not in name else name.split("/")[0] + "/" for name in below})
        if not names:
            raise _RefusedError(404)
        return _data({"keys": names})

    # PKI.

    def _issue(self, body: dict[str, Any]) -> dict[str, Any]:
        lifetime = timedelta(seconds=int(body["ttl"].removesuffix("s")))
        names = [name for name in body["alt_names"].split(",") if name]
        certificate, key = self._issuer.issue(body.get("common_name", ""), names, lifetime)
        return {
            "certificate": pem(certificate),
            "issuing_ca": pem(self._issuer.ca),
            "ca_chain": [pem(self._issuer.ca)],
            "private_key": key_pem(key),
        }


class Issuer:
    """A CA of its own. A common name above 64 characters stands in the SANs only."""

    def __init__(self) -> None:
        self.ca, self._key = _authority()

    def issue(
        self, common_name: str, dns_names: list[str], lifetime: timedelta
    ) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(name) for name in dns_names])
        builder = _certificate(common_name if len(common_name) <= 64 else "", self.ca.subject, key, lifetime)
        return builder.add_extension(names, critical=False).sign(self._key, hashes.SHA256()), key


def _authority() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Sendward gateways")])
    builder = _certificate("Sendward gateways", name, key, timedelta(days=3650))
    return builder.add_extension(x509.BasicConstraints(True, None), True).sign(key, hashes.SHA256()), key


def _certificate(
    common_name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name(attributes))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(seconds=30))
        .not_valid_after(now + lifetime)
    )


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode().strip()


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _data(data: dict[str, Any], status: int = 200) -> web.Response:
    return web.json_response({"data": data}, status=status)


def _auth(token: str, ttl: int) -> web.Response:
    return web.json_response({"auth": {"client_token": token, "lease_duration": ttl, "renewable": True}})
