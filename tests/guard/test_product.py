"""The guard with the configuration that the operator compiles: TLS, certificate by SDS, problem bodies."""

from __future__ import annotations

import ssl

import aiohttp
import pytest

from sendward import names
from sendward.compile.envoy import files
from sendward.protocol import PPM, Ack, Hello, Part, Portions, Shares
from sendward.resources.messaging_gateway import MessagingGatewaySpec
from tests.fakes.hub import write_certificate
from tests.guard import builders
from tests.guard.harness import Harness, eventually

GOOD = builders.credential("one")


def compiled(pod: Harness) -> bytes:
    operation = {"name": "send", "method": "POST", "path": "/v1/messages"}
    spec = MessagingGatewaySpec.model_validate(
        {
            "http": {
                "port": pod.port,
                "applicationPort": pod.application_port,
                "operations": [operation],
            },
            "tls": {"secretName": "server"},
            "sourceCIDRs": ["127.0.0.1/32"],
        }
    )
    content = builders.gateway(
        envoy=pod.local(files(spec)), application_port=pod.application_port, cidrs=["127.0.0.1/32"]
    )
    return builders.sealed(content, 1)


async def serve(pod: Harness) -> None:
    """Guard and Envoy with the product's own configuration and one key."""
    await pod.hub.wait_for(Hello)
    await pod.hub.send(Shares(round=1, default=PPM, filled=Portions(PPM)))
    account = builders.account("acme", builders.key("one"))
    await pod.hub.send(Part(builders.sealed(builders.shard(account), 1)))
    await pod.hub.send(Part(compiled(pod)))
    await pod.hub.wait_for(Ack, lambda ack: ack.part == "gateway")
    await eventually(pod.ready, "readiness")


async def post(pod: Harness, trust: ssl.SSLContext, key: str) -> tuple[int, object]:
    body = {"to": "+447700900123", "from": "ACME", "text": "hello"}
    async with pod.session.post(
        f"https://localhost:{pod.port}/v1/messages", json=body, headers={"x-api-key": key}, ssl=trust
    ) as answer:
        problem = await answer.json(content_type=None)
        return answer.status, problem.get("code")


async def test_the_products_configuration_serves_and_certificates_count_for_readiness(pod: Harness) -> None:
    certificate = write_certificate(pod.path(names.PATH_TLS))
    trust = ssl.create_default_context(cafile=certificate)
    await serve(pod)
    assert await post(pod, trust, GOOD.value) == (200, None)
    assert await post(pod, trust, GOOD.value[:-1]) == (401, "SW2203")
    await pod.hub.send(Part(builders.sealed(builders.gateway(deleted=True), 2)))
    await pod.hub.wait_for(Ack, lambda ack: ack.revision == 2)

    async def closed() -> bool:
        try:
            await post(pod, trust, GOOD.value)
        except aiohttp.ClientConnectorError:
            return True
        return False

    await eventually(closed, "end of the listener of a deleted gateway")


async def test_without_a_certificate_the_pod_is_not_ready(pod: Harness) -> None:
    await pod.hub.wait_for(Hello)
    await pod.hub.send(Shares(round=1, default=PPM, filled=Portions(PPM)))
    await pod.hub.send(Part(builders.sealed(builders.shard(), 1)))
    await pod.hub.send(Part(compiled(pod)))
    await pod.hub.wait_for(Ack, lambda ack: ack.part == "gateway")

    async def waiting() -> bool:
        return await pod.probe("/ready") == (503, ["CertificateNotLoaded"])

    await eventually(waiting, "a reason for not being ready")
    with pytest.raises(aiohttp.ClientError):
        await post(pod, ssl.create_default_context(), GOOD.value)
