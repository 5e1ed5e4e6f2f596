"""`sendward keys` against the fake API server, and once against the real one with the real definitions."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sendward.apply import kinds
from sendward.apply.kube import KubeClient
from sendward.apply.ports import Object
from sendward.cli.keys import app
from tests.fakes.kube import FakeKube
from tests.lab.provider import Servers

Run = Callable[..., Coroutine[None, None, Result]]

ISSUED: Object = {
    "observedGeneration": 1,
    "currentVersion": 2,
    "nextRotation": "2026-12-01T00:00:00Z",
    "versions": [
        {
            "number": 1,
            "id": "aaaaaaaaaa",
            "state": "Previous",
            "issuedAt": "2026-10-01T00:00:00Z",
            "vaultVersion": 1,
        },
        {
            "number": 2,
            "id": "bbbbbbbbbb",
            "state": "Current",
            "issuedAt": "2026-11-01T00:00:00Z",
            "vaultVersion": 2,
        },
    ],
}


def condition(kind: str, status: str, reason: str, generation: int) -> Object:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": "",
        "observedGeneration": generation,
        "lastTransitionTime": "2026-11-01T00:00:00Z",
    }


def api_key(name: str, account: str, status: Object | None = None) -> Object:
    key: Object = {"metadata": {"name": name, "namespace": "sms"}, "spec": {"account": account}}
    return key if status is None else {**key, "status": status}


def kubeconfig(folder: Path, url: str) -> Path:
    path = folder / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "fake",
        "clusters": [{"name": "fake", "cluster": {"server": url}}],
        "users": [{"name": "fake", "user": {"token": "t"}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake", "namespace": "sms"}}],
    }
    path.write_text(json.dumps(config))
    return path


@pytest.fixture
async def fake() -> AsyncIterator[FakeKube]:
    async with FakeKube() as server:
        yield server


@pytest.fixture
def run(fake: FakeKube, tmp_path: Path) -> Run:
    path = kubeconfig(tmp_path, fake.url)

    async def command(*arguments: str) -> Result:
        return await asyncio.to_thread(
            CliRunner().invoke, app, [*arguments, "--kubeconfig", str(path)], env={"COLUMNS": "200"}
        )

    return command


async def test_list(fake: FakeKube, run: Run) -> None:
    ready = {**ISSUED, "conditions": [condition("Ready", "True", "Ready", 1)]}
    broken = {"observedGeneration": 1, "conditions": [condition("Ready", "False", "NotFound", 1)]}
    fake.put(kinds.API_KEY, api_key("production", "acme", ready))
    fake.put(kinds.API_KEY, api_key("staging", "acme"))
    fake.put(kinds.API_KEY, api_key("lost", "nobody", broken))
    result = await run("list")
    assert result.stdout == (
        "NAMESPACE  NAME        ACCOUNT  CURRENT         VERSIONS               NEXT ROTATION         READY\n"
        "sms        lost        nobody   -               -                      -                     "
        "False (NotFound)\n"
        "sms        production  acme     2 (bbbbbbbbbb)  1 Previous, 2 Current  2026-12-01T00:00:00Z  True\n"
        "sms        staging     acme     -               -                      -                     "
        "Unknown\n"
    )
    only = await run("list", "-A", "--account", "nobody")
    assert [line.split()[1] for line in only.stdout.splitlines()] == ["NAME", "lost"]


async def test_list_of_nothing(run: Run) -> None:
    result = await run("list")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No API keys.\n")


async def test_revoke_covers_every_issued_version_and_waits_for_the_sidecars(
    fake: FakeKube, run: Run
) -> None:
    fake.put(kinds.API_KEY, api_key("production", "acme", ISSUED))
    revoking = asyncio.create_task(run("revoke", "production"))
    async with asyncio.timeout(20):
        while "revokeThrough" not in fake.objects(kinds.API_KEY)[0]["spec"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    key = fake.objects(kinds.API_KEY)[0]
    assert key["spec"]["revokeThrough"] == 2
    key["status"]["conditions"] = [condition("Revoked", "True", "Revoked", 2)]
    fake.put(kinds.API_KEY, key)
    result = await revoking
    assert result.exit_code == 0
    assert re.fullmatch(
        r"APIKey production: revoking all versions up to 2\.\n"
        r"Revoked: every sidecar acknowledged it, \d+\.\d\d s after the change\.\n",
        result.stdout,
    )


async def test_an_older_acknowledgement_does_not_count(fake: FakeKube, run: Run) -> None:
    stale = {**ISSUED, "conditions": [condition("Revoked", "True", "Revoked", 1)]}
    fake.put(kinds.API_KEY, api_key("production", "acme", stale))
    result = await run("revoke", "production", "--wait", "0.3")
    assert result.exit_code == 1
    assert result.stderr == (
        "Not acknowledged by every sidecar within 0.3 s (the operator said nothing yet).\n"
    )


async def test_revoke_through_and_without_waiting(fake: FakeKube, run: Run) -> None:
    fake.put(kinds.API_KEY, api_key("production", "acme", ISSUED))
    result = await run("revoke", "production", "--through", "1", "--wait", "0")
    assert (result.exit_code, result.stdout) == (
        0,
        "APIKey production: revoking all versions up to 1.\n",
    )
    assert fake.objects(kinds.API_KEY)[0]["spec"]["revokeThrough"] == 1
    again = await run("revoke", "production", "--through", "1", "--wait", "0")
    assert again.stdout == "APIKey production: versions up to 1 are declared as revoked already.\n"


async def test_a_key_without_versions_has_nothing_to_revoke(fake: FakeKube, run: Run) -> None:
    fake.put(kinds.API_KEY, api_key("production", "acme"))
    result = await run("revoke", "production")
    assert (result.exit_code, result.stderr) == (
        1,
        "APIKey production has no issued version: there is nothing to revoke.\n",
    )


async def test_rotate_sets_a_fresh_nonce(fake: FakeKube, run: Run) -> None:
    fake.put(kinds.API_KEY, api_key("production", "acme", ISSUED))
    result = await run("rotate", "production")
    first = fake.objects(kinds.API_KEY)[0]["spec"]["rotateNonce"]
    assert result.stdout == (
        f"APIKey production: rotation asked for (rotateNonce {first}); "
        "version 2 stays accepted for the overlap.\n"
    )
    await run("rotate", "production")
    assert fake.objects(kinds.API_KEY)[0]["spec"]["rotateNonce"] not in {"", first}


@pytest.mark.parametrize(("status", "code"), [(403, 4), (503, 4), (404, 1)])
async def test_faults_are_one_line(fake: FakeKube, run: Run, status: int, code: int) -> None:
    fake.fail(status)
    result = await run("rotate", "production")
    assert result.exit_code == code
    assert re.fullmatch(rf"The API server answered {status}: [^\n]*\n", result.stderr)


def test_no_cluster_is_one_line(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, "http://127.0.0.1:1")
    result = CliRunner().invoke(app, ["list", "--kubeconfig", str(path)])
    assert result.exit_code == 4
    assert re.fullmatch(r"The cluster cannot be reached: \w+\.\n", result.stderr)
    missing = CliRunner().invoke(app, ["list", "--kubeconfig", str(tmp_path / "missing")])
    assert missing.exit_code == 3
    assert "Traceback" not in missing.output


@pytest.mark.lab
async def test_against_the_real_definitions(apiserver: Servers, namespace: str) -> None:
    apiserver.kubectl("apply", "--server-side", "-f", "crds/apikeys.yaml")
    apiserver.kubectl("wait", "--for=condition=Established", "crd/apikeys.sendward.io")
    kube = KubeClient(apiserver.apiserver_url, token=apiserver.admin_token, ca_file=str(apiserver.ca_file))
    key = api_key("production", "acme")
    key["metadata"]["namespace"] = namespace
    await kube.create(kinds.API_KEY, key)
    target = {"metadata": {"name": "production", "namespace": namespace}, "status": ISSUED}
    await kube.apply(kinds.API_KEY, target, subresource="status")
    options = ["production", "-n", namespace, "--kubeconfig", str(apiserver.kubeconfig)]
    runner = CliRunner()
    revoked = await asyncio.to_thread(runner.invoke, app, ["revoke", *options, "--wait", "0"])
    assert revoked.stdout == "APIKey production: revoking all versions up to 2.\n", revoked.output
    rotated = await asyncio.to_thread(runner.invoke, app, ["rotate", *options])
    assert rotated.exit_code == 0, rotated.output
    smaller = await asyncio.to_thread(
        runner.invoke, app, ["revoke", *options, "--wait", "0", "--through", "1"]
    )
    assert "already" in smaller.stdout
    spec = (await kube.get(kinds.API_KEY, namespace, "production"))["spec"]
    assert spec["revokeThrough"] == 2
    assert len(spec["rotateNonce"]) == 16
    await kube.close()
