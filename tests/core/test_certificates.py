"""Server certificates that are missing, or that the user keeps and lets expire."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sendward import names
from sendward.apply import kinds
from sendward.errors import Unavailable
from tests.core.harness import TENANT, World
from tests.core.test_key_life import GATEWAY

ISSUED = (kinds.SECRET.plural, TENANT, names.tls_secret("sms"))
OWN = (kinds.SECRET.plural, TENANT, "own")
KEPT = GATEWAY | {"tls": {"secretName": "own"}}
MISSING = ("False", "CertificateMissing")
RECHECKED = timedelta(seconds=31)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


def declare(world: World, spec: dict[str, Any]) -> None:
    world.put("MessagingGateway", "sms", spec)
    if not world.guards:
        world.add_guard("p1", "sms")


def renew(world: World, life: timedelta) -> None:
    """Another certificate in the user's Secret, as cert-manager writes it."""
    key, name, now = ec.generate_private_key(ec.SECP256R1()), x509.Name([]), world.clock.now()
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now).not_valid_after(now + life)
    pem = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    world.kube.objects.pop(OWN, None)
    meta = {"name": "own", "namespace": TENANT, "labels": {}}
    data = {"tls.crt": b64encode(pem).decode()}
    world.kube.put(kinds.SECRET, {"metadata": meta, "type": "kubernetes.io/tls", "data": data})
    recheck(world)


def recheck(world: World) -> None:
    world.pass_time(RECHECKED)
    world.settle()


def issue_nothing(world: World) -> None:
    async def refuse(*_: Any) -> Any:
        raise Unavailable("Vault PKI is sealed")

    world.vault.issue_certificate = refuse  # type: ignore[method-assign, assignment]


def programmed(world: World) -> tuple[str, str]:
    """After two minutes: it is tried again every five seconds, so the operator never comes to rest."""
    for _ in range(120):
        world.pass_time(timedelta(seconds=1))
        while any([world.deliver(), world.work_job(), world.work_pass(), *map(world.take, world.guards)]):
            pass
    return world.condition("MessagingGateway", "sms", "Programmed")


def resolved(world: World) -> tuple[str, str]:
    return world.condition("MessagingGateway", "sms", "ResolvedRefs")


def test_one_that_was_never_issued_is_told(world: World) -> None:
    issue_nothing(world)
    declare(world, GATEWAY)
    assert programmed(world) == MISSING


def test_one_that_was_the_users_is_none_of_vaults(world: World) -> None:
    """From `secretName` to `vaultPKI` while Vault issues nothing: there is no Secret for new pods."""
    declare(world, KEPT)
    renew(world, timedelta(days=30))
    issue_nothing(world)
    declare(world, GATEWAY)
    assert programmed(world) == MISSING
    assert ISSUED not in world.kube.objects


def test_one_that_was_deleted_while_vault_issues_none_is_told(world: World) -> None:
    declare(world, GATEWAY)
    assert programmed(world) == ("True", "Programmed")
    issue_nothing(world)
    world.kube.erase(kinds.SECRET, TENANT, names.tls_secret("sms"))
    assert programmed(world) == MISSING


def test_an_expired_one_of_the_user_is_told_until_it_is_renewed(world: World) -> None:
    declare(world, KEPT)
    renew(world, timedelta(days=1))
    assert resolved(world)[0] == "True"
    world.pass_time(timedelta(days=2))
    world.settle()
    assert resolved(world) == ("False", "ReferenceInvalid")
    renew(world, timedelta(days=1))
    assert resolved(world)[0] == "True"
    assert world.status("MessagingGateway", "sms")["certificateNotAfter"]
    world.kube.objects.pop(OWN)
    recheck(world)
    assert resolved(world) == ("False", "NotFound")
    assert world.status("MessagingGateway", "sms").get("certificateNotAfter") is None
