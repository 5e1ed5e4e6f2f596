"""A shard that is over its size holds back what is new in it, and nothing that takes away."""

import pytest

from sendward import document
from sendward.document import Shard
from tests.core.harness import World
from tests.core.test_key_life import GATEWAY


def test_a_revocation_passes_a_shard_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    try:
        world.put("MessagingGateway", "one", GATEWAY)
        world.put("APIKeyPolicy", "plain", {"rotation": {"overlap": "24h"}, "onCompromise": "Hold"})
        world.put("SenderAccount", "zebra", {"gateways": ["one"]})
        world.put("APIKey", "k", {"account": "zebra", "policy": "plain"})
        guard = world.add_guard("p", "one")
        world.settle()
        version = world.status("APIKey", "k")["versions"][0]["id"]
        assert guard.accepts("zebra", version, world.clock.now())
        found = world.documents.get(world.gateway_uid("one"))
        assert found is not None
        size = len(document.compress(Shard(list(found.accounts[0].values()))))
        monkeypatch.setattr(document, "MAX_PART_BYTES", size + 40)
        cidrs = [f"10.{n * 7 % 256}.{n}.0/24" for n in range(60)]
        world.put("SenderAccount", "newcomer", {"gateways": ["one"], "sourceCIDRs": cidrs})
        world.put("APIKey", "k2", {"account": "newcomer", "policy": "plain"})
        world.settle()
        assert "newcomer" not in {account.name for account in guard.accounts()}
        assert world.condition("MessagingGateway", "one", "Programmed") == ("False", "DocumentTooLarge")

        world.change("APIKey", "k", revokeThrough=1)
        world.settle()

        assert not guard.accepts("zebra", version, world.clock.now())
        assert world.condition("APIKey", "k", "Revoked")[0] == "True"
        monkeypatch.undo()
        world.change("SenderAccount", "newcomer", displayName="fits now")
        world.settle()
        assert "newcomer" in {account.name for account in guard.accounts()}
    finally:
        world.close()
