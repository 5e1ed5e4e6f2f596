"""The whole operator while Vault does not answer."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.core.stand import Stand
from tests.core.test_operator import _settled


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with Stand() as stand:
        yield stand


async def test_while_vault_is_away_only_what_needs_it_is_tried_again(stand: Stand) -> None:
    """The comparison with Vault is repeated; the passes over everything that is declared are not."""
    await _settled(stand, accounts=3)
    await stand.stop()
    stand.vault.sealed = True
    await stand.start()
    await stand.until(lambda: _looked_at(stand) > 0)
    looked_at, asked = _looked_at(stand), stand.vault.count("GET", "/metadata/")
    await stand.until(lambda: stand.vault.count("GET", "/metadata/") >= asked + 4)
    assert _looked_at(stand) - looked_at < 8


def _looked_at(stand: Stand) -> float:
    found = stand.operator.metrics.registry.get_sample_value("sendward_reconciled_objects_total")
    assert found is not None
    return found
