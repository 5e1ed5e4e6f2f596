"""The operator's own counters, scraped from its pod."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from sendward import names

Sample = tuple[str, str]  # the two labels of a counter: verb and kind, or operation and code

_WRITES: Final = ("create", "replace", "apply", "patch", "delete")
# Neither changes an object of a user or of the operator: leadership, and a question about a token.
_NOT_COUNTED: Final = ("Lease", "TokenReview")


@dataclass(frozen=True)
class Counters:
    """Counters at one moment, or what they grew by."""

    api: Mapping[Sample, float]
    vault: Mapping[Sample, float]
    leader: bool = False
    passes: float = 0
    pass_seconds: float = 0
    objects: float = 0

    def since(self, before: Counters) -> Counters:
        """What was counted since `before`."""
        return Counters(
            _grown(self.api, before.api),
            _grown(self.vault, before.vault),
            self.leader,
            self.passes - before.passes,
            self.pass_seconds - before.pass_seconds,
            self.objects - before.objects,
        )

    @property
    def writes(self) -> float:
        """Writes to the API server, the Lease aside."""
        return sum(count for (verb, kind), count in self.api.items() if _is_write(verb, kind))

    @property
    def requests(self) -> float:
        """All requests to the API server, the Lease aside."""
        return sum(count for (_, kind), count in self.api.items() if kind not in _NOT_COUNTED)

    @property
    def vault_calls(self) -> float:
        """All requests to Vault."""
        return sum(self.vault.values())

    def text(self) -> str:
        """What makes up the counts, largest first."""
        parts = [f"{verb} {kind} {count:.0f}" for (verb, kind), count in _largest(self.api)]
        parts += [f"vault {operation} {count:.0f}" for (operation, _), count in _largest(self.vault)]
        return ", ".join(parts)


def _is_write(verb: str, kind: str) -> bool:
    return kind not in _NOT_COUNTED and verb.partition("-")[0] in _WRITES


def _grown(after: Mapping[Sample, float], before: Mapping[Sample, float]) -> dict[Sample, float]:
    return {sample: count - before.get(sample, 0) for sample, count in after.items()}


def _largest(counts: Mapping[Sample, float]) -> Iterable[tuple[Sample, float]]:
    found = [(sample, count) for sample, count in counts.items() if count and sample[1] not in _NOT_COUNTED]
    return sorted(found, key=lambda item: -item[1])


def parse(text: str) -> Counters:
    """Read the exposition format."""
    api: dict[Sample, float] = {}
    vault: dict[Sample, float] = {}
    single: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels
            if sample.name == "sendward_api_requests_total":
                api[labels["verb"], labels["kind"]] = sample.value
            elif sample.name == "sendward_vault_requests_total":
                vault[labels["operation"], labels["code"]] = sample.value
            elif not labels:
                single[sample.name] = sample.value
    return Counters(
        api,
        vault,
        single.get("sendward_leader", 0) == 1,
        single.get("sendward_reconcile_duration_seconds_count", 0),
        single.get("sendward_reconcile_duration_seconds_sum", 0),
        single.get("sendward_reconciled_objects_total", 0),
    )


async def scrape(session: aiohttp.ClientSession, address: str) -> Counters:
    """Ask the operator at a pod's address. Raises aiohttp.ClientError."""
    async with session.get(f"http://{address}:{names.PORT_OPERATOR_PROBE}/metrics") as answer:
        return parse(await answer.text())
