"""What both clients share, and how the API server is found from inside of a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web

from sendward.apply import kinds, kube
from sendward.apply.http import Transport
from sendward.apply.kube import KubeClient
from sendward.errors import Forbidden, Unavailable
from tests.fakes.kube import FakeKube
from tests.fakes.server import FakeServer


class Flood(FakeServer):
    """Answers with 5,000 bytes."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x" * 5000)


async def test_an_answer_is_bounded() -> None:
    async with Flood() as server:
        small = Transport(server.url, ca_file=None, in_flight=1, timeout_seconds=5, max_answer_bytes=1000)
        with pytest.raises(Unavailable, match="above 1000 bytes"):
            await small.send("GET", "/flood", headers={})
        await small.close()


async def test_the_token_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old\n")
    async with FakeKube(token="old") as server:
        client = KubeClient(server.url, token_file=str(token))
        await client.page(kinds.SECRET)
        server.token = "new"
        with pytest.raises(Forbidden):
            await client.page(kinds.SECRET)
        (tmp_path / "next").write_text("new\n")
        (tmp_path / "next").rename(token)
        await client.page(kinds.SECRET)
        token.unlink()
        with pytest.raises(Unavailable):
            await client.page(kinds.SECRET)
        await client.close()


async def test_in_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    monkeypatch.setattr(kube, "SERVICE_ACCOUNT", str(tmp_path))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(Unavailable):
        KubeClient.in_cluster()
    async with FakeKube(token="t") as server:
        monkeypatch.setenv("SENDWARD_KUBE_URL", server.url)
        client = KubeClient.in_cluster()
        assert (await client.page(kinds.SECRET)).items == []
        await client.close()


async def test_no_server_is_unavailable() -> None:
    client = KubeClient("http://127.0.0.1:1", token="secret-token")
    with pytest.raises(Unavailable) as caught:
        await client.page(kinds.SECRET)
    assert "secret-token" not in str(caught.value)
    await client.close()
