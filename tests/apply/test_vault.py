"""The client's contract with Vault: the same suite holds the fake and the real one to it.

The real Vault is prepared by `sendward vault bootstrap`, and the client logs in by JWT, so that these
calls also prove the operator's policy wide enough.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from sendward.apply import ports
from sendward.apply.vault import VaultClient
from sendward.apply.vault_auth import JWTLogin, TokenLogin
from sendward.errors import Conflict, Forbidden, NotFound, Rejected, Unavailable
from tests.fakes.memory import MemoryVault
from tests.fakes.vault import JWT, ROOT, FakeVault, Issuer
from tests.lab.provider import Servers

CANARY = "swk_canary-value-of-a-key"


BOTH = ["fake", pytest.param("real", marks=pytest.mark.lab)]


@asynccontextmanager
async def _client(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[VaultClient]:
    """A client that logs in by JWT, to the fake or to the real server."""
    token_file = tmp_path / "token"
    login = JWTLogin("jwt", "sendward-operator", str(token_file))
    if request.param == "fake":
        token_file.write_text(JWT)
        async with FakeVault() as fake:
            client = VaultClient(fake.url, login)
            yield client
            await client.close()
        return
    lab: Servers = request.getfixturevalue("bootstrapped")
    token_file.write_text(request.getfixturevalue("operator_jwt"))
    client = VaultClient(lab.vault_address, login, ca_file=str(lab.ca_file))
    yield client
    await client.close()


@pytest.fixture(params=BOTH)
async def logged_in(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[VaultClient]:
    async with _client(request, tmp_path) as client:
        yield client


@pytest.fixture(params=["memory", *BOTH])
async def vault(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ports.Vault]:
    if request.param == "memory":
        yield MemoryVault(issuer=Issuer())
        return
    async with _client(request, tmp_path) as client:
        yield client


@pytest.fixture
def path() -> str:
    return f"{uuid.uuid4()}/{uuid.uuid4()}"


async def test_random_bytes(vault: ports.Vault) -> None:
    first, second = await vault.random(32), await vault.random(32)
    assert len(first) == 32
    assert first != second


async def test_write_and_read_back(vault: ports.Vault, path: str) -> None:
    assert await vault.kv_read(path) is None
    assert await vault.kv_write(path, {"key": "one"}, 0) == 1
    assert await vault.kv_write(path, {"key": "two"}, 1) == 2
    value = await vault.kv_read(path)
    assert value is not None
    assert (value.version, value.data) == (2, {"key": "two"})


async def test_an_earlier_version_is_read_by_its_number(vault: ports.Vault, path: str) -> None:
    await vault.kv_write(path, {"key": "one"}, 0)
    await vault.kv_write(path, {"key": "two"}, 1)
    value = await vault.kv_read(path, 1)
    assert value is not None
    assert (value.version, value.data) == (1, {"key": "one"})
    assert await vault.kv_read(path, 3) is None
    await vault.kv_destroy(path, [1])
    value = await vault.kv_read(path, 1)
    assert value is not None
    assert (value.version, value.data) == (1, None)


async def test_check_and_set(vault: ports.Vault, path: str) -> None:
    await vault.kv_write(path, {"key": "one"}, 0)
    with pytest.raises(Conflict) as caught:
        await vault.kv_write(path, {"key": CANARY}, 0)
    assert CANARY not in str(caught.value)


async def test_destroyed_values_are_gone_and_their_numbers_are_not(vault: ports.Vault, path: str) -> None:
    await vault.kv_write(path, {"key": "one"}, 0)
    await vault.kv_destroy(path, [1])
    value = await vault.kv_read(path)
    assert value is not None
    assert (value.version, value.data) == (1, None)
    with pytest.raises(Conflict):
        await vault.kv_write(path, {"key": "two"}, 0)
    assert await vault.kv_write(path, {"key": "two"}, 1) == 2


async def test_delete_and_list(vault: ports.Vault, path: str) -> None:
    folder, name = path.split("/")
    await vault.kv_write(path, {"key": "one"}, 0)
    assert await vault.kv_list(folder) == [name]
    await vault.kv_delete(path)
    await vault.kv_delete(path)
    assert await vault.kv_list(folder) == []
    assert await vault.kv_read(path) is None


async def test_destroying_nothing_is_no_error(vault: ports.Vault, path: str) -> None:
    await vault.kv_destroy(path, [1])


async def test_certificates(vault: ports.Vault) -> None:
    issued = await vault.issue_certificate("sms.example.com", ["sms.example.com", "*.example.net"], 3600)
    leaf = x509.load_pem_x509_certificates(issued.chain.encode())[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"sms.example.com", "*.example.net"}
    assert issued.not_before < datetime.now(UTC) < issued.not_after
    assert issued.not_after - datetime.now(UTC) < timedelta(hours=1, minutes=1)
    assert "PRIVATE KEY" in issued.private_key
    assert "PRIVATE" not in repr(issued)


async def test_a_name_too_long_for_the_subject_stands_in_the_sans(vault: ports.Vault) -> None:
    name = f"{'a' * 60}.example.com"
    issued = await vault.issue_certificate(name, [name], 3600)
    leaf = x509.load_pem_x509_certificates(issued.chain.encode())[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [name]


async def test_calls_are_counted(logged_in: VaultClient, path: str) -> None:
    await logged_in.kv_write(path, {"key": "one"}, 0)
    assert dict(logged_in.calls) == {("login", "Vault"): 1, ("kv-write", "Vault"): 1}


# The real server only.


@pytest.mark.lab
async def test_the_operator_may_do_nothing_else(
    bootstrapped: Servers, operator_jwt: str, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(operator_jwt)
    login = JWTLogin("jwt", "sendward-operator", str(tmp_path / "token"))
    outside = VaultClient(
        bootstrapped.vault_address, login, kv_mount="other", ca_file=str(bootstrapped.ca_file)
    )
    with pytest.raises(Forbidden):
        await outside.kv_read("a/b")
    await outside.close()


@pytest.mark.lab
async def test_a_sealed_vault_is_unavailable_and_comes_back(bootstrapped: Servers, path: str) -> None:
    client = VaultClient(
        bootstrapped.vault_address,
        TokenLogin(bootstrapped.vault_token),
        ca_file=str(bootstrapped.ca_file),
    )
    await client.kv_write(path, {"key": "one"}, 0)
    await asyncio.to_thread(bootstrapped.seal_vault)
    with pytest.raises(Unavailable):
        await client.kv_read(path)
    await asyncio.to_thread(bootstrapped.unseal_vault)
    assert await client.kv_read(path) is not None
    await client.close()


# Faults, which only the fake can be told to have.


@dataclass
class Watch:
    """A clock that is set by hand."""

    seconds: float = 1000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
async def fake() -> AsyncIterator[FakeVault]:
    async with FakeVault() as server:
        yield server


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
async def client(fake: FakeVault, watch: Watch, tmp_path: Path) -> AsyncIterator[VaultClient]:
    (tmp_path / "token").write_text(JWT)
    one = VaultClient(fake.url, JWTLogin("jwt", "role", str(tmp_path / "token")), clock=watch)
    yield one
    await one.close()


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, Rejected), (404, NotFound), (405, Rejected), (412, Unavailable), (429, Unavailable)]
    + [(status, Unavailable) for status in (472, 473, 500, 502, 503)],
)
async def test_statuses_become_errors_without_values(
    fake: FakeVault, client: VaultClient, status: int, error: type[Exception]
) -> None:
    await client.random(1)
    fake.fail(status, body=f'{{"errors": ["cannot parse {CANARY}"]}}')
    with pytest.raises(error) as caught:
        await client.kv_write("a/b", {"key": CANARY}, 0)
    assert CANARY not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"


async def test_a_missing_mount_is_not_an_absent_key(fake: FakeVault, client: VaultClient) -> None:
    fake.fail(404, matches=lambda r: "/data/" in r.path, body='{"errors": ["no handler for route"]}')
    with pytest.raises(NotFound):
        await client.kv_read("a/b")


async def test_a_lost_answer_says_nothing_and_reading_back_tells(
    fake: FakeVault, client: VaultClient
) -> None:
    await client.random(1)
    fake.fail("lose")
    with pytest.raises(Unavailable):
        await client.kv_write("a/b", {"key": "one"}, 0)
    value = await client.kv_read("a/b")
    assert value is not None
    assert value.version == 1


async def test_many_first_requests_share_one_login(fake: FakeVault, client: VaultClient) -> None:
    await asyncio.gather(*(client.random(1) for _ in range(40)))
    assert fake.logins == 1


async def test_the_token_is_renewed_at_two_thirds_of_its_life(
    fake: FakeVault, client: VaultClient, watch: Watch
) -> None:
    await client.random(1)
    watch.seconds += 2399
    await client.random(1)
    assert (fake.logins, fake.renewals) == (1, 0)
    watch.seconds += 2
    await client.random(1)
    assert (fake.logins, fake.renewals) == (1, 1)


async def test_at_its_maximum_a_login_replaces_the_renewal(
    fake: FakeVault, client: VaultClient, watch: Watch
) -> None:
    fake.token_max_ttl = 10
    await client.random(1)
    watch.seconds += 2401
    await client.random(1)
    assert (fake.logins, fake.renewals) == (2, 1)


async def test_a_lost_token_costs_one_login(fake: FakeVault, client: VaultClient) -> None:
    await client.kv_write("a/b", {"key": "one"}, 0)
    fake.revoke_tokens()
    values = await asyncio.gather(*(client.kv_read("a/b") for _ in range(10)))
    assert all(value is not None and value.data == {"key": "one"} for value in values)
    assert fake.logins == 2


async def test_a_policy_too_narrow_is_forbidden_without_a_storm_of_logins(
    fake: FakeVault, client: VaultClient, watch: Watch
) -> None:
    fake.forbidden = ["sendward/data/"]
    for _ in range(5):
        with pytest.raises(Forbidden):
            await client.kv_read("a/b")
    assert fake.logins == 1
    watch.seconds += 61  # the role may have got more rights since the login
    with pytest.raises(Forbidden):
        await client.kv_read("a/b")
    assert fake.logins == 2


async def test_a_refused_login_is_forbidden_and_tells_no_token(fake: FakeVault, client: VaultClient) -> None:
    fake.jwts.clear()
    with pytest.raises(Forbidden) as caught:
        await client.random(1)
    assert JWT not in str(caught.value)


async def test_the_service_account_token_is_read_again(
    fake: FakeVault, client: VaultClient, tmp_path: Path
) -> None:
    await client.random(1)
    fake.jwts = {"the-next-token"}
    fake.revoke_tokens()
    (tmp_path / "new").write_text("the-next-token")
    (tmp_path / "new").rename(tmp_path / "token")
    await client.random(1)
    assert fake.logins == 2


async def test_sealed_is_unavailable(fake: FakeVault, client: VaultClient) -> None:
    fake.sealed = True
    with pytest.raises(Unavailable):
        await client.kv_list("")


async def test_a_foreign_value_is_rejected(fake: FakeVault, client: VaultClient) -> None:
    body: dict[str, Any] = {"key": 7}
    await client.kv_write("a/b", body, 0)
    with pytest.raises(Rejected):
        await client.kv_read("a/b")


async def test_a_given_token_needs_no_login(fake: FakeVault) -> None:
    one = VaultClient(fake.url, TokenLogin(ROOT))
    await one.random(1)
    assert fake.logins == 0
    await one.close()


async def test_no_server_is_unavailable(client: VaultClient, tmp_path: Path) -> None:
    nobody = VaultClient("http://127.0.0.1:1", TokenLogin(ROOT))
    with pytest.raises(Unavailable):
        await nobody.random(1)
    await nobody.close()
    gone = VaultClient("http://127.0.0.1:1", JWTLogin("jwt", "role", str(tmp_path / "missing")))
    with pytest.raises(Unavailable):
        await gone.random(1)
    await gone.close()
