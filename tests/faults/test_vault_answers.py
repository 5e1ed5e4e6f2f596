"""Answers that no Vault gives: something before it answers in its place."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from sendward.apply.vault import VaultClient
from sendward.apply.vault_auth import JWTLogin
from sendward.errors import SendwardError, Unavailable
from tests.fakes.vault import JWT, FakeVault

Call = Callable[[VaultClient], Awaitable[object]]
CALLS: dict[str, Call] = {
    "random": lambda vault: vault.random(32),
    "write": lambda vault: vault.kv_write("a/b", {"key": "one"}, 0),
    "read": lambda vault: vault.kv_read("a/b"),
    "list": lambda vault: vault.kv_list("a"),
    "certificate": lambda vault: vault.issue_certificate("a.example", ["a.example"], 3600),
}
BODIES = [
    "", "null", "[]", "{}", '"data"', "<html>welcome</html>", '{"data": null}', '{"data": []}', '{"data": 7}',
    '{"data": {}}', '{"data": {"keys": 7, "version": "x", "random_bytes": 7, "data": 7}}', "[" * 5000,
]  # fmt: skip


@pytest.fixture
async def fake() -> AsyncIterator[FakeVault]:
    async with FakeVault() as server:
        yield server


@pytest.fixture
async def client(fake: FakeVault, tmp_path: Path) -> AsyncIterator[VaultClient]:
    (tmp_path / "token").write_text(JWT)
    one = VaultClient(fake.url, JWTLogin("jwt", "role", str(tmp_path / "token")))
    yield one
    await one.close()


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
@pytest.mark.parametrize("call", CALLS)
async def test_an_answer_of_another_shape_is_a_fault_of_the_world(
    fake: FakeVault, client: VaultClient, call: str, body: str
) -> None:
    """It is tried again, and ends no periodic work."""
    await client.random(1)
    fake.fail(200, body=body)
    try:
        found = await CALLS[call](client)
    except SendwardError:
        return
    assert call == "read"
    assert found is None


@pytest.mark.parametrize("body", [*BODIES, json.dumps({"auth": {"client_token": "x"}})])
async def test_a_login_of_another_shape_is_tried_again(
    fake: FakeVault, client: VaultClient, body: str
) -> None:
    fake.fail(200, body=body)
    with pytest.raises(Unavailable):
        await client.random(1)
    await client.random(1)
