"""From creation to removal: deletion revokes first, broken references deny their subject only."""

import copy
import uuid
from typing import Any

import pytest

from sendward import names
from tests.e2e.support import ACCEPTED, SELECTOR, Tenant, answer, request, scale_operator
from tests.lab.prerequisites import LabError
from tests.lab.stack import Object, Stack, eventually

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="session")]

REFUSED = 401


def api(kind: str, name: str, **spec: Any) -> Object:
    return {"apiVersion": names.API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


async def customer(tenant: Tenant, name: str, **spec: Any) -> str:
    """An account with one key `<name>-key` whose value is handed over in a Secret; its value."""
    account = api("SenderAccount", name, gateways=["sms"], policies={"apiKey": "globex"}, **spec)
    await tenant.apply(account, api("APIKey", f"{name}-key", account=name))
    await tenant.ready("akey", f"{name}-key")
    return await tenant.key(f"{name}-key")


async def in_vault(tenant: Tenant, path: str) -> bool:
    return "data" in await tenant.stack.vault_get(f"sendward/metadata/{path}")


async def until_status(tenant: Tenant, key: str, status: int) -> None:
    pod = await tenant.pod()

    async def check() -> bool:
        return (await tenant.send(pod, key)).status == status

    await eventually(check, f"the key is answered with {status}", seconds=30, every=0.3)


async def test_deleting_a_key_revokes_it_first(tenant: Tenant) -> None:
    """When the object is gone, an open connection is refused at once, Vault and the Secret are empty."""
    key = await customer(tenant, "leaving")
    found = await tenant.get("akey", "leaving-key")
    assert names.FINALIZER in found["metadata"]["finalizers"]
    path = found["status"]["vaultPath"]
    secret = names.hand_over_secret("leaving-key")
    assert await tenant.find("secret", secret)
    assert await in_vault(tenant, path)
    reader, writer = await tenant.connect(await tenant.pod())
    writer.write(request(key=key))
    assert (await answer(reader)).status == ACCEPTED
    await tenant.delete("akey", "leaving-key")
    writer.write(request(key=key))
    refused = await answer(reader)
    writer.close()
    assert refused.status == REFUSED
    assert not await in_vault(tenant, path)
    assert await tenant.find("secret", secret) is None
    await tenant.delete("sender", "leaving")


async def test_the_same_name_is_another_key(tenant: Tenant) -> None:
    """A key that is created anew gets its own uid, path and value; the old value stays refused."""
    old = await customer(tenant, "again")
    before = await tenant.get("akey", "again-key")
    await tenant.delete("akey", "again-key")
    new = await customer(tenant, "again")
    after = await tenant.get("akey", "again-key")
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert after["status"]["vaultPath"] != before["status"]["vaultPath"]
    assert new != old
    pod = await tenant.pod()
    assert (await tenant.send(pod, new)).status == ACCEPTED
    assert (await tenant.send(pod, old)).status == REFUSED


async def test_deleted_while_no_operator_runs(tenant: Tenant, stack: Stack) -> None:
    """The finalizer holds the object; the next operator revokes and releases it."""
    key = await customer(tenant, "patient")
    path = (await tenant.get("akey", "patient-key"))["status"]["vaultPath"]
    await scale_operator(stack, 0)
    try:
        await tenant.delete("akey", "patient-key", wait=False)
        held = await tenant.get("akey", "patient-key")
        assert held["metadata"]["deletionTimestamp"]
        assert (await tenant.send(await tenant.pod(), key)).status == ACCEPTED
    finally:
        await scale_operator(stack, 2)
    await stack.kubectl("wait", "--for=delete", "akey/patient-key", "-n", tenant.namespace, "--timeout=60s")
    assert (await tenant.send(await tenant.pod(), key)).status == REFUSED
    assert not await in_vault(tenant, path)


async def test_a_deleted_account_is_refused_and_its_keys_wait_for_it(tenant: Tenant) -> None:
    key = await customer(tenant, "absent")
    account = await tenant.get("sender", "absent")
    await tenant.delete("sender", "absent")
    await until_status(tenant, key, REFUSED)
    message = await tenant.until_condition("akey", "absent-key", "ResolvedRefs", "False", "NotFound")
    assert "SenderAccount absent does not exist" in message
    await tenant.apply(api("SenderAccount", "absent", **account["spec"]))
    await tenant.ready("akey", "absent-key")
    assert await tenant.key("absent-key") == key
    await until_status(tenant, key, ACCEPTED)


Broken = tuple[list[Object], tuple[str, str], str, str, list[str]]

REFERENCES: dict[str, Broken] = {
    "a key of no account": (
        [api("APIKey", "r1", account="nobody")],
        ("akey", "r1"), "ResolvedRefs", "NotFound", ["spec.account", "SenderAccount nobody"],
    ),
    "a key with an unknown policy": (
        [api("SenderAccount", "r2", gateways=["sms"]), api("APIKey", "r2", account="r2", policy="nothing")],
        ("akey", "r2"), "ResolvedRefs", "NotFound", ["spec.policy", "APIKeyPolicy nothing"],
    ),
    "a key without any policy": (
        [api("SenderAccount", "r3", gateways=["sms"]), api("APIKey", "r3", account="r3")],
        ("akey", "r3"), "ResolvedRefs", "NoPolicy", ["spec.policy", "Name one"],
    ),
    "an account of no gateway": (
        [api("SenderAccount", "r4", gateways=["nowhere"])],
        ("sender", "r4"), "ResolvedRefs", "NotFound", ["spec.gateways[0]", "MessagingGateway nowhere"],
    ),
    "an account with an unknown limit": (
        [api("SenderAccount", "r5", gateways=["sms"], policies={"apiKey": "globex", "rateLimit": "fast"})],
        ("sender", "r5"), "ResolvedRefs", "NotFound", ["spec.policies.rateLimit", "RateLimitPolicy fast"],
    ),
    "a key with an unknown operation": (
        [
            api("SenderAccount", "r7", gateways=["sms"], policies={"apiKey": "globex"}),
            api("APIKey", "r7", account="r7", operations=["teleport"]),
        ],
        ("akey", "r7"), "ResolvedRefs", "UnknownOperation", ["spec.operations", "teleport"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFERENCES)
async def test_broken_references_deny_their_subject_only(tenant: Tenant, case: str) -> None:
    objects, (kind, name), condition, reason, words = REFERENCES[case]
    await tenant.apply(*copy.deepcopy(objects))
    message = await tenant.until_condition(kind, name, condition, "False", reason)
    for word in words:
        assert word in message, message
    assert (await tenant.condition(kind, name, "Stalled"))[0] == "True"
    assert (await tenant.condition(kind, name, "Ready"))[0] == "False"
    for sound in (("sender", "acme"), ("akey", "acme-shop"), ("mgw", "sms")):
        assert (await tenant.condition(*sound, "Ready"))[0] == "True"
    assert (await tenant.send(await tenant.pod(), await tenant.key("acme-shop"))).status == ACCEPTED
    for obj in reversed(objects):
        await tenant.delete(obj["kind"], obj["metadata"]["name"])


async def test_a_policy_that_vanishes_takes_its_subjects_with_it(tenant: Tenant) -> None:
    """Deleting the named limit denies the account (never: no limit); putting it back helps."""
    many = [{"messages": 100, "per": "1s"}]
    await tenant.apply(api("RateLimitPolicy", "named", account=many))
    key = await customer(tenant, "limited")
    await tenant.patch("sender", "limited", {"spec": {"policies": {"rateLimit": "named"}}})
    await tenant.ready("sender", "limited")
    await until_status(tenant, key, ACCEPTED)
    await tenant.delete("mrl", "named")
    await tenant.until_condition("sender", "limited", "ResolvedRefs", "False", "NotFound")
    await until_status(tenant, key, 403)
    await tenant.apply(api("RateLimitPolicy", "named", account=many))
    await tenant.ready("sender", "limited")
    await until_status(tenant, key, ACCEPTED)
    for kind, name in (("akey", "limited-key"), ("sender", "limited"), ("mrl", "named")):
        await tenant.delete(kind, name)


async def test_other_namespaces_are_no_business_of_a_tenant(tenant: Tenant, stack: Stack) -> None:
    """A namespace without the label: nothing is issued; names of another namespace are not found."""
    name = f"plain-{uuid.uuid4().hex[:6]}"
    await stack.kubectl("create", "namespace", name)
    try:
        own = [api("SenderAccount", "acme", gateways=["sms"]), api("APIKey", "acme-shop", account="acme")]
        await stack.apply(own, name)

        async def told() -> Object | None:
            return await stack.condition("sender", "acme", name, "Accepted")

        found = await eventually(told, "the account is told")
        assert (found["status"], found["reason"]) == ("False", "NamespaceNotOnboarded")
        assert names.LABEL_ONBOARDED in found["message"]
        assert not (await stack.get("akey", "acme-shop", name)).get("status", {}).get("versions")
        assert await stack.listing("secrets", name) == []
    finally:
        await stack.kubectl("delete", "namespace", name, "--timeout=60s")


@pytest.mark.parametrize("label", ["missing", "UPPER", "sms,other", ""])
async def test_a_pod_of_no_gateway_is_refused(tenant: Tenant, label: str) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stray", "labels": {names.LABEL_GATEWAY: label}},
        "spec": {"containers": [{"name": "main", "image": "lab-shell", "args": ["-c", "sleep 3600"]}]},
    }
    with pytest.raises(LabError):
        await tenant.apply(pod)
    assert await tenant.find("pod", "stray") is None


async def test_a_gateway_that_is_deleted_denies_until_its_pods_are_gone(tenant: Tenant) -> None:
    """Its document denies all; the NetworkPolicy goes last; then nothing of it is left."""
    key = await tenant.key("acme-shop")
    pod = await tenant.pod()
    await until_status(tenant, key, ACCEPTED)
    uid = (await tenant.get("mgw", "sms"))["metadata"]["uid"]
    await tenant.delete("mgw", "sms", wait=False)

    async def denied() -> bool:
        found = await tenant.send(pod, key)
        return (found.status, found.code) == (503, "SW2003")

    await eventually(denied, "the gateway denies everything", seconds=20)
    assert await tenant.find("mgw", "sms")
    assert await tenant.find("networkpolicy", names.network_policy("sms"))
    with pytest.raises(LabError, match="being deleted"):
        await tenant.apply(_labelled())
    await tenant.stack.kubectl("scale", "deployment", "sms", "-n", tenant.namespace, "--replicas=0")
    await tenant.stack.kubectl("wait", "--for=delete", "mgw/sms", "-n", tenant.namespace, "--timeout=60s")
    assert not await tenant.stack.pods(tenant.namespace, SELECTOR)
    await eventually(lambda: _nothing_of(tenant, uid), "nothing that the gateway owned is left", seconds=20)
    await tenant.until_condition("sender", "acme", "ResolvedRefs", "False", "NotFound")


def _labelled() -> Object:
    labels = {names.LABEL_GATEWAY: "sms"}
    container = {"name": "main", "image": "lab-shell", "args": ["-c", "sleep 3600"]}
    meta = {"name": "late", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]}}


async def _nothing_of(tenant: Tenant, uid: str) -> bool:
    selector = f"{names.LABEL_OWNER_UID}={uid}"
    text = await tenant.stack.kubectl(
        "get", "secrets,networkpolicies,configmaps", "-n", tenant.namespace, "-l", selector, "-o", "name"
    )
    return not text.strip()


async def test_the_gateway_comes_back_under_the_same_name(tenant: Tenant) -> None:
    """Keys outlive the gateway: the same values are accepted by the new one."""
    key = await tenant.key("acme-shop")
    await tenant.stack.quickstart(tenant.namespace)
    await tenant.stack.kubectl("scale", "deployment", "sms", "-n", tenant.namespace, "--replicas=1")
    await tenant.pod()
    for kind, name in (("mgw", "sms"), ("sender", "acme"), ("akey", "acme-shop")):
        await tenant.ready(kind, name)
    await until_status(tenant, key, ACCEPTED)
