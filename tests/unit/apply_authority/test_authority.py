"""The operator's CA: made once, renewed in good time, never written to without need."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from sendward import errors
from sendward.apply import kinds
from sendward.apply.authority import Authority, patch_webhook
from sendward.apply.kube import KubeClient
from sendward.apply.ports import Object
from tests.fakes.kube import FakeKube

NAMESPACE = "sendward-system"
DAY = timedelta(days=1)


@dataclass
class WallClock:
    moment: datetime

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()


@dataclass
class World:
    server: FakeKube
    kube: KubeClient
    clock: WallClock

    def authority(self) -> Authority:
        return Authority(self.kube, NAMESPACE, self.clock)

    def secret(self, name: str) -> dict[str, bytes]:
        (found,) = [s for s in self.server.objects(kinds.SECRET) if s["metadata"]["name"] == name]
        return {key: base64.b64decode(value) for key, value in found["data"].items()}

    def writes(self) -> int:
        return sum(1 for method, _ in self.server.requests if method != "GET")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with FakeKube() as server:
        kube = KubeClient(server.url)
        # Real time, since the ssl module knows no other.
        yield World(server, kube, WallClock(datetime.now(UTC).replace(microsecond=0)))
        await kube.close()


async def serial(
    authority: Authority, *, bundle: str = "", name: str = "sendward-hub.sendward-system.svc"
) -> int:
    """Handshakes with the hub's context and verifies it by the bundle; serial number of the leaf."""
    server = await asyncio.start_server(lambda _, w: w.close(), "127.0.0.1", 0, ssl=authority.hub_context)
    async with server:
        trust = ssl.create_default_context(cadata=bundle or authority.bundle)
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname=name)
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        await writer.wait_closed()
    return x509.load_der_x509_certificate(der).serial_number


def certificates(pem: str | bytes) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pem.encode() if isinstance(pem, str) else pem)


@pytest.mark.parametrize("name", ["", ".svc", ".svc.cluster.local"])
async def test_the_hub_is_verified_by_the_bundle(world: World, name: str) -> None:
    authority = world.authority()
    await authority.ensure()
    assert await serial(authority, name="sendward-hub.sendward-system" + name)
    with pytest.raises(ssl.SSLCertVerificationError):
        await serial(authority, name="sendward-webhook.sendward-system.svc")


async def test_processes_that_start_together_share_one_authority(world: World) -> None:
    one, two = world.authority(), world.authority()
    await asyncio.gather(one.ensure(), two.ensure())
    assert one.bundle == two.bundle
    assert await serial(one, bundle=two.bundle)
    assert set(world.secret("sendward-ca")) == {"ca.crt", "ca.key"}


async def test_a_steady_state_writes_nothing(world: World) -> None:
    authority = world.authority()
    await authority.ensure()
    assert await authority.ensure_webhook()
    leaf = await serial(authority)
    before = world.writes()
    for restarted in (authority, world.authority()):
        await restarted.ensure()
        assert not await restarted.ensure_webhook()
    assert world.writes() == before
    assert await serial(authority) == leaf


async def test_leaves_are_renewed_at_two_thirds_of_their_life(world: World) -> None:
    authority = world.authority()
    await authority.ensure()
    await authority.ensure_webhook()
    leaf, stored = await serial(authority), world.secret("sendward-webhook-tls")
    world.clock.moment += 19 * DAY
    await authority.ensure()
    assert not await authority.ensure_webhook()
    assert await serial(authority) == leaf
    world.clock.moment += 2 * DAY
    await authority.ensure()
    assert await authority.ensure_webhook()
    (renewed,) = certificates(world.secret("sendward-webhook-tls")["tls.crt"])
    assert renewed.not_valid_after_utc == world.clock.moment + 30 * DAY
    assert world.secret("sendward-webhook-tls") != stored
    assert len(certificates(authority.bundle)) == 1


async def test_a_new_authority_joins_first_and_signs_a_day_later(world: World) -> None:
    authority = world.authority()
    await authority.ensure()
    (old,) = certificates(authority.bundle)
    world.clock.moment += 250 * DAY
    await authority.ensure()
    await authority.ensure_webhook()
    new, kept = certificates(authority.bundle)
    assert kept == old

    def issuer() -> x509.Name:
        return certificates(world.secret("sendward-webhook-tls")["tls.crt"])[0].issuer

    assert issuer() == old.subject
    world.clock.moment += 25 * DAY
    before = world.writes()
    await authority.ensure()
    await authority.ensure_webhook()
    assert issuer() == new.subject
    assert world.writes() == before + 1
    assert len(certificates(authority.bundle)) == 2
    world.clock.moment += 100 * DAY
    await authority.ensure()
    assert certificates(authority.bundle) == [new]
    restarted = world.authority()
    await restarted.ensure()
    assert restarted.bundle == authority.bundle


async def test_two_processes_renew_once(world: World) -> None:
    one, two = world.authority(), world.authority()
    await one.ensure()
    await two.ensure()
    world.clock.moment += 250 * DAY
    await asyncio.gather(one.ensure(), two.ensure())
    assert one.bundle == two.bundle
    assert len(certificates(one.bundle)) == 2


async def test_after_a_long_sleep_a_new_authority_signs_at_once(world: World) -> None:
    await world.authority().ensure()
    world.clock.moment += 400 * DAY
    authority = world.authority()
    await authority.ensure()
    assert len(certificates(authority.bundle)) == 1
    assert await authority.ensure_webhook()
    (leaf,) = certificates(world.secret("sendward-webhook-tls")["tls.crt"])
    assert leaf.issuer == certificates(authority.bundle)[0].subject


async def test_a_deleted_or_broken_authority_comes_back_as_it_was(world: World) -> None:
    authority = world.authority()
    await authority.ensure()
    bundle = authority.bundle
    world.server.remove(kinds.SECRET, NAMESPACE, "sendward-ca")
    await authority.ensure()
    assert (authority.bundle, certificates(world.secret("sendward-ca")["ca.crt"])) == (
        bundle,
        certificates(bundle),
    )
    (stored,) = world.server.objects(kinds.SECRET)
    world.server.put(kinds.SECRET, {**stored, "data": {"ca.crt": "bm9uc2Vuc2U=", "ca.key": "!"}})
    await authority.ensure()
    assert (authority.bundle, certificates(world.secret("sendward-ca")["ca.crt"])) == (
        bundle,
        certificates(bundle),
    )


async def test_a_foreign_webhook_certificate_is_replaced(world: World) -> None:
    authority = world.authority()
    await authority.ensure()
    await authority.ensure_webhook()
    world.server.remove(kinds.SECRET, NAMESPACE, "sendward-ca")
    other = world.authority()
    await other.ensure()
    assert await other.ensure_webhook()
    (leaf,) = certificates(world.secret("sendward-webhook-tls")["tls.crt"])
    assert leaf.issuer == certificates(other.bundle)[0].subject


async def test_no_key_is_shown(world: World) -> None:
    authority = world.authority()
    await authority.ensure()
    assert "PRIVATE" not in repr(vars(authority)) + authority.bundle


# --- the webhook's configuration ----------------------------------------------------------------


def configuration(*bundles: str) -> Object:
    return {
        "metadata": {"name": "sendward-inject"},
        "webhooks": [
            {
                "name": f"w{n}.sendward.io",
                "failurePolicy": "Fail",
                "clientConfig": {
                    "service": {"name": "sendward-webhook", "namespace": NAMESPACE},
                    **({"caBundle": bundle} if bundle else {}),
                },
            }
            for n, bundle in enumerate(bundles)
        ],
    }


async def test_only_the_bundle_is_patched_and_only_once(world: World) -> None:
    kind = kinds.MUTATING_WEBHOOK_CONFIGURATION
    wanted = base64.b64encode(b"bundle").decode()
    world.server.put(kind, configuration("", "b2xk"))
    assert await patch_webhook(world.kube, "bundle")
    (stored,) = world.server.objects(kind)
    assert stored["webhooks"] == configuration(wanted, wanted)["webhooks"]
    before = world.writes()
    assert not await patch_webhook(world.kube, "bundle")
    assert world.writes() == before


async def test_a_missing_configuration_is_an_error(world: World) -> None:
    with pytest.raises(errors.NotFound):
        await patch_webhook(world.kube, "bundle")
