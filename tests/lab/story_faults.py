"""The story, last part: what goes on when the operator or Vault is down, and the NetworkPolicies."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp

from sendward import conditions, names
from sendward.verdict import Reason
from tests.lab import oracle
from tests.lab.client import PORT, SERVER_NAME, Answer, Traffic
from tests.lab.images import SAMPLE_GATEWAY
from tests.lab.oracle import Flow, Peer
from tests.lab.stack import SYSTEM, eventually
from tests.lab.story_limits import flood
from tests.lab.story_stage import GATEWAY, Stage, Step, expect, on_all

OPERATOR: Final = "sendward-operator"
OPERATOR_PODS: Final = "app.kubernetes.io/component=operator"
SPARE: Final = "spare"
SEALED_KEY: Final = "hooli-sealed"
SPARE_PODS: Final = f"{names.LABEL_GATEWAY}={SPARE}"
ENOUGH: Final = 40  # messages while something is down


async def network_policies(stage: Stage) -> str:
    policy = await stage.stack.get("networkpolicy", names.network_policy(GATEWAY), stage.namespace)
    pod = Peer("10.123.1.9", stage.namespace, {"app": GATEWAY, names.LABEL_GATEWAY: GATEWAY})
    acme, internet = Peer("10.123.200.110"), Peer("192.0.2.7")
    neighbour = Peer("10.123.1.10", stage.namespace, {"app": "other"})
    dns = Peer("10.123.1.11", "kube-system", {"k8s-app": "kube-dns"})
    hub = Peer("10.123.1.12", SYSTEM, names.HUB_POD_LABELS)
    cases: tuple[tuple[str, Flow, bool], ...] = (
        ("acme to HTTPS", Flow(acme, pod, PORT), True),
        ("elsewhere to HTTPS", Flow(internet, pod, PORT), False),
        ("acme to the application", Flow(acme, pod, 8080), False),
        ("a neighbour to the application", Flow(neighbour, pod, 8080), False),
        ("acme to the metrics", Flow(acme, pod, names.PORT_METRICS), False),
        ("a neighbour to the metrics", Flow(neighbour, pod, names.PORT_METRICS), False),
        ("out to DNS", Flow(pod, dns, 53, "UDP"), True),
        ("out to the hub", Flow(pod, hub, names.PORT_HUB), True),
        ("out to the internet", Flow(pod, internet, 443), False),
        ("out to a neighbour", Flow(pod, neighbour, 443), False),
    )
    verdicts = await asyncio.to_thread(oracle.allowed, [policy], [flow for _, flow, _ in cases])
    for (title, _, wanted), found in zip(cases, verdicts, strict=True):
        assert found == wanted, f"{title}: allowed is {found}"
    allowed = ", ".join(title for title, _, wanted in cases if wanted)
    denied = ", ".join(title for title, _, wanted in cases if not wanted)
    return f"cyclonus judges {policy['metadata']['name']}: allowed {allowed}; denied {denied}"


async def operator_killed(stage: Stage) -> str:
    """Both replicas by SIGKILL, then scaled to none, so that nobody restarts them."""
    stack = stage.stack
    async with Traffic(stage.hooli, stage.pods) as traffic:
        for pod in await stack.pods(SYSTEM, OPERATOR_PODS):
            os.kill(stack.runner.pid_of(SYSTEM, pod["metadata"]["name"], "operator"), signal.SIGKILL)
        await stack.kubectl("scale", "deployment", OPERATOR, "-n", SYSTEM, "--replicas=0")
        await eventually(lambda: _none(stage, SYSTEM, OPERATOR_PODS), "no operator", seconds=40)
        down = len(traffic.answers)
        await eventually(
            lambda: len(traffic.answers) >= down + ENOUGH, "traffic without operator", every=0.02
        )
        for answer in await on_all(stage, partial(_with, stage, stage.revoked)):
            expect(answer, 401)
        # Long enough after the earlier flood for part of the limit to be there again.
        limited = await flood([stage.globex], stage.pods, 2.0)
    assert not traffic.lost, f"{len(traffic.lost)} messages lost, the first: {traffic.lost[0]}"
    most = 20 + 2 * limited.seconds
    assert limited.total <= most, (
        f"{limited.total} accepted in {limited.seconds:.1f} s, {most:.1f} are allowed"
    )
    codes = {answer.code for answer in limited.refused}
    assert codes, "the limit is gone"
    assert codes <= {Reason.KeyLimit.code, Reason.AccountLimit.code}, f"refused for something else: {codes}"
    return (
        f"both replicas killed and scaled to 0: {len(traffic.answers)} messages, none lost; the limit still"
        f" answers 429 ({len(limited.refused)} times), the revoked key 401"
    )


async def without_document(stage: Stage) -> str:
    """A gateway that is declared while no operator runs: its pod has a certificate and no document."""
    files = stage.stack.lab.ca.issue(f"{SPARE}-gateway", SPARE, names=(SERVER_NAME,))
    await stage.stack.apply([_tls_secret(files.certificate, files.key), _spare_gateway()], stage.namespace)
    await stage.stack.apply([_spare_pod()], stage.namespace)

    async def started() -> dict[str, Any] | None:
        pods = await stage.stack.pods(stage.namespace, SPARE_PODS)
        return pods[0] if pods and _all_run(pods[0]) else None

    pod = await eventually(started, "the spare gateway's containers run", seconds=60)
    address = pod["status"]["podIP"]
    ready = {c["type"]: c["status"] for c in pod["status"]["conditions"]}["Ready"]
    assert ready == "False", f"Ready is {ready}"
    try:
        told = str(await _with(stage, stage.hooli.key, address))
        assert told.startswith("503"), f"the sidecar answered {told}"
    except aiohttp.ClientConnectorError:
        told = "connection refused"
    async with stage.shop.place.session() as session:
        url = f"http://{address}:{names.PORT_PROBE}/ready"
        async with session.get(url) as probe:
            said = ", ".join((await probe.json())["reasons"])
            assert probe.status == 503, f"the readiness probe answered {probe.status}"
    return f"all its containers run, it is not Ready ({said}); a message: {told}"


async def operator_back(stage: Stage) -> str:
    stack = stage.stack
    await stage.patch("senderaccount", "hooli", {"gateways": [GATEWAY, SPARE]})
    async with Traffic(stage.hooli, stage.pods) as traffic:
        await stack.kubectl("scale", "deployment", OPERATOR, "-n", SYSTEM, "--replicas=2")
        operators = await stack.ready_pods(SYSTEM, OPERATOR_PODS, 2)
        spare = (await stack.ready_pods(stage.namespace, SPARE_PODS, 1))[0]
        await stage.ready("senderaccount", "hooli")
        await stage.ready("messaginggateway", SPARE)
        expect(await _with(stage, stage.hooli.key, spare["status"]["podIP"]), 202)
    assert not traffic.lost, f"{len(traffic.lost)} messages lost, the first: {traffic.lost[0]}"
    leader = await stack.leader()
    assert leader in {pod["metadata"]["name"] for pod in operators}, f"the Lease names {leader}"
    await stage.patch("senderaccount", "hooli", {"gateways": [GATEWAY]})
    for kind in ("pod", "messaginggateway"):
        await stack.kubectl("delete", kind, SPARE, "-n", stage.namespace, "--wait=false")
    return f"{leader} leads; the new gateway's pod got its document, is Ready and accepts; nothing was lost"


async def vault_sealed(stage: Stage) -> str:
    lab = stage.stack.lab
    old = stage.before_seal = await stage.key(SEALED_KEY)
    await asyncio.to_thread(lab.seal_vault)
    async with Traffic(stage.hooli, stage.pods) as traffic:
        await stage.patch("apikey", SEALED_KEY, {"rotateNonce": "while-sealed"})

        async def told() -> dict[str, Any] | None:
            found = await stage.stack.condition("apikey", SEALED_KEY, stage.namespace, "Programmed")
            return found if found and found["reason"] == conditions.Reason.VAULT_UNAVAILABLE else None

        condition = await eventually(told, "the rotation waits with a condition", seconds=30)
        seen = len(traffic.answers)
        await eventually(lambda: len(traffic.answers) >= seen + ENOUGH, "traffic while sealed", every=0.02)
        for answer in await on_all(stage, partial(_with, stage, old)):
            expect(answer, 202)
    assert not traffic.lost, f"{len(traffic.lost)} messages lost, the first: {traffic.lost[0]}"
    return (
        f"{len(traffic.answers)} messages, none lost; the rotation that was asked for waits:"
        f" Programmed={condition['status']}, {condition['reason']}"
    )


async def vault_unsealed(stage: Stage) -> str:
    lab, old = stage.stack.lab, stage.before_seal
    async with Traffic(stage.hooli, stage.pods) as traffic:
        await asyncio.to_thread(lab.unseal_vault)
        started = time.perf_counter()

        async def rotated() -> bool:
            status = (await stage.stack.get("apikey", SEALED_KEY, stage.namespace))["status"]
            return bool(status["currentVersion"] == 2)

        await eventually(rotated, "the rotation is done", seconds=60)
        passed = time.perf_counter() - started
        await stage.ready("apikey", SEALED_KEY)
        new = await stage.key(SEALED_KEY)
        assert new != old, "Vault still holds the first version"
        for key in (old, new):
            for answer in await on_all(stage, partial(_with, stage, key)):
                expect(answer, 202)
    assert not traffic.lost, f"{len(traffic.lost)} messages lost, the first: {traffic.lost[0]}"
    return (
        f"version 2 was issued {passed:.1f} s after Vault was unsealed; both versions accepted, nothing lost"
    )


async def _with(stage: Stage, key: str, pod: str) -> Answer:
    return await stage.hooli.send(pod, headers=[("x-api-key", key)])


async def _none(stage: Stage, namespace: str, selector: str) -> bool:
    return not await stage.stack.kubectl("get", "pods", "-n", namespace, "-l", selector, "-o", "name")


def _all_run(pod: dict[str, Any]) -> bool:
    status = pod.get("status", {})
    states = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    return len(states) == 3 and all("running" in state["state"] for state in states)


def _tls_secret(certificate: Path, key: Path) -> dict[str, Any]:
    files = {"tls.crt": certificate, "tls.key": key}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"{SPARE}-certificate"},
        "type": "kubernetes.io/tls",
        "data": {name: base64.b64encode(path.read_bytes()).decode() for name, path in files.items()},
    }


def _spare_gateway() -> dict[str, Any]:
    operation = {
        "name": "send",
        "method": "POST",
        "path": "/v1/messages",
        "message": {"recipient": {"jsonPointer": "/to"}},
    }
    return {
        "apiVersion": names.API_VERSION,
        "kind": "MessagingGateway",
        "metadata": {"name": SPARE},
        "spec": {
            "http": {"port": PORT, "applicationPort": 8080, "operations": [operation]},
            "tls": {"secretName": f"{SPARE}-certificate"},
            "sourceCIDRs": ["10.0.0.0/8"],
        },
    }


def _spare_pod() -> dict[str, Any]:
    container = {
        "name": "application",
        "image": SAMPLE_GATEWAY,
        "securityContext": {"runAsUser": 1000, "runAsNonRoot": True},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": SPARE, "labels": {names.LABEL_GATEWAY: SPARE}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 5},
    }


STEPS: tuple[Step, ...] = (
    Step("One NetworkPolicy lets in what is declared, and nothing else", network_policies),
    Step("Operator killed: traffic, limits and revocations go on", operator_killed),
    Step("A gateway pod without a document refuses everything", without_document),
    Step("Operator back: it leads, and what waited is done", operator_back),
    Step("Vault sealed: traffic goes on, a rotation waits and says so", vault_sealed),
    Step("Vault unsealed: the rotation is completed, nothing is lost", vault_unsealed),
)
