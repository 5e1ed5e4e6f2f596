"""`sendward vault`: the policies as text, and `bootstrap` against a real Vault."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sendward.apply import kinds
from sendward.cli.vault import app
from sendward.cli.vault_policy import consumer_policy, operator_policy
from tests.apply.administrator import run_bootstrap
from tests.fakes.kube import FakeKube
from tests.lab.provider import Servers
from tests.unit.cli.test_keys import api_key, kubeconfig

OPERATOR = """\
# Key values: one path per key, computed from UIDs.
path "sendward/data/+/+" {
  capabilities = ["create", "update", "read"]
}

# The end of a deleted key.
path "sendward/metadata/+/+" {
  capabilities = ["delete"]
}

# Which keys of a namespace are there.
path "sendward/metadata/+/" {
  capabilities = ["list"]
}

# Retired and revoked versions.
path "sendward/destroy/+/+" {
  capabilities = ["update"]
}

# Secrets of new keys are drawn by Vault.
path "sys/tools/random" {
  capabilities = ["update"]
}

# Its own token.
path "auth/token/renew-self" {
  capabilities = ["update"]
}

# The same.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
"""
PKI = """
# Server certificates of gateways.
path "sendward-pki/issue/gateways" {
  capabilities = ["update"]
}
"""


def test_the_operator_s_policy() -> None:
    assert operator_policy("sendward", "") == OPERATOR
    assert operator_policy("sendward", "sendward-pki") == OPERATOR + PKI


def test_a_consumer_s_policy_names_paths_of_its_keys_only() -> None:
    assert consumer_policy("sendward", "acme", "ns-uid", {"b": "uid-b", "a": "uid-a"}) == (
        "# Key a of account acme.\n"
        'path "sendward/data/ns-uid/uid-a" {\n'
        '  capabilities = ["read"]\n'
        "}\n"
        "\n"
        "# Key b of account acme.\n"
        'path "sendward/data/ns-uid/uid-b" {\n'
        '  capabilities = ["read"]\n'
        "}\n"
    )


async def test_policy_looks_the_uids_up(tmp_path: Path) -> None:
    async with FakeKube() as fake:
        place = fake.put(kinds.NAMESPACE, {"metadata": {"name": "sms"}})["metadata"]["uid"]
        uids = {
            name: fake.put(kinds.API_KEY, api_key(name, account))["metadata"]["uid"]
            for name, account in (("one", "acme"), ("two", "acme"), ("foreign", "other"))
        }
        path = kubeconfig(tmp_path, fake.url)

        async def run(*options: str) -> Result:
            arguments = ["policy", "acme", "-n", "sms", "--kubeconfig", str(path), *options]
            return await asyncio.to_thread(CliRunner().invoke, app, arguments)

        both, one, none = await run(), await run("--key", "one"), await run("--key", "foreign")
    wanted = {name: uids[name] for name in ("one", "two")}
    assert both.stdout == consumer_policy("sendward", "acme", place, wanted)
    assert one.stdout == consumer_policy("sendward", "acme", place, {"one": uids["one"]})
    assert (none.exit_code, none.stdout) == (1, "")
    assert none.stderr == "Account 'acme' has no APIKey 'foreign' in namespace 'sms'.\n"


def test_jwt_needs_one_source_of_keys(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["bootstrap"])
    assert result.exit_code == 2
    unreadable = CliRunner().invoke(app, ["bootstrap", "--jwt-public-key", str(tmp_path / "none")])
    assert unreadable.exit_code == 3


def test_no_vault_is_one_line() -> None:
    environment = {"VAULT_ADDR": "http://127.0.0.1:1", "VAULT_TOKEN": "t"}
    arguments = ["bootstrap", "--oidc-discovery-url", "https://kubernetes.example"]
    result = CliRunner().invoke(app, arguments, env=environment)
    assert result.exit_code == 4
    assert re.fullmatch(r"Vault cannot be reached at \$VAULT_ADDR: \w+\.\n", result.stderr)


def steps(result: Result) -> list[tuple[str, str]]:
    assert result.exit_code == 0, result.output
    found = [re.split(r"\s{2,}", line) for line in result.stdout.splitlines()]
    return [(f"{what} {name}", done) for what, name, done in found]


NEW = ["--kv-mount=trial", "--pki-mount=trial-pki", "--auth-mount=trial-jwt"]
STEPS = [
    "secrets mount trial",
    "KV settings trial/config",
    "secrets mount trial-pki",
    "PKI root CA trial-pki",
    "PKI role trial-pki/roles/gateways",
    "policy sendward-operator",
    "auth mount trial-jwt",
    "jwt settings auth/trial-jwt/config",
    "role auth/trial-jwt/role/sendward-operator",
]


@pytest.mark.lab
def test_bootstrap_is_idempotent_and_a_dry_run_changes_nothing(vault_server: Servers) -> None:
    dry = steps(run_bootstrap(vault_server, *NEW, "--dry-run"))
    assert [what for what, _ in dry] == STEPS
    assert {done for _, done in dry} <= {"would be created", "would be changed"}
    first = steps(run_bootstrap(vault_server, *NEW))
    assert [what for what, _ in first] == STEPS
    assert {done for _, done in first} <= {"created", "changed"}
    assert steps(run_bootstrap(vault_server, *NEW)) == [(what, "unchanged") for what in STEPS]
    assert steps(run_bootstrap(vault_server, *NEW, "--dry-run")) == [(what, "unchanged") for what in STEPS]
    moved = dict(steps(run_bootstrap(vault_server, *NEW, "--service-account=another")))
    assert {what for what, done in moved.items() if done == "changed"} == {STEPS[-1]}


@pytest.mark.lab
def test_a_mount_of_another_kind_is_left_alone(vault_server: Servers) -> None:
    result = run_bootstrap(vault_server, "--kv-mount=sys")
    assert result.exit_code == 1
    assert "mounted already" in result.stderr


@pytest.mark.lab
def test_a_wrong_token_is_one_line(vault_server: Servers) -> None:
    result = run_bootstrap(vault_server, token="nonsense")
    assert result.exit_code == 4
    assert result.stderr == "Vault refused: $VAULT_TOKEN must be an administrator's token.\n"
