"""The operator's counters as the benchmarks read them."""

from __future__ import annotations

from collections import Counter

from prometheus_client import generate_latest

from sendward.controller.metrics import Metrics
from tests.bench import counters


def _exposed(api: dict[tuple[str, str], int], vault: dict[tuple[str, str], int]) -> counters.Counters:
    metrics = Metrics(Counter(api), Counter(vault))
    metrics.observe_pass(0.25, 7, 0)
    return counters.parse(generate_latest(metrics.registry).decode())


def test_writes_leave_out_the_lease_and_what_changes_nothing() -> None:
    found = _exposed(
        {
            ("apply", "APIKey"): 2,
            ("apply-status", "APIKey"): 3,
            ("replace", "Lease"): 50,
            ("create", "TokenReview"): 9,
            ("list", "Secret"): 4,
        },
        {("kv-write", "Vault"): 2, ("random", "Vault"): 1},
    )
    assert found.writes == 5
    assert found.requests == 9
    assert found.vault_calls == 3
    assert (found.passes, found.pass_seconds, found.objects) == (1, 0.25, 7)


def test_what_was_counted_since() -> None:
    before = _exposed({("apply", "APIKey"): 2}, {})
    after = _exposed({("apply", "APIKey"): 2, ("apply", "Secret"): 3}, {("kv-write", "Vault"): 1})
    grown = after.since(before)
    assert (grown.writes, grown.vault_calls, grown.passes) == (3, 1, 0)
    assert grown.text() == "apply Secret 3, vault kv-write 1"
