"""What `sendward vault bootstrap` does, step by step; each reads first and writes only a difference."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import hvac
import requests
import typer
from hvac import exceptions

from sendward.cli.vault_policy import OPERATOR_POLICY, operator_policy
from sendward.names import PKI_ROLE

_KV_CONFIG: Mapping[str, Any] = {"cas_required": True, "max_versions": 16}
_MAX_LEASE = "87600h"  # the root CA's ten years; certificates are bounded by the role
_PKI_ROLE_CONFIG: Mapping[str, Any] = {
    "allow_any_name": True,  # gateways name their own hosts
    "allow_wildcard_certificates": True,
    "allow_ip_sans": False,
    "require_cn": False,  # names above 64 characters stand in the SANs only
    "server_flag": True,
    "client_flag": False,
    "key_type": "ec",
    "key_bits": 256,
    "key_usage": ["DigitalSignature"],
    "max_ttl": 90 * 86400,
}
_TOKEN: Mapping[str, Any] = {
    "token_policies": [OPERATOR_POLICY],
    "token_no_default_policy": True,
    "token_ttl": 3600,
    "token_max_ttl": 86400,
}
_UPGRADE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What the administrator asked for. `pki_mount` is "" without PKI; mounts carry no slashes around."""

    kv_mount: str
    pki_mount: str
    auth: str
    auth_mount: str
    role: str
    service_account: str
    namespace: str
    audience: str
    issuer: str
    jwt_public_key: str
    oidc_discovery_url: str
    dry_run: bool


def run(settings: Settings) -> None:
    """All steps, each printed. Exits with 4 when Vault does not answer or refuses."""
    with _faults():
        _Bootstrap(hvac.Client(), settings).run()


class _Bootstrap:
    def __init__(self, client: hvac.Client, settings: Settings) -> None:
        self._client = client
        self._settings = settings

    def run(self) -> None:
        settings = self._settings
        self._mount("secrets", settings.kv_mount, {"type": "kv", "options": {"version": "2"}})
        self._settle("KV settings", f"{settings.kv_mount}/config", _KV_CONFIG, mount=settings.kv_mount)
        if settings.pki_mount:
            self._pki(settings.pki_mount)
        self._policy()
        self._auth()

    def _pki(self, mount: str) -> None:
        self._mount("secrets", mount, {"type": "pki", "config": {"max_lease_ttl": _MAX_LEASE}})
        issuers = self._read(f"{mount}/config/issuers", mount)
        if issuers and issuers.get("default"):
            _say("PKI root CA", mount, "unchanged")
        else:
            root = {
                "common_name": "Sendward gateways",
                "ttl": _MAX_LEASE,
                "key_type": "ec",
                "key_bits": 256,
            }
            self._do(
                "PKI root CA", mount, "created", lambda: self._write(f"{mount}/root/generate/internal", root)
            )
        self._settle("PKI role", f"{mount}/roles/{PKI_ROLE}", _PKI_ROLE_CONFIG, mount=mount)

    def _policy(self) -> None:
        path = f"sys/policies/acl/{OPERATOR_POLICY}"
        wanted = operator_policy(self._settings.kv_mount, self._settings.pki_mount)
        self._settle("policy", path, {"policy": wanted}, shown=OPERATOR_POLICY)

    def _auth(self) -> None:
        settings = self._settings
        base = f"auth/{settings.auth_mount}"
        self._mount("auth", settings.auth_mount, {"type": settings.auth})
        if settings.auth == "jwt":
            config: dict[str, Any] = {"bound_issuer": settings.issuer}
            if settings.oidc_discovery_url:
                config["oidc_discovery_url"] = settings.oidc_discovery_url
            else:
                config["jwt_validation_pubkeys"] = [settings.jwt_public_key.strip()]
            subject = f"system:serviceaccount:{settings.namespace}:{settings.service_account}"
            role: dict[str, Any] = {
                "role_type": "jwt",
                "user_claim": "sub",
                "bound_subject": subject,
                "bound_audiences": [settings.audience],
            }
        else:
            # Vault runs in the cluster and has its own service account review the tokens.
            config = {"kubernetes_host": "https://kubernetes.default.svc"}
            role = {
                "bound_service_account_names": [settings.service_account],
                "bound_service_account_namespaces": [settings.namespace],
                "audience": settings.audience,
            }
        self._settle(f"{settings.auth} settings", f"{base}/config", config, mount=base)
        self._settle("role", f"{base}/role/{settings.role}", {**role, **_TOKEN}, mount=base)

    def _mount(self, what: str, path: str, wanted: Mapping[str, Any]) -> None:
        table = "sys/auth" if what == "auth" else "sys/mounts"
        mounted = (self._read(table) or {}).get(f"{path}/")
        if mounted is None:
            self._do(f"{what} mount", path, "created", lambda: self._write(f"{table}/{path}", wanted))
        elif mounted["type"] != wanted["type"] or (
            wanted["type"] == "kv" and (mounted.get("options") or {}).get("version") != "2"
        ):
            _stop(f"{path} is mounted already, as another engine ({mounted['type']}). Choose another mount.")
        else:
            _say(f"{what} mount", path, "unchanged")

    def _settle(
        self, what: str, path: str, wanted: Mapping[str, Any], *, mount: str = "", shown: str = ""
    ) -> None:
        """Write `wanted` unless everything in it already reads so."""
        current = self._read(path, mount)
        if current is not None and all(_same(current.get(key), value) for key, value in wanted.items()):
            _say(what, shown or path, "unchanged")
            return
        # Vault answers for the settings of a fresh mount too; those were never written.
        fresh = current is None or not any(current.values())
        self._do(what, shown or path, "created" if fresh else "changed", lambda: self._write(path, wanted))

    def _do(self, what: str, name: str, result: str, action: Callable[[], None]) -> None:
        if self._settings.dry_run:
            _say(what, name, f"would be {result}")
            return
        action()
        _say(what, name, result)

    def _read(self, path: str, mount: str = "") -> dict[str, Any] | None:
        """The data at a path; None when there is none, or when a dry run did not make its mount."""
        try:
            answer = self._patiently(lambda: self._client.read(path))
        except exceptions.InvalidPath:
            return None
        except (exceptions.InvalidRequest, exceptions.Forbidden):
            # Both are said of paths without a mount; `mount` is absent only in a dry run.
            if self._settings.dry_run and mount and not self._is_mounted(mount):
                return None
            raise
        return dict(answer["data"]) if answer else None

    def _is_mounted(self, mount: str) -> bool:
        table, path = ("sys/auth", mount[5:]) if mount.startswith("auth/") else ("sys/mounts", mount)
        return f"{path}/" in (self._read(table) or {})

    def _write(self, path: str, data: Mapping[str, Any]) -> None:
        self._patiently(lambda: self._client.write_data(path, data=dict(data)))

    def _patiently(self, call: Callable[[], Any]) -> Any:
        """A KV mount refuses for a moment after it was made, while it upgrades itself to version 2."""
        deadline = time.monotonic() + _UPGRADE_SECONDS
        while True:
            try:
                return call()
            except exceptions.InvalidRequest as error:
                if "Upgrading from non-versioned" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)


def _same(current: object, wanted: object) -> bool:
    if isinstance(current, list) and isinstance(wanted, list):
        return sorted(map(str, current)) == sorted(map(str, wanted))
    if isinstance(current, str) and isinstance(wanted, str):
        return current.strip() == wanted.strip()
    return current == wanted


def _say(what: str, name: str, result: str) -> None:
    typer.echo(f"{what:<16} {name:<40} {result}")


def _stop(message: str) -> None:
    typer.echo(message, err=True)
    raise typer.Exit(1)


@contextmanager
def _faults() -> Iterator[None]:
    """Vault's faults as one sentence and exit code 4. hvac's text names paths, never what was written."""
    try:
        yield
    except requests.exceptions.RequestException as error:
        typer.echo(f"Vault cannot be reached at $VAULT_ADDR: {type(error).__name__}.", err=True)
    except exceptions.Forbidden:
        typer.echo("Vault refused: $VAULT_TOKEN must be an administrator's token.", err=True)
    except exceptions.VaultError as error:
        typer.echo(f"Vault answered: {' '.join(str(error).split())}", err=True)
    else:
        return
    raise typer.Exit(4)
