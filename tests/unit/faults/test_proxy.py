"""The tamper proxy does to calls and watches what its rules say, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from sendward.apply import kinds
from sendward.apply.kube import KubeClient
from sendward.apply.ports import Gone, WatchEvent
from sendward.apply.vault import VaultClient
from sendward.apply.vault_auth import TokenLogin
from sendward.errors import Conflict, Forbidden, Unavailable
from tests.fakes.kube import FakeKube
from tests.fakes.vault import ROOT, FakeVault
from tests.faults.proxy import TamperProxy
from tests.faults.proxy_calls import Call, Sort
from tests.faults.proxy_rules import Event, Ledger, Rule, WatchRule, call_number, calls_to


class Stand:
    def __init__(self, kube: FakeKube, vault: FakeVault, ledger: Ledger) -> None:
        self.kube, self.vault, self.ledger = kube, vault, ledger
        self.kube_proxy = TamperProxy("kube", kube.url, ledger)
        self.vault_proxy = TamperProxy("vault", vault.url, ledger)
        self.client: KubeClient
        self.vault_client: VaultClient

    async def create(self, name: str) -> dict[str, Any]:
        return await self.client.create(kinds.SECRET, _secret(name))

    def names(self) -> list[str]:
        return [obj["metadata"]["name"] for obj in self.kube.objects(kinds.SECRET)]


def _secret(name: str) -> dict[str, Any]:
    return {"metadata": {"namespace": "ns", "name": name}}


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with FakeKube() as kube, FakeVault() as vault:
        made = Stand(kube, vault, Ledger())
        async with made.kube_proxy, made.vault_proxy:
            made.client = KubeClient(made.kube_proxy.url)
            made.vault_client = VaultClient(made.vault_proxy.url, TokenLogin(ROOT))
            yield made
            await made.client.close()
            await made.vault_client.close()


async def test_mutations_of_both_servers_are_numbered_in_one_row(stand: Stand) -> None:
    await stand.create("a")
    await stand.vault_client.kv_write("ns-uid/key-uid", {"key": "x"}, 0)
    await stand.client.get(kinds.SECRET, "ns", "a")
    await stand.client.delete(kinds.SECRET, "ns", "a")
    assert [str(call) for call in stand.ledger.mutations] == [
        "kube POST secrets ns/a 201",
        "vault POST data ns-uid/key-uid 200",
        "kube DELETE secrets ns/a 200",
    ]


async def test_lease_events_reviews_and_draws_have_no_number(stand: Stand) -> None:
    await stand.client.create(kinds.LEASE, {"metadata": {"namespace": "ns", "name": "l"}, "spec": {}})
    await stand.client.create(kinds.EVENT, {"metadata": {"namespace": "ns", "name": "e"}})
    await stand.client.review_token("t", "sendward")
    await stand.vault_client.random(32)
    assert [call.sort for call in stand.ledger.calls] == [Sort.LEASE, Sort.EVENT, Sort.REVIEW, Sort.DRAW]
    assert stand.ledger.mutations == []


async def test_a_call_that_is_killed_before_never_reaches_the_server(stand: Stand) -> None:
    killed: list[Call] = []
    stand.ledger.rules.append(Rule(call_number(2), before=killed.append, reset=True))
    await stand.create("a")
    with pytest.raises(Unavailable):
        await stand.create("b")
    assert ([call.name for call in killed], stand.names()) == (["b"], ["a"])


async def test_a_call_whose_answer_is_lost_was_carried_out(stand: Stand) -> None:
    seen: list[tuple[str, list[str]]] = []
    rule = Rule(call_number(1), after=lambda call: seen.append((call.name, stand.names())), lose=True)
    stand.ledger.rules.append(rule)
    with pytest.raises(Unavailable):
        await stand.create("a")
    assert seen == [("a", ["a"])]
    with pytest.raises(Conflict):
        await stand.create("a")


async def test_a_call_is_carried_out_though_its_client_went_away(stand: Stand) -> None:
    gate = asyncio.Event()
    stand.ledger.rules.append(Rule(calls_to("secrets"), hold=gate))
    waiting = asyncio.create_task(stand.create("a"))
    await _until(lambda: bool(stand.ledger.calls))
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    gate.set()
    await _until(lambda: stand.names() == ["a"])


@pytest.mark.parametrize(
    ("status", "error"),
    [(403, Forbidden), (409, Conflict), (410, Gone), (429, Unavailable), (500, Unavailable)],
)
async def test_a_status_stands_in_for_the_api_server(
    stand: Stand, status: int, error: type[Exception]
) -> None:
    stand.ledger.rules.append(Rule(calls_to("secrets", method="POST"), answer=status))
    with pytest.raises(error):
        await stand.create("a")
    assert stand.names() == []
    await stand.create("a")


async def test_a_429_says_when_to_come_again(stand: Stand) -> None:
    stand.ledger.rules.append(Rule(calls_to("secrets"), answer=429, retry_after="7"))
    with pytest.raises(Unavailable) as raised:
        await stand.create("a")
    assert raised.value.retry_after == 7.0


async def test_a_status_stands_in_for_vault(stand: Stand) -> None:
    stand.ledger.rules.append(Rule(calls_to(server="vault"), answer=503))
    with pytest.raises(Unavailable):
        await stand.vault_client.kv_write("ns/k", {"key": "x"}, 0)
    assert stand.vault.kv == {}


async def test_a_doubled_call_reaches_the_server_twice(stand: Stand) -> None:
    stand.ledger.rules.append(Rule(calls_to(server="vault"), twice=True))
    assert await stand.vault_client.kv_write("ns/k", {"key": "x"}, 0) == 1
    assert stand.vault.count("POST", "/data/") == 2  # whose second was refused by check-and-set
    assert stand.vault.kv["ns/k"].live == [1]


async def test_calls_wait_while_they_are_held(stand: Stand) -> None:
    gate = asyncio.Event()
    stand.ledger.rules.append(Rule(calls_to("secrets"), hold=gate, times=None))
    waiting = asyncio.create_task(stand.create("a"))
    await stand.client.create(kinds.POD, {"metadata": {"namespace": "ns", "name": "p"}})
    assert stand.names() == []
    gate.set()
    await waiting
    assert stand.names() == ["a"]


async def test_a_server_that_is_down_refuses_connections_and_comes_back_at_its_address(stand: Stand) -> None:
    url = stand.kube_proxy.url
    await stand.kube_proxy.down()
    with pytest.raises(Unavailable):
        await stand.create("a")
    await stand.kube_proxy.up()
    assert stand.kube_proxy.url == url
    await stand.create("a")


async def test_queries_headers_and_refusals_pass_unchanged(stand: Stand) -> None:
    for number in range(3):
        await stand.create(f"s{number}")
    page = await stand.client.page(kinds.SECRET, namespace="ns", limit=2, metadata_only=True)
    assert [len(page.items), bool(page.continue_token)] == [2, True]
    async with aiohttp.ClientSession() as session:
        answer = await session.get(f"{stand.kube_proxy.url}/api/v1/namespaces/ns/secrets/none")
        assert (answer.status, (await answer.json())["reason"]) == (404, "NotFound")


# --- watches ----------------------------------------------------------------------------------------


class Watcher:
    """Collects what a watch of Secrets tells; `error` is how it ended."""

    def __init__(self, stand: Stand) -> None:
        self.events: list[WatchEvent] = []
        self.error: Exception | None = None
        self.ended = False
        self._stand = stand
        self._task = asyncio.create_task(self._run(str(stand.kube.version)))

    async def _run(self, version: str) -> None:
        try:
            async for event in self._stand.client.watch(kinds.SECRET, version, namespace="ns"):
                self.events.append(event)
        except (Gone, Unavailable) as error:
            self.error = error
        self.ended = True

    async def started(self) -> Watcher:
        await _until(lambda: bool(self._stand.kube_proxy.streams))
        return self

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def names(self) -> list[str]:
        return [event.object["metadata"]["name"] for event in self.events]


@pytest.fixture
async def watcher(stand: Stand) -> AsyncIterator[Watcher]:
    made = await Watcher(stand).started()
    yield made
    await made.close()


def _event(name: str) -> Any:
    def matches(event: Event) -> bool:
        return event.name == name

    return matches


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        ("pass", ["a", "b", "c"]),
        ("drop", ["a", "c"]),
        ("double", ["a", "b", "b", "c"]),
        ("swap", ["a", "c", "b"]),
    ],
)
async def test_watch_events_are_passed_dropped_doubled_and_reordered(
    stand: Stand, watcher: Watcher, act: Any, expected: list[str]
) -> None:
    stand.ledger.watch_rules.append(WatchRule(_event("b"), act))
    for name in ("a", "b", "c"):
        await stand.create(name)
    await _until(lambda: len(watcher.events) == len(expected))
    assert watcher.names() == expected


async def test_a_watch_is_cut_in_place_of_an_event(stand: Stand, watcher: Watcher) -> None:
    stand.ledger.watch_rules.append(WatchRule(_event("b"), "cut"))
    await stand.create("a")
    await stand.create("b")
    await _until(lambda: watcher.ended)
    assert (watcher.names(), watcher.error) == (["a"], None)


async def test_a_held_event_holds_up_those_behind_it(stand: Stand, watcher: Watcher) -> None:
    gate = asyncio.Event()
    stand.ledger.watch_rules.append(WatchRule(_event("a"), hold=gate))
    await stand.create("a")
    await stand.create("b")
    assert watcher.names() == []
    gate.set()
    await _until(lambda: len(watcher.events) == 2)


async def test_an_error_is_sent_into_open_watches(stand: Stand, watcher: Watcher) -> None:
    assert stand.kube_proxy.send_error(410, "pods") == 0
    assert stand.kube_proxy.send_error(410, "secrets") == 1
    await _until(lambda: watcher.ended)
    assert isinstance(watcher.error, Gone)


async def test_open_watches_are_cut(stand: Stand, watcher: Watcher) -> None:
    assert stand.kube_proxy.cut() == 1
    await _until(lambda: watcher.ended)


async def test_a_watch_ends_on_the_server_when_its_client_goes(stand: Stand, watcher: Watcher) -> None:
    await watcher.close()
    await _until(lambda: not stand.kube_proxy.streams and not stand.kube.watching())


async def test_the_opening_of_a_watch_can_be_refused(stand: Stand) -> None:
    stand.ledger.rules.append(Rule(calls_to("secrets", sort=Sort.WATCH), answer=410))
    watcher = Watcher(stand)
    await _until(lambda: watcher.ended)
    assert isinstance(watcher.error, Gone)


async def _until(holds: Any) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - of servers, which have no events for us
            await asyncio.sleep(0.01)
