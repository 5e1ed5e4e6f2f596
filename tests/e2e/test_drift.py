"""What somebody deletes or edits comes back within 5 s; what must not be edited is refused."""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography import x509

from sendward import names
from tests.e2e.support import ACCEPTED, Tenant
from tests.lab.prerequisites import LabError
from tests.lab.stack import Object, eventually

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="session")]

REPAIR_SECONDS = 5.0  # the design's promise


@dataclass(frozen=True)
class Owned:
    """An object of ours, an edit that breaks it, and whether it must come back as it was."""

    kind: str
    name: str
    edit: Object
    same: bool = True


def _b64(text: str) -> str:
    return b64encode(text.encode()).decode()


OWNED = {
    "document, gateway part": Owned(
        "secret", names.document_secret("sms", "gateway"), {"data": {"document": _b64("x")}}
    ),
    "document, shard": Owned("secret", names.document_secret("sms", "3"), {"data": None}),
    "network policy": Owned("networkpolicy", names.network_policy("sms"), {"spec": {"ingress": [{}]}}),
    "hand-over": Owned("secret", names.hand_over_secret("globex-main"), {"data": {"key": _b64("swk_x")}}),
    "CA of the hub": Owned("configmap", names.CONFIGMAP_HUB_CA, {"data": {"ca.crt": "none"}}),
    "certificate": Owned("secret", names.tls_secret("sms"), {"data": {"tls.crt": _b64("none")}}, same=False),
}


def content(obj: Object) -> Object:
    """What counts of an object: everything that is declared."""
    meta = obj["metadata"]
    return {
        **{field: obj.get(field) for field in ("data", "spec", "type")},
        "labels": meta["labels"],
        "owner": [owner["uid"] for owner in meta.get("ownerReferences", [])],
    }


async def back(tenant: Tenant, owned: Owned, before: Object) -> None:
    """Within the promised time the object stands as declared."""

    async def check() -> bool:
        found = await tenant.find(owned.kind, owned.name)
        if found is None or content(found)["labels"] != before["labels"]:
            return False
        return content(found) == before if owned.same else _certificate(found)

    await eventually(check, f"{owned.kind} {owned.name} is back", seconds=REPAIR_SECONDS)


def _certificate(secret: Object) -> bool:
    try:
        return bool(x509.load_pem_x509_certificates(b64decode(secret["data"]["tls.crt"])))
    except ValueError:
        return False


@pytest.mark.parametrize("case", OWNED)
async def test_deleted(tenant: Tenant, case: str) -> None:
    owned = OWNED[case]
    before = content(await tenant.get(owned.kind, owned.name))
    await tenant.delete(owned.kind, owned.name)
    await back(tenant, owned, before)
    await still_serves(tenant)


@pytest.mark.parametrize("case", OWNED)
async def test_edited(tenant: Tenant, case: str) -> None:
    owned = OWNED[case]
    before = content(await tenant.get(owned.kind, owned.name))
    await tenant.patch(owned.kind, owned.name, owned.edit)
    await back(tenant, owned, before)
    await still_serves(tenant)


@pytest.mark.parametrize("label", [names.LABEL_MANAGED_BY, names.LABEL_OWNER_UID, names.LABEL_PART])
@pytest.mark.parametrize("case", ["document, shard", "network policy", "hand-over"])
async def test_label_removed(tenant: Tenant, case: str, label: str) -> None:
    """Without the label the object leaves the watches; it is drift as any other."""
    owned = OWNED[case]
    before = content(await tenant.get(owned.kind, owned.name))
    await tenant.patch(owned.kind, owned.name, {"metadata": {"labels": {label: None}}})
    await back(tenant, owned, before)


async def still_serves(tenant: Tenant) -> None:
    pod = await tenant.pod()
    assert (await tenant.send(pod, await tenant.key("acme-shop"))).status == ACCEPTED
    assert all(status["restartCount"] == 0 for status in pod["status"]["initContainerStatuses"])


@pytest.mark.parametrize("change", ["other", None], ids=["another gateway", "removed"])
async def test_a_pod_cannot_leave_its_gateway(tenant: Tenant, change: str | None) -> None:
    pod = await tenant.pod()
    with pytest.raises(LabError, match=names.LABEL_GATEWAY):
        await tenant.patch(
            "pod", pod["metadata"]["name"], {"metadata": {"labels": {names.LABEL_GATEWAY: change}}}
        )


async def test_a_pod_cannot_join_a_gateway_later(tenant: Tenant) -> None:
    """The label on a running pod that has no sidecar is refused."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "late"},
        "spec": {
            "containers": [{"name": "main", "image": "lab-shell", "args": ["-c", "sleep 3600"]}],
            "terminationGracePeriodSeconds": 0,
        },
    }
    await tenant.apply(pod)
    with pytest.raises(LabError, match=names.LABEL_GATEWAY):
        await tenant.patch("pod", "late", {"metadata": {"labels": {names.LABEL_GATEWAY: "sms"}}})
    await tenant.delete("pod", "late")


STATUSES: dict[str, Callable[[Object], Any]] = {
    "conditions": lambda status: {"conditions": [{**c, "status": "False"} for c in status["conditions"]]},
    "no conditions": lambda status: {"conditions": []},
    "old generation": lambda status: {"observedGeneration": 0},
}


@pytest.mark.parametrize("edit", STATUSES)
@pytest.mark.parametrize(
    "kind", ["messaginggateway/sms", "senderaccount/acme", "apikey/acme-shop", "mrl/standard"]
)
async def test_a_status_that_somebody_edits_is_rewritten(tenant: Tenant, kind: str, edit: str) -> None:
    which, name = kind.split("/")
    before = (await tenant.get(which, name))["status"]
    await tenant.stack.kubectl(
        "patch", which, name, "-n", tenant.namespace, "--subresource=status", "--type=merge",
        "-p", json.dumps({"status": STATUSES[edit](before)}),
    )  # fmt: skip

    async def rewritten() -> bool:
        now = (await tenant.get(which, name))["status"]
        plain = [
            {(c["type"], c["status"], c["reason"]) for c in status["conditions"]} for status in (before, now)
        ]
        return plain[0] == plain[1] and now["observedGeneration"] == before["observedGeneration"]

    await eventually(rewritten, f"status of {kind}", seconds=REPAIR_SECONDS)


async def test_versions_in_a_status_cannot_be_invented(tenant: Tenant) -> None:
    """Who may edit the status cannot have a value accepted that Vault does not hold, nor lose the key."""
    key = await tenant.key("acme-shop")
    pod = await tenant.pod()
    await tenant.stack.kubectl(
        "patch", "apikey", "acme-shop", "-n", tenant.namespace, "--subresource=status", "--type=merge",
        "-p", json.dumps({"status": {"versions": []}}),
    )  # fmt: skip
    await tenant.ready("akey", "acme-shop")

    async def recorded() -> bool:
        return bool((await tenant.get("akey", "acme-shop"))["status"].get("versions"))

    await eventually(recorded, "the versions stand in the status again")
    current = await tenant.key("acme-shop")
    assert (await tenant.send(pod, current)).status == ACCEPTED
    assert (await tenant.send(pod, key)).status == ACCEPTED
