"""A process that ended while it removed what a gateway owned: the next one only goes on removing."""

from __future__ import annotations

from typing import Any, Final

import pytest

from sendward import names
from sendward.apply import kinds
from tests.core.stand import TENANT, Stand

GATEWAY: Final[dict[str, Any]] = {
    "http": {
        "port": 8443,
        "applicationPort": 8080,
        "operations": [{"name": "send", "method": "POST", "path": "/v1/messages"}],
    },
    "tls": {"vaultPKI": {"dnsNames": ["sms.example"]}},
    "sourceCIDRs": ["192.0.2.0/24"],
    "shards": 2,
}


@pytest.mark.parametrize("removed", [[], ["0"], ["0", "1", names.PART_GATEWAY]])
async def test_parts_of_a_gateway_that_is_being_removed_are_not_written_again(removed: list[str]) -> None:
    async with Stand() as stand:
        stand.put("MessagingGateway", "sms", GATEWAY)
        stand.put("SenderAccount", "a", {"gateways": ["sms"]})
        await stand.until(lambda: stand.secret(names.document_secret("sms", "0")) is not None)
        await stand.until(lambda: stand.condition("SenderAccount", "a", "Accepted") == "True")
        await stand.rest()
        await stand.stop()
        await stand.erase("MessagingGateway", "sms")
        for part in removed:
            stand.kube.remove(kinds.SECRET, TENANT, names.document_secret("sms", part))
        before = len(stand.writes())
        await stand.start()
        await stand.until(lambda: stand.get(kinds.MESSAGING_GATEWAY, "sms") is None)
        await stand.rest()
        parts = [path for method, path in stand.writes()[before:] if method == "PATCH" and "-doc-" in path]
        assert parts == []
