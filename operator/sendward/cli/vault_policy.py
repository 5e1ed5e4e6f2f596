"""The Vault policies: the operator's own, and those of consumers. Pure text."""

from __future__ import annotations

from collections.abc import Mapping

from sendward.names import PKI_ROLE, key_path

OPERATOR_POLICY = "sendward-operator"


def operator_policy(kv_mount: str, pki_mount: str) -> str:
    """Least privilege: no right on policies, auth methods, mounts or other paths. "" for no PKI."""
    rules = [
        ("Key values: one path per key, computed from UIDs.", f"{kv_mount}/data/+/+", "create update read"),
        ("The end of a deleted key.", f"{kv_mount}/metadata/+/+", "delete"),
        ("Which keys of a namespace are there.", f"{kv_mount}/metadata/+/", "list"),
        ("Retired and revoked versions.", f"{kv_mount}/destroy/+/+", "update"),
        ("Secrets of new keys are drawn by Vault.", "sys/tools/random", "update"),
        ("Its own token.", "auth/token/renew-self", "update"),
        ("The same.", "auth/token/lookup-self", "read"),
    ]
    if pki_mount:
        rules.append(("Server certificates of gateways.", f"{pki_mount}/issue/{PKI_ROLE}", "update"))
    return "\n".join(_rule(*rule) for rule in rules)


def consumer_policy(kv_mount: str, account: str, namespace_uid: str, keys: Mapping[str, str]) -> str:
    """Read the values of these keys (uid by name) and nothing else."""
    return "\n".join(
        _rule(f"Key {name} of account {account}.", f"{kv_mount}/data/{key_path(namespace_uid, uid)}", "read")
        for name, uid in sorted(keys.items())
    )


def _rule(comment: str, path: str, capabilities: str) -> str:
    listed = ", ".join(f'"{one}"' for one in capabilities.split())
    return f'# {comment}\npath "{path}" {{\n  capabilities = [{listed}]\n}}\n'
