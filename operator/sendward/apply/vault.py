"""Vault, as a thin typed client over aiohttp (`ports.Vault`): KV v2, random bytes, PKI.

Logs in by itself, renews its token at 2/3 of its life and logs in again when it is lost. No value
enters a message: of a refused write only the status is told.
"""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sendward.apply.http import Answer, Transport, bounded
from sendward.apply.ports import Certificate, KVValue
from sendward.apply.vault_auth import Login
from sendward.clock import Clock, SystemClock
from sendward.errors import Conflict, Forbidden, NotFound, Rejected, SendwardError, Unavailable
from sendward.names import PKI_ROLE

_IN_FLIGHT: Final = 16
_TIMEOUT_SECONDS: Final = 15.0
_MAX_ANSWER_BYTES: Final = 16 * 2**20
_MAX_RANDOM: Final = 65536
_RENEW_AT: Final = 2 / 3
# A younger token that is refused is asked about before another login: logins leave tokens in Vault.
_YOUNG_SECONDS: Final = 60.0
# 412, 472 and 473 come from standbys and replicas: another node, or a moment later, will answer.
_RETRY_LATER: Final = frozenset({412, 429, 472, 473})
_MAX_COMMON_NAME: Final = 64  # X.520; longer names stand in the SANs only


@dataclass(frozen=True, slots=True)
class _Session:
    token: str = field(repr=False)
    since: float
    renew_at: float | None  # monotonic seconds; None: lives for ever


class VaultClient:
    """Implements `ports.Vault`. `calls` counts requests by (operation, "Vault")."""

    def __init__(
        self,
        url: str,
        login: Login,
        *,
        kv_mount: str = "sendward",
        pki_mount: str = "sendward-pki",
        ca_file: str | None = None,
        calls: Counter[tuple[str, str]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.calls: Counter[tuple[str, str]] = Counter() if calls is None else calls
        self._login = login
        self._kv = kv_mount.strip("/")
        self._pki = pki_mount.strip("/")
        self._clock: Clock = clock or SystemClock()
        self._session: _Session | None = None
        self._login_lock = asyncio.Lock()
        self._transport = Transport(
            url,
            ca_file=ca_file,
            in_flight=_IN_FLIGHT,
            timeout_seconds=_TIMEOUT_SECONDS,
            max_answer_bytes=_MAX_ANSWER_BYTES,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    async def random(self, count: int) -> bytes:
        if not 0 < count <= _MAX_RANDOM:
            raise ValueError(f"count is {count}, not in 1..{_MAX_RANDOM}")
        answer = await self._send("random", "POST", "sys/tools/random", {"bytes": count, "format": "base64"})
        with _shaped():
            drawn = base64.b64decode(_data(answer)["random_bytes"])
        if len(drawn) != count:
            raise Unavailable("Vault drew another number of bytes than asked for")
        return drawn

    async def kv_write(self, path: str, data: Mapping[str, str], cas: int) -> int:
        body = {"options": {"cas": cas}, "data": dict(data)}
        answer = await self._send("kv-write", "POST", f"{self._kv}/data/{quote(path)}", body)
        with _shaped():
            return int(_data(answer)["version"])

    async def kv_read(self, path: str, version: int = 0) -> KVValue | None:
        query = f"?version={version}" if version else ""
        answer = await self._send("kv-read", "GET", f"{self._kv}/data/{quote(path)}{query}", absent=True)
        with _shaped():
            found = _decoded(answer).get("data") if answer.body else None
            if not found:
                return None
            data = found.get("data")
            if data is not None and not all(isinstance(value, str) for value in data.values()):
                raise Rejected("a value in Vault is no string: somebody else wrote it")
            return KVValue(int(found["metadata"]["version"]), data)

    async def kv_destroy(self, path: str, versions: list[int]) -> None:
        await self._send("kv-destroy", "POST", f"{self._kv}/destroy/{quote(path)}", {"versions": versions})

    async def kv_delete(self, path: str) -> None:
        await self._send("kv-delete", "DELETE", f"{self._kv}/metadata/{quote(path)}")

    async def kv_list(self, prefix: str) -> list[str]:
        folder = f"{quote(prefix.strip('/'))}/" if prefix.strip("/") else ""
        answer = await self._send("kv-list", "GET", f"{self._kv}/metadata/{folder}?list=true", absent=True)
        with _shaped():
            return [] if answer.status == 404 else [str(key) for key in _data(answer)["keys"]]

    async def issue_certificate(
        self, common_name: str, dns_names: list[str], ttl_seconds: int
    ) -> Certificate:
        body: dict[str, Any] = {
            "alt_names": ",".join(dns_names),
            "ttl": f"{ttl_seconds}s",
            "private_key_format": "pkcs8",
        }
        if len(common_name) <= _MAX_COMMON_NAME:
            body["common_name"] = common_name
        answer = await self._send("pki-issue", "POST", f"{self._pki}/issue/{PKI_ROLE}", body)
        with _shaped():
            return _certificate(_data(answer))

    async def _send(
        self,
        operation: str,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        absent: bool = False,
    ) -> Answer:
        """With `absent` a 404 without errors is an answer. A lost token costs one login and one repeat."""
        session = await self._token()
        answer = await self._request(operation, method, path, session.token, body)
        if answer.status == 403:
            renewed = await self._after_refusal(session)
            answer = await self._request(operation, method, path, renewed.token, body)
        if answer.status < 300 or (absent and answer.status == 404 and not _errors(answer)):
            return answer
        raise _fault(operation, answer)

    async def _request(
        self, operation: str, method: str, path: str, token: str, body: Mapping[str, Any] | None
    ) -> Answer:
        self.calls[operation, "Vault"] += 1
        headers = {"X-Vault-Request": "true", "Content-Type": "application/json"}
        if token:
            headers["X-Vault-Token"] = token
        return await self._transport.send(
            method, f"/v1/{path}", headers=headers, body=None if body is None else msgspec.json.encode(body)
        )

    async def _token(self) -> _Session:
        """The session, renewed or made anew when it is time."""
        session = self._session
        if session is not None and not self._is_old(session):
            return session
        async with self._login_lock:
            session = self._session
            if session is None:
                return await self._log_in()
            if self._is_old(session):
                return await self._renew(session)
            return session

    def _is_old(self, session: _Session) -> bool:
        return session.renew_at is not None and self._clock.monotonic() >= session.renew_at

    async def _renew(self, session: _Session) -> _Session:
        answer = await self._request("renew", "POST", "auth/token/renew-self", session.token, {})
        with _shaped():
            lifetime = int(_decoded(answer)["auth"]["lease_duration"]) if answer.status == 200 else 0
        # Near its maximum a token is renewed for ever shorter times; then a login is due.
        if lifetime < _YOUNG_SECONDS and self._clock.monotonic() - session.since > _YOUNG_SECONDS:
            return await self._log_in()
        if answer.status != 200:
            return await self._log_in()
        now = self._clock.monotonic()
        self._session = _Session(session.token, session.since, now + lifetime * _RENEW_AT)
        return self._session

    async def _after_refusal(self, refused: _Session) -> _Session:
        """Another session after a 403; raises Forbidden when the token lives and lacks the right."""
        async with self._login_lock:
            if self._session is not None and self._session is not refused:
                return self._session
            young = self._clock.monotonic() - refused.since < _YOUNG_SECONDS
            if young:
                answer = await self._request("lookup", "GET", "auth/token/lookup-self", refused.token, None)
                if answer.status == 200:
                    raise Forbidden("Vault refused: the policy of the operator's token is too narrow")
            return await self._log_in()

    async def _log_in(self) -> _Session:
        login = self._login.request()
        now = self._clock.monotonic()
        if isinstance(login, str):
            self._session = _Session(login, now, None)
            return self._session
        answer = await self._request("login", "POST", f"auth/{login.path}", "", login.body)
        if answer.status in {400, 403}:
            raise Forbidden(
                bounded(f"Vault refused the login at {login.path}: {_reason(answer, login.body)}")
            )
        if answer.status >= 300:
            raise _fault("login", answer)
        with _shaped():
            auth = _decoded(answer)["auth"]
            token, lifetime = str(auth["client_token"]), int(auth["lease_duration"])
        self._session = _Session(token, now, now + lifetime * _RENEW_AT if lifetime else None)
        return self._session


def _decoded(answer: Answer) -> dict[str, Any]:
    try:
        return msgspec.json.decode(answer.body, type=dict[str, Any])
    except (ValueError, RecursionError):
        raise Unavailable("Vault's answer is no JSON object") from None


def _data(answer: Answer) -> dict[str, Any]:
    data: dict[str, Any] = _decoded(answer)["data"]
    return data


@contextmanager
def _shaped() -> Iterator[None]:
    """What stands in the place of Vault's answer may come from a proxy before it. Raises Unavailable."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Unavailable("Vault's answer is not of the shape that was expected") from None


def _certificate(issued: Mapping[str, Any]) -> Certificate:
    leaf = x509.load_pem_x509_certificate(issued["certificate"].encode())
    authorities = "".join(issued.get("ca_chain") or ()).encode()
    parsed = x509.load_pem_x509_certificates(authorities) if authorities else []
    chain = [leaf, *(ca for ca in parsed if ca.subject != ca.issuer)]  # clients hold the root already
    return Certificate(
        chain="".join(one.public_bytes(Encoding.PEM).decode() for one in chain),
        private_key=issued["private_key"].strip() + "\n",
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
    )


def _errors(answer: Answer) -> str:
    try:
        return "; ".join(_decoded(answer).get("errors") or ())
    except (Unavailable, TypeError):
        return "" if not answer.body else "no JSON"


def _reason(answer: Answer, secrets: Mapping[str, str]) -> str:
    text = _errors(answer)
    return text.replace(secrets["jwt"], "***") if secrets.get("jwt") else text


def _fault(operation: str, answer: Answer) -> SendwardError:
    errors = _errors(answer)
    # Vault repeats what it cannot parse, so the text of a refused write is not told.
    told = "" if operation == "kv-write" else f": {' '.join(errors.split())}"
    message = bounded(f"Vault answered {answer.status} to {operation}{told}")
    if answer.status >= 500 or answer.status in _RETRY_LATER or "Upgrading from non-versioned" in errors:
        return Unavailable(message, answer.retry_after)
    if answer.status == 400 and "check-and-set parameter did not match" in errors:
        return Conflict("another writer was first: the check-and-set number does not match")
    match answer.status:
        case 401 | 403:
            return Forbidden(message)
        case 404:
            return NotFound(message)
        case _:
            return Rejected(message)
