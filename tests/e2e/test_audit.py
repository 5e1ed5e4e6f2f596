"""What was done with which right, read from the audit logs of the API server and Vault.

First one tenant acts beside another one; then all that happened since the installation is judged, so
these tests come after the others.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

import pytest
import pytest_asyncio

from sendward import names
from sendward.cli.vault_policy import OPERATOR_POLICY, operator_policy
from sendward.manifests.install import install, onboard
from sendward.manifests.options import InstallOptions, VaultOptions
from tests.e2e.support import Record, Tenant, new_tenant
from tests.lab.audit import Call, VaultCall, calls, size, vault_calls
from tests.lab.stack import SYSTEM, Object, Stack, eventually
from tests.unit.manifests.rights import (
    CLUSTER,
    ONBOARDED,
    OPERATOR,
    OWN,
    VAULT_RIGHTS,
    WEBHOOK,
    Atom,
    atoms_of,
    explained,
    seldom,
)

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="session")]

PREFIX: Final = f"system:serviceaccount:{SYSTEM}:"
OURS: Final = {f"{PREFIX}{OPERATOR}": OPERATOR, f"{PREFIX}{WEBHOOK}": WEBHOOK}
UID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
KEY_PATH: Final = re.compile(rf"sendward/(?:data|metadata|destroy)/({UID})/({UID})")
SWEEP: Final = re.compile(rf"sendward/metadata/({UID})/")
LOGIN: Final = "auth/jwt/login"
CREATED: Final = 201
FOLLOWING: Final = {"list", "watch"}  # of objects with our label; they are repeated every few minutes


# --- two tenants, of which one acts ---------------------------------------------------------------


@dataclass
class Window:
    """What happened while one tenant acted. `keys`: uids of all its keys."""

    actor: str
    actor_uid: str
    bystander: str
    bystander_uid: str
    keys: set[str]
    calls: list[Call] = field(default_factory=list)
    vault: list[VaultCall] = field(default_factory=list)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def window(stack: Stack, record: Record) -> AsyncIterator[Window]:
    async with AsyncExitStack() as exits:
        actor, bystander = await asyncio.gather(
            exits.enter_async_context(new_tenant(stack, record, address="10.123.202.7", label="actor")),
            exits.enter_async_context(new_tenant(stack, record, address="10.123.202.8", label="bystander")),
        )
        await _silence(stack)
        found = Window(actor.namespace, await _uid(actor), bystander.namespace, await _uid(bystander), set())
        api_log, vault_log = stack.lab.audit_log, stack.lab.vault_audit_log
        before = size(api_log), size(vault_log)
        found.keys = await _act(actor)
        await _silence(stack)
        found.calls, found.vault = calls(api_log, before[0]), vault_calls(vault_log, before[1])
        yield found


async def _uid(tenant: Tenant) -> str:
    text = await tenant.stack.kubectl("get", "namespace", tenant.namespace, "-o", "json")
    return str(json.loads(text)["metadata"]["uid"])


async def _silence(stack: Stack) -> None:
    """Until the operator has asked for nothing but its Lease for a while."""
    loop = asyncio.get_running_loop()
    read, since = size(stack.lab.audit_log), loop.time()

    async def quiet() -> bool:
        nonlocal read, since
        end = size(stack.lab.audit_log)
        if any(c.user in OURS and c.resource != "leases" for c in calls(stack.lab.audit_log, read)):
            since = loop.time()
        read = end
        return loop.time() - since >= 3

    await eventually(quiet, "the operator is quiet", every=0.5)


async def _act(tenant: Tenant) -> set[str]:
    """Everything that an owner of accounts does, so that every right is used; uids of the keys."""
    await tenant.apply(
        _object("SenderAccount", "busy", gateways=["sms"], policies={"apiKey": "globex"}),
        _object("APIKey", "busy-key", account="busy"),
    )
    await tenant.ready("akey", "busy-key")
    keys = {str(key["metadata"]["uid"]) for key in await tenant.stack.listing("akey", tenant.namespace)}
    await tenant.patch("akey", "busy-key", {"spec": {"rotateNonce": "one"}})
    await _until_version(tenant, 2)
    await tenant.patch("akey", "busy-key", {"spec": {"revokeThrough": 2}})
    await tenant.until_condition("akey", "busy-key", "Revoked", "True")
    await _until_version(tenant, 3)
    await tenant.delete("secret", names.hand_over_secret("busy-key"))

    async def handed_over() -> bool:
        return await tenant.find("secret", names.hand_over_secret("busy-key")) is not None

    await eventually(handed_over, "the hand-over is back")
    await tenant.patch("mrl", "standard", {"spec": {"account": [{"messages": 7, "per": "1s"}]}})
    await tenant.ready("mrl", "standard")
    await tenant.patch("sender", "busy", {"spec": {"suspend": True}})
    await tenant.ready("sender", "busy")
    await _second_gateway(tenant)
    await tenant.delete("akey", "busy-key")
    await tenant.delete("sender", "busy")
    return keys


async def _until_version(tenant: Tenant, number: int) -> None:
    async def recorded() -> bool:
        versions = (await tenant.get("akey", "busy-key"))["status"].get("versions", [])
        return any(version["number"] == number for version in versions)

    await eventually(recorded, f"version {number}")


async def _second_gateway(tenant: Tenant) -> None:
    """With a certificate that the user keeps; then it is deleted."""
    pair = tenant.stack.lab.ca.issue("kept", "kept", names=("kept.example",))
    await tenant.stack.kubectl(
        "create",
        "secret",
        "tls",
        "kept",
        "-n",
        tenant.namespace,
        f"--cert={pair.certificate}",
        f"--key={pair.key}",
    )
    spec = (await tenant.get("mgw", "sms"))["spec"]
    await tenant.apply(_object("MessagingGateway", "second", **{**spec, "tls": {"secretName": "kept"}}))
    await tenant.until_condition("mgw", "second", "ResolvedRefs", "True")
    await tenant.delete("mgw", "second")


def _object(kind: str, name: str, **spec: Any) -> Object:
    return {"apiVersion": names.API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


async def test_work_for_one_tenant_touches_no_other_namespace(window: Window) -> None:
    """Of the other one nothing is read or written; of what we own there, changes are followed."""
    by_us = [call for call in window.calls if call.user in OURS]
    verbs = {call.verb for call in by_us if call.namespace == window.actor}
    assert verbs >= {"create", "patch", "delete", "get"}
    elsewhere = [
        c for c in by_us if c.verb not in FOLLOWING and c.namespace not in (window.actor, SYSTEM, "")
    ]
    assert [str(call) for call in elsewhere] == []
    assert [str(call) for call in by_us if call.name in (window.bystander, window.bystander_uid)] == []


async def test_work_for_one_tenant_touches_only_its_own_keys_in_vault(window: Window) -> None:
    """But for the comparison with Vault, which comes by the clock: it lists a namespace, and reads."""
    by_us = [call for call in window.vault if call.policies == (OPERATOR_POLICY,)]
    paths = [call.path for call in by_us]
    compared = {match[1] for path in paths if (match := SWEEP.fullmatch(path))}
    touched = {
        match.groups()
        for call in by_us
        if (match := KEY_PATH.fullmatch(call.path)) and (call.operation != "read" or match[1] not in compared)
    }
    assert touched
    assert touched <= {(window.actor_uid, key) for key in window.keys}
    rest = {path for path in paths if not KEY_PATH.fullmatch(path) and not SWEEP.fullmatch(path)}
    assert rest <= {"sys/tools/random", "sendward-pki/issue/gateways", "auth/token/renew-self", LOGIN}


# --- all that happened since the installation -------------------------------------------------------


@pytest.fixture(scope="module")
def everything(stack: Stack, window: Window) -> list[Call]:
    assert window.calls  # the others' and ours
    return calls(stack.lab.audit_log)


@pytest.fixture(scope="module")
def in_vault(stack: Stack, window: Window) -> list[VaultCall]:
    assert window.vault
    return vault_calls(stack.lab.vault_audit_log)


def _onboarded(everything: Iterable[Call]) -> set[str]:
    """Namespaces in which an administrator gave the operator its rights."""
    return {
        call.namespace
        for call in everything
        if call.user not in OURS and (call.resource, call.name) == ("rolebindings", OPERATOR)
    } - {SYSTEM}


def _right(call: Call, onboarded: set[str]) -> Atom | None:
    """The right of the table that allows a call; the narrowest one."""
    who = OURS[call.user]
    places = [OWN] if call.namespace == SYSTEM else [ONBOARDED] if call.namespace in onboarded else []
    for where in [*places, CLUSTER]:
        for name in (call.name, ""):
            atom = Atom(who, where, call.group, call.resource, call.verb, name)
            if atom in explained():
                return atom
    return None


LAG: Final = timedelta(seconds=30)  # the API server learns of a RoleBinding by a watch of its own
# What every client of an API server may ask: which versions and kinds it serves.
DISCOVERY: Final = re.compile(r"/api|/apis|/api/v1|/apis/[a-z0-9.]+(/v[0-9a-z]+)?|/version")


async def test_every_request_is_one_that_the_table_of_rights_explains(everything: list[Call]) -> None:
    onboarded = _onboarded(everything)
    by_us = [call for call in everything if call.user in OURS and not call.refused]
    unknown = [c for c in by_us if _right(c, onboarded) is None and not DISCOVERY.fullmatch(c.path)]
    assert [str(call) for call in unknown] == []


async def test_nothing_was_refused_but_where_the_rights_were_not_there(everything: list[Call]) -> None:
    """A namespace is labelled before it gets its RoleBinding, and when it ends the Role may go first."""
    given: dict[str, datetime] = {}
    refused = []
    for call in sorted(everything, key=lambda call: call.at):
        if call.user not in OURS:
            if call.verb == "delete":
                given.pop(call.name if call.resource == "namespaces" else call.namespace, None)
            elif call.resource == "rolebindings":
                given.setdefault(call.namespace, call.at)
        elif call.refused and (not call.namespace or call.at > given.get(call.namespace, call.at) + LAG):
            refused.append(str(call))
    assert refused == []


async def test_nobody_else_of_ours_calls_the_api_server(stack: Stack, everything: list[Call]) -> None:
    """Guards, proxies and applications have tokens, and use them for the hub alone."""
    users = {call.user for call in everything}
    assert users - OURS.keys() <= {"lab-admin"}
    assert users >= OURS.keys()


async def test_secrets_are_followed_in_onboarded_namespaces_by_our_label(everything: list[Call]) -> None:
    onboarded = _onboarded(everything)
    followed = [c for c in everything if c.user in OURS and c.resource == "secrets" and c.verb in FOLLOWING]
    assert followed
    assert {call.namespace for call in followed} <= onboarded
    assert all(f"{names.LABEL_MANAGED_BY}=sendward" in call.selector for call in followed)
    pods = [c for c in everything if c.user in OURS and c.resource == "pods"]
    assert {call.selector for call in pods} == {names.LABEL_GATEWAY}


async def test_the_webhook_looks_up_gateways_and_its_parameters(everything: list[Call]) -> None:
    asked = {
        (c.verb, c.resource, c.name if c.namespace == SYSTEM else "")
        for c in everything
        if OURS.get(c.user) == WEBHOOK
    }
    assert asked == {("get", "messaginggateways", ""), ("get", "configmaps", names.CONFIGMAP_PARAMETERS)}


async def test_every_right_was_used_or_is_one_for_faults(everything: list[Call]) -> None:
    """What nobody uses is not given."""
    onboarded = _onboarded(everything)
    used = Counter(
        right
        for call in everything
        if call.user in OURS and not call.refused
        for verb in ((call.verb, "create") if _made_by_apply(call) else (call.verb,))
        if (right := _right(replace(call, verb=verb), onboarded)) is not None
    )
    for right in sorted(explained()):
        what = f"{right.group}/{right.resource} {right.name}".strip("/ ")
        print(f"{used[right]:6} {right.who:18} {right.where:20} {right.verb:6} {what}")
    assert {str(right) for right in explained() - used.keys() - seldom()} == set()


def _made_by_apply(call: Call) -> bool:
    """Server-side apply of what was not there: the API server asks for `create` too."""
    return call.verb == "patch" and call.code == CREATED


async def test_vault_was_asked_for_keys_by_their_uids_only(in_vault: list[VaultCall]) -> None:
    """Each path is computed from UIDs, and no key is ever looked for under two namespaces."""
    by_us = [call for call in in_vault if call.policies == (OPERATOR_POLICY,)]
    assert {call.who for call in by_us} == {f"jwt-{PREFIX}{OPERATOR}"}
    place_of: dict[str, str] = {}
    used: set[tuple[str, str]] = set()
    for call in (call for call in by_us if call.path != LOGIN):
        if match := KEY_PATH.fullmatch(call.path):
            assert place_of.setdefault(match[2], match[1]) == match[1]
        right = _vault_right(call.path)
        assert right is not None, call
        used.add((right, call.operation))
    for path, operation in sorted(used):
        print(f"{operation:7} {path}")
    given = {(r.path, one) for r in VAULT_RIGHTS for one in r.capabilities.split()}
    rarely = {(r.path, one) for r in VAULT_RIGHTS for one in r.seldom.split()}
    assert used <= given
    assert given - used - rarely == set()


def _vault_right(path: str) -> str | None:
    for right in VAULT_RIGHTS:
        if re.fullmatch(right.path.replace("+", UID), path):
            return right.path
    return None


async def test_vault_refused_the_operator_nothing(in_vault: list[VaultCall]) -> None:
    refused = [call for call in in_vault if call.policies == (OPERATOR_POLICY,) and "denied" in call.error]
    assert refused == []


# --- what is in force is what is printed ------------------------------------------------------------


async def test_the_rights_in_the_api_server_are_the_printed_ones(stack: Stack, window: Window) -> None:
    printed = install(InstallOptions(vault=VaultOptions(address=stack.lab.vault_address)))
    for namespace in (window.actor, window.bystander):
        printed += onboard(namespace, SYSTEM)
    wanted = {_identity(obj): _content(obj) for obj in printed if "Role" in obj["kind"]}
    kinds = "roles,rolebindings,clusterroles,clusterrolebindings"
    stored = await stack.listing(kinds, "")
    found = {_identity(obj): _content(obj) for obj in stored}
    assert {name: found[name] for name in wanted} == wanted
    bindings = [obj for obj in stored if obj["kind"].endswith("Binding")]
    ours = [obj for obj in bindings if any(s.get("namespace") == SYSTEM for s in obj.get("subjects", []))]
    assert {_identity(obj) for obj in ours} == {name for name in wanted if name[0].endswith("Binding")}
    assert atoms_of([obj for obj in stored if _identity(obj) in wanted], ours) == explained()
    everybody = {"system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{SYSTEM}"}
    by_group = {
        obj["metadata"]["name"]
        for obj in bindings
        if any(s["kind"] == "Group" and s["name"] in everybody for s in obj.get("subjects", []))
    }
    assert by_group == BUILT_IN


# Kubernetes' own: what is served, who am I, and the issuer's public keys.
_BUILT_IN = "basic-user", "discovery", "public-info-viewer", "service-account-issuer-discovery"
BUILT_IN: Final = {f"system:{name}" for name in _BUILT_IN}


def _identity(obj: Object) -> tuple[str, str, str]:
    return obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _content(obj: Object) -> Object:
    return {part: obj[part] for part in ("rules", "subjects", "roleRef") if part in obj}


async def test_the_rights_in_vault_are_the_printed_ones(stack: Stack) -> None:
    policy = await stack.vault_get(f"sys/policies/acl/{OPERATOR_POLICY}")
    assert policy["data"]["policy"].strip() == operator_policy("sendward", "sendward-pki").strip()
    role = (await stack.vault_get("auth/jwt/role/sendward-operator"))["data"]
    assert role["token_policies"] == [OPERATOR_POLICY]
    assert role["token_no_default_policy"] is True
    assert role["bound_subject"] == f"{PREFIX}{OPERATOR}"
    assert role["bound_audiences"] == [names.AUDIENCE_VAULT]


async def test_the_processes_run_under_the_shipped_accounts(stack: Stack, window: Window) -> None:
    """Operator and webhook under theirs; the guard's container sees no token of the API server."""
    for component, account in (("operator", OPERATOR), ("webhook", WEBHOOK)):
        for pod in await stack.pods(SYSTEM, f"app.kubernetes.io/component={component}"):
            assert pod["spec"]["serviceAccountName"] == account
    for pod in await stack.pods(window.actor, names.LABEL_GATEWAY):
        guard = next(c for c in pod["spec"]["initContainers"] if c["name"] == names.GUARD_CONTAINER)
        mounts = {mount["mountPath"]: mount["name"] for mount in guard["volumeMounts"]}
        assert mounts[names.PATH_NO_API] == names.VOLUME_NO_API
        volume = next(v for v in pod["spec"]["volumes"] if v["name"] == names.VOLUME_TOKEN)
        sources = volume["projected"]["sources"]
        assert [source["serviceAccountToken"]["audience"] for source in sources] == [names.AUDIENCE]
