"""The fault rows of Vault on the real servers: messages go through Envoy and guard all the time, and the
operator reaches a real Vault, by itself or through a proxy that tampers with the answers."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio

from tests.faults.proxy_calls import Call, Sort
from tests.faults.proxy_rules import Rule
from tests.faults.support_vault import PATIENCE, Stage, open_stage
from tests.lab.servers import NEEDS, Lab
from tests.lab.stack import eventually

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="session")]

ONE = ((1, "Current"),)
ROTATED = ((1, "Previous"), (2, "Current"))
REVOKED = ((1, "Revoked"), (2, "Current"))


@pytest.fixture(scope="module")
def own_lab(lab_session: Lab) -> Iterator[Lab]:
    """Servers of this file's own; those of the session stand still meanwhile, having the same addresses."""
    for name in reversed(NEEDS):
        if lab_session.running(name):
            lab_session.kill(name)
    with Lab() as lab:
        yield lab


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(own_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with open_stage(own_lab, tmp_path_factory.mktemp("dumps")) as made:
        yield made


@pytest.mark.parametrize("kind", ["sealed", "killed", "refusing", "hanging"])
async def test_an_outage_in_each_stage_of_a_key(stage: Stage, kind: str) -> None:
    """Issue and rotation wait and say so, a revocation and a deletion are in force without Vault; no
    message is lost, and afterwards Vault holds what is declared."""
    tenant = stage.tenant
    new, rotated, revoked, deleted = (f"{kind}-{n}" for n in ("new", "rotated", "revoked", "deleted"))
    values = await stage.issued(rotated, revoked, deleted)
    path = await stage.path(deleted)
    async with stage.traffic(values[0]) as kept, stage.traffic(values[1]) as ended:
        async with stage.outage(kind):
            await stage.change(rotated, rotateNonce="1")
            await stage.change(revoked, revokeThrough=1)
            await tenant.delete("akey", deleted, wait=False)
            await stage.declare(new)
            await tenant.until_condition("akey", revoked, "Revoked", "True", seconds=PATIENCE)
            told = time.time()
            await stage.until_answer(values[2], 401)
            await stage.waits_for_vault(rotated)
            await stage.waits_for_vault(new)
            assert await stage.versions(rotated) == list(ONE)
            assert await stage.versions(new) == []
            assert await tenant.find("akey", deleted)
        await stage.until(rotated, *ROTATED)
        await stage.until(revoked, *REVOKED)
        await stage.until(new, *ONE)
        await stage.until_gone(deleted)
    assert kept.lost == []
    assert len(kept.answers) > 20
    assert [a for a in ended.answers if a.sent_at > told and a.accepted] == []
    assert [await stage.live(key) for key in (rotated, revoked, new)] == [[1, 2], [2], [1]]
    assert await stage.vault.live(path) == []


async def test_answers_that_are_lost_after_the_commit(stage: Stage) -> None:
    """Two in a row of each call that changes something, through a whole life: no version twice."""
    (value,) = await stage.issued("lost")

    def lost(kind: str) -> Rule:
        def matches(call: Call) -> bool:
            return call.server == "vault" and call.sort is Sort.MUTATION and call.kind == kind

        return Rule(matches, times=2, lose=True)

    rules = stage.proxies.ledger.rules
    async with stage.traffic(value) as traffic:
        rules += [lost("data"), lost("destroy"), lost("metadata")]
        await stage.change("lost", rotateNonce="1")
        await stage.until("lost", *ROTATED)
        assert await stage.live("lost") == [1, 2]
    assert traffic.lost == []
    path = await stage.path("lost")
    await stage.change("lost", revokeThrough=2)
    await stage.until("lost", (1, "Revoked"), (2, "Revoked"), (3, "Current"))

    async def destroyed() -> bool:
        return await stage.live("lost") == [3]

    await eventually(destroyed, "what was revoked is destroyed", seconds=PATIENCE)
    await stage.delete("lost")
    assert await stage.vault.live(path) == []
    assert [rule.times for rule in rules] == [0, 0, 0]
    rules.clear()


async def test_a_token_that_is_revoked_or_expires_costs_a_login(stage: Stage) -> None:
    """What was issued lives on, and the operator logs in again by itself."""
    (value,) = await stage.issued("token")
    role = "auth/jwt/role/sendward-operator"
    settings = (await stage.vault.call("GET", role))["data"]
    async with stage.traffic(value) as traffic:
        tokens = await stage.vault.operator_tokens()
        assert tokens
        for accessor in tokens:
            await stage.vault.call("POST", "auth/token/revoke-accessor", {"accessor": accessor})
        await stage.change("token", rotateNonce="revoked")
        await stage.until("token", *ROTATED)
        short = {**settings, "token_ttl": 1, "token_max_ttl": 1}
        await stage.vault.call("POST", role, short)
        for accessor in await stage.vault.operator_tokens():
            await stage.vault.call("POST", "auth/token/revoke-accessor", {"accessor": accessor})
        await stage.issued("token-2")

        async def expired() -> bool:
            return not await stage.vault.operator_tokens()

        await eventually(expired, "the operator's token expired", seconds=PATIENCE)
        await stage.issued("token-3")
        await stage.vault.call("POST", role, settings)
    assert traffic.lost == []


async def test_a_right_that_lacks_for_one_path_stops_one_key(stage: Stage) -> None:
    """The other key of the same account rotates, and the first does when the right is back."""
    values = await stage.issued("denied", "allowed")
    policy = "sys/policies/acl/sendward-operator"
    shipped = (await stage.vault.call("GET", policy))["data"]["policy"]
    path = f"sendward/data/{await stage.path('denied')}"
    async with stage.traffic(values[0]) as traffic:
        denied = f'{shipped}\npath "{path}" {{ capabilities = ["deny"] }}\n'
        await stage.vault.call("PUT", policy, {"policy": denied})
        for key in ("denied", "allowed"):
            await stage.change(key, rotateNonce="1")
        await stage.until("allowed", *ROTATED)
        await stage.waits_for_vault("denied")
        assert await stage.versions("denied") == list(ONE)
        await stage.vault.call("PUT", policy, {"policy": shipped})
        await stage.until("denied", *ROTATED)
    assert traffic.lost == []
    assert await stage.live("denied") == [1, 2]


async def test_an_audit_device_that_is_full_leaves_no_half_state(stage: Stage) -> None:
    """Vault answers nothing that it cannot log, though it may have carried it out."""
    (value,) = await stage.issued("audit")
    vault, disk = stage.vault, stage.stack.lab.directory / "audit-disk"
    disk.mkdir()
    await _run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk))
    options = {"type": "file", "options": {"file_path": str(disk / "audit.log")}}
    await vault.call("PUT", "sys/audit/small", options)
    await vault.call("DELETE", "sys/audit/file")
    try:
        async with stage.traffic(value) as traffic:
            await asyncio.to_thread(_fill, disk / "filler")
            await stage.change("audit", rotateNonce="1")
            await stage.waits_for_vault("audit")
            (disk / "filler").unlink()
            (disk / "audit.log").write_bytes(b"")
            await stage.until("audit", *ROTATED)
        assert traffic.lost == []
        assert await stage.live("audit") == [1, 2]
    finally:
        usual = {"type": "file", "options": {"file_path": str(stage.stack.lab.vault_audit_log)}}
        await vault.call("PUT", "sys/audit/file", usual)
        await vault.call("DELETE", "sys/audit/small")
        await _run("umount", "-l", str(disk))


async def _run(*command: str) -> None:
    await asyncio.to_thread(subprocess.run, command, check=True)


def _fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1024))


async def test_a_mount_that_is_gone_empties_nothing(stage: Stage) -> None:
    """Every value is lost: the keys that holders have live on, and new ones are issued once it is back."""
    (value,) = await stage.issued("mount")
    async with stage.traffic(value) as traffic:
        await stage.vault.call("DELETE", "sys/mounts/sendward")
        await stage.change("mount", rotateNonce="1")
        await stage.waits_for_vault("mount")
        assert await stage.versions("mount") == list(ONE)
        await stage.stack.sendward("vault", "bootstrap", *_as_before(stage))
        await stage.until("mount", *ROTATED)
        assert await stage.answer(await stage.tenant.key("mount")) == 202
    assert traffic.lost == []
    assert await stage.live("mount") == [1]


def _as_before(stage: Stage) -> list[str]:
    lab = stage.stack.lab
    key = str(lab.directory / "service-account.pub")
    return ["--auth", "jwt", "--jwt-public-key", key, "--issuer", lab.service_account_issuer]
