"""What Argo CD, Flux and `kubectl wait` understand: judged by the real kstatus library, and by kubectl."""

import asyncio
import json
import subprocess

import pytest

from sendward import names
from tests.e2e.support import Tenant, scale_operator
from tests.lab.builds import require
from tests.lab.stack import Object, Stack, eventually

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="session")]

COLUMNS = {
    "messaginggateways": ["NAME", "READY", "REASON", "AGE"],
    "senderaccounts": ["NAME", "READY", "REASON", "AGE"],
    "apikeypolicies": ["NAME", "READY", "REASON", "AGE"],
    "apikeys": ["NAME", "READY", "REASON", "AGE"],
    "ratelimitpolicies": ["NAME", "READY", "REASON", "AGE"],
}


async def judged(objects: list[Object]) -> dict[str, str]:
    """`Kind/name` to kstatus' word."""
    done = await asyncio.to_thread(
        subprocess.run,
        [str(require("kstatus-check"))],
        input=json.dumps(objects),
        capture_output=True,
        text=True,
        check=True,
    )
    return {f"{found['kind']}/{found['name']}": found["status"] for found in json.loads(done.stdout)}


async def objects(tenant: Tenant) -> list[Object]:
    return await tenant.stack.listing("sendward", tenant.namespace)


async def until(tenant: Tenant, name: str, word: str) -> None:
    async def check() -> bool:
        return (await judged(await objects(tenant))).get(name) == word

    await eventually(check, f"{name} is {word}", seconds=30, every=0.3)


def account(name: str, gateway: str = "sms") -> Object:
    return {
        "apiVersion": names.API_VERSION,
        "kind": "SenderAccount",
        "metadata": {"name": name},
        "spec": {"gateways": [gateway]},
    }


async def test_what_is_ready_is_current(tenant: Tenant) -> None:
    for kind, name in (("sender", "globex"), ("akey", "acme-otp"), ("akp", "standard"), ("mrl", "standard")):
        await tenant.ready(kind, name)
    found = await judged(await objects(tenant))
    assert len(found) == 9
    assert set(found.values()) == {"Current"}, found


async def test_what_nobody_has_looked_at_is_in_progress(tenant: Tenant, stack: Stack) -> None:
    """A new object, and a change that the operator has not seen: never Current by mistake."""
    await scale_operator(stack, 0)
    try:
        await tenant.apply(account("new"))
        await tenant.patch("sender", "globex", {"spec": {"suspend": True}})
        found = await judged(await objects(tenant))
        assert found["SenderAccount/new"] == "InProgress"
        assert found["SenderAccount/globex"] == "InProgress"
        assert (await tenant.get("sender", "new"))["status"] == {"observedGeneration": -1}
    finally:
        await scale_operator(stack, 2)
    await until(tenant, "SenderAccount/new", "Current")
    await until(tenant, "SenderAccount/globex", "Current")  # suspended as declared
    await tenant.patch("sender", "globex", {"spec": {"suspend": False}})
    await tenant.delete("sender", "new")


async def test_what_only_the_user_can_help_has_failed(tenant: Tenant) -> None:
    await tenant.apply(account("dangling", "nowhere"))
    await until(tenant, "SenderAccount/dangling", "Failed")
    await tenant.apply(account("dangling"))
    await until(tenant, "SenderAccount/dangling", "Current")
    await tenant.delete("sender", "dangling")


async def test_every_condition_names_its_generation(tenant: Tenant) -> None:
    """Argo CD's and Flux's rule: what was observed is the present generation, in each condition."""
    await tenant.patch("sender", "acme", {"spec": {"displayName": "Acme"}})
    await tenant.ready("sender", "acme")
    for obj in await objects(tenant):
        generation = obj["metadata"]["generation"]
        assert obj["status"]["observedGeneration"] == generation
        conditions = obj["status"]["conditions"]
        assert {c["observedGeneration"] for c in conditions} == {generation}, obj["metadata"]["name"]
        assert len({c["type"] for c in conditions}) == len(conditions)
        assert not {"Reconciling", "Stalled"} & {c["type"] for c in conditions}


async def test_kubectl_waits_for_ready(tenant: Tenant) -> None:
    said = await tenant.stack.kubectl(
        "wait", "--for=condition=Ready", "sendward", "--all", "-n", tenant.namespace, "--timeout=30s"
    )
    assert len(said.splitlines()) == 9


@pytest.mark.parametrize("plural", COLUMNS)
async def test_kubectl_shows_ready_reason_one_column_and_age(tenant: Tenant, plural: str) -> None:
    lines = (await tenant.stack.kubectl("get", plural, "-n", tenant.namespace)).splitlines()
    head = lines[0].split()
    assert [column for column in head if column in COLUMNS[plural]] == COLUMNS[plural], head
    assert len(head) >= len(COLUMNS[plural]) + 1, head
    for line in lines[1:]:
        assert "True" in line.split()
