"""A server certificate that has expired: clients that verify refuse it, and nothing is opened by it.

The operator says so in a condition; the pod goes on, since no other pod has a better one.
"""

from __future__ import annotations

import asyncio
import ssl
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from sendward.verdict import Reason
from tests.faults.test_sidecar_tls import swap
from tests.guard import builders
from tests.guard.harness import Harness, eventually
from tests.guard.test_product import GOOD, post, serve
from tests.lab.pki import CertificateAuthority

REQUEST = b"GET /v1/messages HTTP/1.1\r\nHost: a\r\nx-api-key: " + GOOD.value.encode() + b"\r\n\r\n"


class Authority:
    """Whom the clients trust."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder.mkdir()
        self._folder = folder
        self._monkeypatch = monkeypatch
        self._authority = CertificateAuthority(folder, "Test CA")

    def trust(self) -> ssl.SSLContext:
        """What a client trusts; with each one it connects anew."""
        return ssl.create_default_context(cafile=self._authority.file)

    def certificate(self, name: str, *, expired: bool = False) -> Path:
        """A folder with tls.crt and tls.key; `expired`: since a minute ago."""
        with self._monkeypatch.context() as patch:
            if expired:
                patch.setattr("tests.lab.pki._LIFETIME", -timedelta(minutes=1))
            pair = self._authority.issue(name, name, names=("localhost",))
        folder = self._folder / name
        folder.mkdir()
        pair.certificate.rename(folder / "tls.crt")
        pair.key.rename(folder / "tls.key")
        return folder


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    return Authority(tmp_path / "ca", monkeypatch)


async def refusal(pod: Harness, trust: ssl.SSLContext) -> str:
    """Why a client that verifies does not speak to it; empty if it does."""
    try:
        assert await post(pod, trust, GOOD.value) == (200, None)
    except aiohttp.ClientConnectorCertificateError as error:
        return str(error)
    return ""


async def assert_nothing_is_opened(pod: Harness) -> None:
    """No plain HTTP, and a key is asked for of whoever does not verify."""
    reader, writer = await asyncio.open_connection("127.0.0.1", pod.port)
    writer.write(REQUEST)
    async with asyncio.timeout(20):
        try:
            said = await reader.read(-1)
        except ConnectionError:
            said = b""
    writer.transport.abort()
    assert b"HTTP/" not in said
    careless = ssl.create_default_context()
    careless.check_hostname = False
    careless.verify_mode = ssl.CERT_NONE
    bad = builders.credential("bad").value
    assert await post(pod, careless, bad) == (Reason.UnknownKey.status, Reason.UnknownKey.code)


async def test_a_pod_that_starts_with_an_expired_certificate_is_refused_by_clients_until_it_is_renewed(
    pod: Harness, authority: Authority
) -> None:
    swap(pod, authority.certificate("expired", expired=True))
    await serve(pod)
    assert "certificate has expired" in await refusal(pod, authority.trust())
    await assert_nothing_is_opened(pod)
    assert pod.received == []
    swap(pod, authority.certificate("renewed"))

    async def served() -> bool:
        return not await refusal(pod, authority.trust())

    await eventually(served, "the renewed certificate is served")


async def test_an_expired_certificate_that_takes_the_place_of_a_sound_one_is_refused_by_clients(
    pod: Harness, authority: Authority
) -> None:
    swap(pod, authority.certificate("sound"))
    await serve(pod)
    assert not await refusal(pod, authority.trust())
    swap(pod, authority.certificate("expired", expired=True))

    async def refused() -> bool:
        return "certificate has expired" in await refusal(pod, authority.trust())

    await eventually(refused, "the expired certificate is served")
    before = len(pod.received)
    await assert_nothing_is_opened(pod)
    assert len(pod.received) == before
