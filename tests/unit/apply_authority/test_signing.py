"""The key that signs documents: made once, kept, its public half published."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sendward import document, errors
from sendward.apply import kinds
from sendward.apply.kube import KubeClient
from sendward.apply.signing import load_signer, publish_public_key
from sendward.document import Shard
from tests.fakes.kube import FakeKube

NAMESPACE = "sendward-system"
PAYLOAD = document.compress(Shard([document.Account("u-1", "acme")]))


@pytest.fixture
async def server() -> AsyncIterator[FakeKube]:
    async with FakeKube() as made:
        yield made


@pytest.fixture
async def kube(server: FakeKube) -> AsyncIterator[KubeClient]:
    client = KubeClient(server.url)
    yield client
    await client.close()


async def test_processes_that_start_together_share_one_key(kube: KubeClient) -> None:
    one, two = await asyncio.gather(load_signer(kube, NAMESPACE), load_signer(kube, NAMESPACE))
    later = await load_signer(kube, NAMESPACE)
    assert one.public_key_base64 == two.public_key_base64 == later.public_key_base64


async def test_what_is_sealed_is_verified_by_the_published_key(kube: KubeClient) -> None:
    signer = await load_signer(kube, NAMESPACE)
    sealed = signer.seal("gateway-uid", "0", 3, 7, PAYLOAD)
    signer.verify(sealed, "gateway-uid", "0")
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(signer.public_key_base64))
    document.verify(sealed, public, "gateway-uid", "0")
    with pytest.raises(document.DocumentError):
        signer.verify(sealed, "another", "0")


async def test_another_installation_is_not_believed(kube: KubeClient) -> None:
    ours, theirs = await load_signer(kube, NAMESPACE), await load_signer(kube, "elsewhere")
    with pytest.raises(document.DocumentError):
        ours.verify(theirs.seal("gateway-uid", "0", 3, 7, PAYLOAD), "gateway-uid", "0")


@pytest.mark.parametrize("data", [{}, {"key.pem": "bm9uc2Vuc2U="}, {"key.pem": "!"}])
async def test_a_broken_key_is_not_replaced(server: FakeKube, kube: KubeClient, data: dict[str, str]) -> None:
    server.put(
        kinds.SECRET,
        {"metadata": {"name": "sendward-document-key", "namespace": NAMESPACE}, "data": data},
    )
    with pytest.raises(errors.Bug, match="is not an Ed25519 private key"):
        await load_signer(kube, NAMESPACE)


async def test_the_public_key_is_written_beside_the_images_and_once(
    server: FakeKube, kube: KubeClient
) -> None:
    signer = await load_signer(kube, NAMESPACE)
    server.put(
        kinds.CONFIG_MAP,
        {
            "metadata": {"name": "sendward-admission", "namespace": NAMESPACE},
            "data": {"guardImage": "guard:1"},
        },
    )
    assert await publish_public_key(kube, NAMESPACE, signer)
    (parameters,) = server.objects(kinds.CONFIG_MAP)
    assert parameters["data"] == {"guardImage": "guard:1", "documentKey": signer.public_key_base64}
    assert not await publish_public_key(kube, NAMESPACE, signer)
    assert server.count("PATCH") == 1
