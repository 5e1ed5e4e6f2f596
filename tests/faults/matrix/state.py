"""The end state of a run, freed of times, ids and names, so that two runs can be compared."""

from __future__ import annotations

import json
from base64 import b64decode
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from sendward import document, keyformat, names
from sendward.apply import kinds
from sendward.controller.keysteps import ANNOTATION_VERSION
from tests.faults.matrix import objects
from tests.faults.matrix.subject import Subject
from tests.faults.proxy_calls import Call

Object = dict[str, Any]
_PAGE = 500


async def end_state(subject: Subject) -> Object:
    """What there is of the subject, everywhere. Holds no key value: of a value only whether it fits."""
    view = await subject.view()
    values = await _values(subject)
    secrets = await _all(subject, kinds.SECRET)
    policies = await _all(subject, kinds.NETWORK_POLICY)
    found = {
        "key": _key(view.key, subject),
        "account": _common(view.account),
        "gateway": _common(view.gateway),
        "vault": await _vault(subject),
        "document": _document(secrets, subject, values),
        "hand-over": _hand_over(secrets, view.key, subject, values),
        "secrets": sorted(secret["metadata"]["name"] for secret in secrets),
        "network policies": {policy["metadata"]["name"]: policy["spec"] for policy in policies},
    }
    renamed: Object = json.loads(json.dumps(found).replace(subject.name, "NAME"))
    return renamed


def changes(calls: Iterable[Call]) -> dict[str, int]:
    """How many objects were created and deleted, and versions written, by kind.

    Calls that have no effect when they are repeated are left out: the end state shows what they did.
    """
    made: Counter[str] = Counter()
    for call in calls:
        if call.server == "kube" and call.status == 201:
            made[f"create {call.kind}"] += 1
        elif call.server == "kube" and call.method == "DELETE" and 200 <= call.status < 300:
            made[f"delete {call.kind}"] += 1
        elif call.kind == "data" and call.status == 200:
            made["write version"] += 1
    return dict(sorted(made.items()))


def differences(expected: object, found: object, path: str = "") -> Iterator[str]:
    """Where two states differ, one sentence each."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted({*expected, *found}):
            yield from differences(expected.get(key), found.get(key), f"{path}.{key}" if path else key)
    elif expected != found:
        yield f"{path}: {json.dumps(found)} instead of {json.dumps(expected)}"


def _common(obj: Object | None) -> Object | None:
    if obj is None:
        return None
    meta, status = obj["metadata"], obj.get("status") or {}
    conditions = {
        c["type"]: [c["status"], c["reason"], c["observedGeneration"]] for c in status.get("conditions", [])
    }
    return {
        "generation": meta["generation"],
        "observedGeneration": status.get("observedGeneration"),
        "finalizers": meta.get("finalizers", []),
        "deleting": "deletionTimestamp" in meta,
        "conditions": conditions,
    }


def _key(obj: Object | None, subject: Subject) -> Object | None:
    shown = _common(obj)
    if obj is None or shown is None:
        return None
    status = obj.get("status") or {}
    versions = [
        {
            "number": v["number"],
            "state": v["state"],
            "vaultVersion": v["vaultVersion"],
            "destroyed": v.get("destroyed", False),
            "retires": "retireAt" in v,
            "ended": "endedAt" in v,
        }
        for v in status.get("versions", [])
    ]
    return shown | {
        "versions": versions,
        "currentVersion": status.get("currentVersion"),
        "rotateNonce": status.get("rotateNonce", ""),
        "nextRotation": "nextRotation" in status,
        "path": status.get("vaultPath") == subject.path,
        "secret": status.get("secretName", ""),
    }


async def _vault(subject: Subject) -> Object | None:
    found = await subject.bed.vault(f"sendward/metadata/{subject.path}")
    if found is None:
        return None
    return {number: "destroyed" if v["destroyed"] else "live" for number, v in found["versions"].items()}


async def _values(subject: Subject) -> dict[str, Object]:
    """What Vault holds for the key now, by version id. Never leaves this module."""
    found = await subject.bed.vault(f"sendward/metadata/{subject.path}")
    values = {}
    for number, version in (found or {}).get("versions", {}).items():
        if not version["destroyed"]:
            read = await subject.bed.vault(f"sendward/data/{subject.path}?version={number}")
            if read is not None:
                values[read["data"]["id"]] = read["data"]
    return values


async def _all(subject: Subject, kind: Any) -> list[Object]:
    selector = f"{names.LABEL_MANAGED_BY}"
    page = await subject.bed.kube.page(
        kind, namespace=objects.NAMESPACE, label_selector=selector, limit=_PAGE
    )
    return page.items


def _document(secrets: list[Object], subject: Subject, values: dict[str, Object]) -> object:
    """The account's entry; "absent" or "no document" where there is none."""
    wanted = names.document_secret(subject.gateway, "0")
    raw = next((s["data"]["document"] for s in secrets if s["metadata"]["name"] == wanted), None)
    if raw is None:
        return "no document"
    shard = document.open_shard(document.decode(b64decode(raw)))
    entry = next((account for account in shard.accounts if account.name == subject.name), None)
    if entry is None:
        return "absent"
    versions = [
        [v.number, v.revoked, v.not_after is not None, _fits(v, values)]
        for key in entry.keys
        for v in key.versions
    ]
    return {"denied": entry.denied, "keys": [[k.name, k.denied] for k in entry.keys], "versions": versions}


def _fits(version: document.Version, values: dict[str, Object]) -> bool:
    """Whether the verifier is that of the value in Vault."""
    value = values.get(version.id)
    parsed = keyformat.parse(value["key"]) if value else None
    return parsed is not None and keyformat.digest(parsed[1]) == version.digest


def _hand_over(
    secrets: list[Object], key: Object | None, subject: Subject, values: dict[str, Object]
) -> object:
    """Whether the hand-over Secret holds the current version, as Vault does."""
    wanted = names.hand_over_secret(subject.name)
    secret = next((s for s in secrets if s["metadata"]["name"] == wanted), None)
    if secret is None:
        return "absent"
    versions = (key or {}).get("status", {}).get("versions", [])
    current = next((v["id"] for v in versions if v["state"] == "Current"), "")
    value = values.get(current, {}).get("key", "")
    held = {b64decode(data).decode(errors="replace") for data in secret.get("data", {}).values()}
    return {
        "annotated": secret["metadata"].get("annotations", {}).get(ANNOTATION_VERSION) == current,
        "current": bool(value) and value in held,
    }
