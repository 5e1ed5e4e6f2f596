from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestClient, TestServer

from tests.lab.sample_gateway import application


@pytest.fixture
async def client() -> AsyncIterator[TestClient]:  # type: ignore[type-arg]  # aiohttp's own fixture has none
    async with TestClient(TestServer(application())) as made:
        yield made


async def test_json_api(client: TestClient) -> None:  # type: ignore[type-arg]  # as above
    headers = {"Authorization": "Bearer hidden", "X-SW-Account": "acme"}
    body = {"to": "+491", "from": "ACME", "text": "hi"}
    answer = await client.post("/v1/messages", json=body, headers=headers)
    assert answer.status == 202
    message = await answer.json()
    assert message["status"] == "accepted"
    assert (await (await client.get(f"/v1/messages/{message['id']}")).json())["to"] == "+491"
    assert (await client.get("/v1/messages/none")).status == 404

    text = await (await client.get("/debug/last")).text()
    assert '"x-sw-account": "acme"' in text
    assert '"authorization": true' in text
    assert "hidden" not in text


@pytest.mark.parametrize("body", [b"nonsense", b"[]", b'{"to": "1"}'])
async def test_bad_bodies_are_refused(client: TestClient, body: bytes) -> None:  # type: ignore[type-arg]  # as above
    assert (await client.post("/v1/messages", data=body)).status == 400


async def test_kannel_and_jasmin(client: TestClient) -> None:  # type: ignore[type-arg]  # as above
    query = {"to": "1", "from": "2", "text": "t"}
    assert (await client.get("/cgi-bin/sendsms", params=query)).status == 403
    login = {"username": "u", "password": "p"}
    assert (await client.get("/cgi-bin/sendsms", params={**query, **login})).status == 202
    form = {"to": "1", "from": "2", "content": "t"}
    for answer in (await client.get("/send", params=form), await client.post("/send", data=form)):
        assert (await answer.text()).startswith('Success "')
    assert (await (await client.get("/debug/last")).json())["accepted"] == 3
