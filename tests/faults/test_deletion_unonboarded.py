"""A namespace that leaves Sendward, and one that can never be part of it: nothing is loosened, and whoever
looks at an object learns what helps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sendward import names
from sendward.apply import kinds
from sendward.controller.dirty import Dirty
from sendward.controller.view import View
from sendward.controller.watch import Namespaces
from sendward.graph.facts import Namespace
from sendward.graph.store import Store
from tests.core.harness import TENANT, TENANT_UID, SimulatedClock, World
from tests.core.test_key_life import GATEWAY

OWN = names.OPERATOR_NAMESPACE


@pytest.fixture
def world() -> Iterator[World]:
    """An onboarded namespace in which everything is settled."""
    made = World()
    made.put("MessagingGateway", "sms", GATEWAY)
    made.put("SenderAccount", "acme", {"gateways": ["sms"]})
    made.put("APIKeyPolicy", "plain", {})
    made.put("APIKey", "shop", {"account": "acme", "policy": "plain"})
    made.add_guard("sms-0", "sms")
    made.settle()
    yield made
    made.close()


def restart(world: World, *, onboarded: bool) -> None:
    """Another operator, which finds the namespace as it is now."""
    world.onboarded = onboarded
    world.start()
    world.settle()


def accepted(world: World, kind: str, name: str) -> tuple[str, str, str]:
    found = world.get(kind, name)["status"]["conditions"]
    condition = next(c for c in found if c["type"] == "Accepted")
    return condition["status"], condition["reason"], condition["message"]


def test_a_key_deleted_in_a_namespace_that_left_says_what_helps(world: World) -> None:
    """Its finalizer stays, nothing of it is forgotten in Vault, and onboarding again ends the matter."""
    restart(world, onboarded=False)
    for kind, name in (("APIKey", "shop"), ("SenderAccount", "acme"), ("MessagingGateway", "sms")):
        assert accepted(world, kind, name)[:2] == ("False", "NamespaceNotOnboarded")
    world.erase("APIKey", "shop")
    world.settle()
    status, reason, message = accepted(world, "APIKey", "shop")
    assert (status, reason) == ("False", "NamespaceNotOnboarded")
    assert "sendward onboard" in message
    assert names.FINALIZER in message
    assert world.vault.kv
    restart(world, onboarded=True)
    assert not [obj for obj in world.kube.of(kinds.API_KEY) if obj["metadata"]["name"] == "shop"]
    assert not world.vault.kv


def test_a_gateway_deleted_in_a_namespace_that_left_says_what_helps(world: World) -> None:
    restart(world, onboarded=False)
    world.erase("MessagingGateway", "sms")
    world.settle()
    status, reason, message = accepted(world, "MessagingGateway", "sms")
    assert (status, reason) == ("False", "NamespaceNotOnboarded")
    assert names.FINALIZER in message


def test_guards_of_a_namespace_that_left_are_nobody(world: World) -> None:
    """They enforce what they have until it is stale: connected to a hub that tells them nothing, they
    would never hear of a revocation and never grow stale."""
    view = View(world.store)
    assert view.gateway_uid(TENANT, "sms") == world.gateway_uid("sms")
    restart(world, onboarded=False)
    assert View(world.store).gateway_uid(TENANT, "sms") is None


def test_the_operators_own_namespace_is_never_onboarded() -> None:
    """Its objects would get the names of the operator's own: a gateway `webhook`, say, its certificate."""
    store, told = Store(), list[tuple[str, bool]]()
    namespaces = Namespaces(
        store, Dirty(store, SimulatedClock()), lambda name, present: told.append((name, present)), OWN
    )
    for name in (OWN, TENANT):
        namespaces.event(
            {"metadata": {"name": name, "uid": f"uid-{name}", "labels": {names.LABEL_ONBOARDED: "true"}}}
        )
    assert told == [(TENANT, True)]
    assert not store.namespaces[OWN].onboarded


def test_an_object_in_the_operators_own_namespace_says_so(world: World) -> None:
    world.store.namespaces[TENANT] = Namespace(TENANT, TENANT_UID, onboarded=False, reserved=True)
    world.dirty.mark_namespace(TENANT)
    world.settle()
    for kind, name in (("APIKey", "shop"), ("SenderAccount", "acme"), ("MessagingGateway", "sms")):
        status, reason, message = accepted(world, kind, name)
        assert (status, reason) == ("False", "NamespaceNotOnboarded")
        assert "the operator's own namespace cannot be onboarded" in message
