"""Requests whose limits are counted elsewhere: their answers wait, keep their order, and fail closed."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import structs

from sendward.document import Limit, Redis
from sendward.guard.policy import gateway_view
from sendward.protocol import PPM
from tests.guard import builders
from tests.unit.guard.test_server import Client, client, request

__all__ = ["client"]  # a fixture


@pytest.fixture
def shared(client: Client) -> Client:
    """The account's limit is 3 messages a minute, in counters of a term."""
    client.parts.state.term = "here.1"
    return client


async def test_the_shared_counters_decide(shared: Client) -> None:
    shared.send(request() * 4)
    assert [(await shared.answer())[0] for _ in range(4)] == [200, 200, 200, 429]
    assert shared.parts.counters.asked == 4
    assert shared.parts.usage.take().demand["account-acme"] == 4


async def test_answers_keep_the_order_of_the_requests(shared: Client) -> None:
    counters = shared.parts.counters
    counters.answers.clear()
    shared.send(request() + request(key="nonsense") + request())
    await counters.asked_times(2)
    counters.answers.set()
    assert [(await shared.answer())[0] for _ in range(3)] == [200, 401, 200]
    shared.send(request())
    assert (await shared.answer())[0] == 200


async def test_without_an_answer_limited_messages_are_refused_and_others_are_not(shared: Client) -> None:
    shared.parts.counters.reachable = False
    shared.send(request())
    status, headers, _ = await shared.answer()
    assert (status, headers["x-sw-reason"], headers["retry-after"]) == (490, "SW2503", "1")
    shared.parts.state.policy.set_shard(0, builders.shard(builders.account("acme", builders.key("one"))))
    shared.send(request())
    assert (await shared.answer())[0] == 200


async def test_a_term_of_another_place_is_not_asked(shared: Client) -> None:
    """The hub knows a newer document than this guard, or an older one; or another Redis answers here."""
    shared.parts.counters.place = "there"
    shared.send(request())
    assert (await shared.answer())[1]["x-sw-reason"] == "SW2503"
    assert shared.parts.counters.asked == 0


async def test_an_answer_that_comes_after_the_end_of_the_term_does_not_count(shared: Client) -> None:
    """Others may use up the whole limit by shares then."""
    shared.parts.counters.answers.clear()
    shared.send(request())
    await shared.parts.counters.asked_times(1)
    shared.parts.state.term = ""
    shared.parts.counters.answers.set()
    assert (await shared.answer())[1]["x-sw-reason"] == "SW2503"


@pytest.mark.parametrize("where", ["gateway", "limit"])
async def test_what_only_audits_lets_messages_pass_without_an_answer(shared: Client, where: str) -> None:
    parts = shared.parts
    if where == "gateway":
        parts.state.policy.set_gateway(gateway_view(builders.gateway(audit=True)))
    else:
        limits = [Limit(1, 60, 3, audit=True)]
        account = builders.account("acme", builders.key("one"), limits=limits)
        parts.state.policy.set_shard(0, builders.shard(account))
    parts.counters.reachable = False
    shared.send(request())
    status, headers, _ = await shared.answer()
    assert (status, headers["x-sw-reason"]) == (200, "SW2503")


async def test_a_connection_that_ends_meanwhile_harms_nobody(shared: Client) -> None:
    counters = shared.parts.counters
    counters.answers.clear()
    shared.send(request())
    await counters.asked_times(1)
    shared.writer.close()
    await shared.writer.wait_closed()
    counters.answers.set()
    again = Client(*await asyncio.open_unix_connection(shared.path), shared.parts, shared.path)
    again.send(request())
    assert (await again.answer())[0] == 200
    again.writer.close()


async def test_between_a_term_and_shares_no_account_is_blamed(shared: Client) -> None:
    """Nor before the hub has said by which to limit."""
    state = shared.parts.state

    async def code() -> str:
        shared.send(request())
        return (await shared.answer())[1]["x-sw-reason"]

    state.term = ""
    state.limiter.set_shares(1, 0, {"account-acme": 0})
    assert await code() == "SW2501"  # the hub has shares for others, and none for it
    counted = structs.replace(builders.gateway(), counters=Redis("redis"))
    state.policy.set_gateway(gateway_view(counted))
    assert await code() == "SW2503"
    state.policy.set_gateway(gateway_view(structs.replace(counted, audit=True)))
    shared.send(request())
    status, headers, _ = await shared.answer()
    assert (status, headers["x-sw-reason"]) == (200, "SW2503")
    state.policy.set_gateway(gateway_view(counted))
    state.limiter.set_shares(2, 0, {"another": PPM})
    assert await code() == "SW2501"
    state.policy.set_shard(0, builders.shard(builders.account("acme", builders.key("one"))))
    state.limiter.set_shares(3, 0, {})
    assert await code() == "SW2000"
