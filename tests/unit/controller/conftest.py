"""Fixtures of the hub's tests."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from sendward.apply.certificates import new_leaf
from tests.unit.controller.hub_world import AUTHORITY, SERVER_NAME, World


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    leaf = new_leaf(AUTHORITY, (SERVER_NAME,), datetime.now(UTC))
    file = tmp_path_factory.mktemp("tls") / "hub.pem"
    file.write_bytes(leaf.key_pem + leaf.certificate_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


@pytest.fixture
async def world(tls: ssl.SSLContext) -> AsyncIterator[World]:
    made = World()
    await made.hub.start(tls, "127.0.0.1", 0)
    yield made
    await made.hub.stop()
