"""The client's contract with an API server: the same suite holds the fake and the real one to it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

import pytest

from sendward.apply import kinds
from sendward.apply.kube import KubeClient
from sendward.apply.ports import Gone, Object, WatchEvent
from sendward.errors import Conflict, Forbidden, NotFound, Rejected, Unavailable
from tests.fakes.kube import FakeKube
from tests.fakes.memory import MemoryKube

NOBODY = "11111111-1111-1111-1111-111111111111"


Client = KubeClient | MemoryKube


@pytest.fixture(params=["memory", "fake", pytest.param("real", marks=pytest.mark.lab)])
async def kube(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    if request.param == "memory":
        yield MemoryKube()
        return
    if request.param == "fake":
        async with FakeKube() as fake:
            client = KubeClient(fake.url)
            yield client
            await client.close()
        return
    lab = request.getfixturevalue("apiserver")
    client = KubeClient(lab.apiserver_url, token=lab.admin_token, ca_file=str(lab.ca_file))
    yield client
    await client.close()


@pytest.fixture
async def place(kube: Client) -> AsyncIterator[str]:
    name = f"t-{uuid.uuid4().hex[:8]}"
    await kube.create(kinds.NAMESPACE, {"metadata": {"name": name}})
    yield name
    await kube.delete(kinds.NAMESPACE, None, name)


def config(place: str, name: str = "one", **data: str) -> Object:
    return {"metadata": {"name": name, "namespace": place}, "data": data}


async def test_create_get_replace_delete(kube: Client, place: str) -> None:
    made = await kube.create(kinds.CONFIG_MAP, config(place, a="1"))
    assert (await kube.get(kinds.CONFIG_MAP, place, "one"))["data"] == {"a": "1"}
    made["data"] = {"a": "2"}
    changed = await kube.replace(kinds.CONFIG_MAP, made)
    assert int(changed["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
    with pytest.raises(Conflict):
        await kube.replace(kinds.CONFIG_MAP, {**made, "data": {"a": "3"}})
    await kube.delete(kinds.CONFIG_MAP, place, "one")
    await kube.delete(kinds.CONFIG_MAP, place, "one")
    with pytest.raises(NotFound):
        await kube.get(kinds.CONFIG_MAP, place, "one")


async def test_a_taken_name_is_a_conflict(kube: Client, place: str) -> None:
    await kube.create(kinds.CONFIG_MAP, config(place))
    with pytest.raises(Conflict):
        await kube.create(kinds.CONFIG_MAP, config(place))


async def test_apply_keeps_what_others_own_and_drops_what_we_left_out(kube: Client, place: str) -> None:
    await kube.create(kinds.CONFIG_MAP, config(place, theirs="x"))
    await kube.apply(kinds.CONFIG_MAP, config(place, a="1", b="1"))
    after = await kube.apply(kinds.CONFIG_MAP, config(place, b="2"))
    assert after["data"] == {"theirs": "x", "b": "2"}


async def test_apply_of_the_same_writes_nothing(kube: Client, place: str) -> None:
    first = await kube.apply(kinds.CONFIG_MAP, config(place, a="1"))
    again = await kube.apply(kinds.CONFIG_MAP, config(place, a="1"))
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_apply_with_a_uid_never_recreates(kube: Client, place: str) -> None:
    ghost = config(place, a="1")
    ghost["metadata"]["uid"] = NOBODY
    with pytest.raises(NotFound):
        await kube.apply(kinds.CONFIG_MAP, ghost)
    await kube.create(kinds.CONFIG_MAP, config(place))
    with pytest.raises(NotFound):
        await kube.apply(kinds.CONFIG_MAP, ghost)


async def test_apply_with_an_old_version_is_a_conflict(kube: Client, place: str) -> None:
    made = await kube.create(kinds.CONFIG_MAP, config(place))
    await kube.apply(kinds.CONFIG_MAP, config(place, a="1"))
    late = config(place, a="2")
    late["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"]
    with pytest.raises(Conflict):
        await kube.apply(kinds.CONFIG_MAP, late)


async def test_finalizers_hold_an_object_until_they_are_dropped(kube: Client, place: str) -> None:
    wanted = config(place)
    wanted["metadata"]["finalizers"] = ["sendward.io/revoke-first"]
    made = await kube.apply(kinds.CONFIG_MAP, wanted)
    await kube.delete(kinds.CONFIG_MAP, place, "one", uid=made["metadata"]["uid"])
    held = await kube.get(kinds.CONFIG_MAP, place, "one")
    assert held["metadata"]["deletionTimestamp"]
    free = config(place)
    free["metadata"]["uid"] = made["metadata"]["uid"]
    await kube.apply(kinds.CONFIG_MAP, free)
    with pytest.raises(NotFound):
        await kube.get(kinds.CONFIG_MAP, place, "one")


async def test_delete_leaves_another_object_of_that_name_alone(kube: Client, place: str) -> None:
    await kube.create(kinds.CONFIG_MAP, config(place))
    await kube.delete(kinds.CONFIG_MAP, place, "one", uid=NOBODY)
    assert await kube.get(kinds.CONFIG_MAP, place, "one")


async def test_json_patch(kube: Client, place: str) -> None:
    made = await kube.create(kinds.CONFIG_MAP, config(place, a="1"))
    test = {"op": "test", "path": "/metadata/uid", "value": made["metadata"]["uid"]}
    change = {"op": "replace", "path": "/data/a", "value": "2"}
    after = await kube.patch(kinds.CONFIG_MAP, place, "one", [test, change])
    assert after["data"] == {"a": "2"}
    with pytest.raises(Conflict):
        await kube.patch(kinds.CONFIG_MAP, place, "one", [{**test, "value": NOBODY}, change])


async def test_pages_follow_the_continue_token(kube: Client, place: str) -> None:
    for number in range(7):
        await kube.create(kinds.CONFIG_MAP, config(place, f"page-{number}"))
    names: list[str] = []
    token = ""
    while True:
        page = await kube.page(kinds.CONFIG_MAP, namespace=place, limit=3, continue_token=token)
        names += [item["metadata"]["name"] for item in page.items]
        token = page.continue_token
        if not token:
            break
        assert len(page.items) == 3
    assert [name for name in names if name.startswith("page-")] == [f"page-{n}" for n in range(7)]


async def test_metadata_only_carries_no_data(kube: Client, place: str) -> None:
    secret = {"metadata": {"name": "s", "namespace": place, "labels": {"p": "q"}}, "stringData": {"k": "v"}}
    await kube.create(kinds.SECRET, secret)
    page = await kube.page(kinds.SECRET, namespace=place, label_selector="p=q", metadata_only=True)
    assert [item["metadata"]["name"] for item in page.items] == ["s"]
    assert not {"data", "stringData"} & set(page.items[0])
    assert not (await kube.page(kinds.SECRET, namespace=place, label_selector="p=z")).items


async def _next(stream: AsyncIterator[WatchEvent], count: int) -> list[tuple[str, str]]:
    got: list[tuple[str, str]] = []
    async with asyncio.timeout(20):
        async for event in stream:
            if event.type != "BOOKMARK":
                got.append((event.type, event.object["metadata"]["name"]))
            if len(got) == count:
                break
    return got


async def test_watch_tells_every_change_and_leaving_the_selector_as_deletion(
    kube: Client, place: str
) -> None:
    page = await kube.page(kinds.CONFIG_MAP, namespace=place)
    marked = config(place, a="x" * 600_000)  # a line above every limit of aiohttp's readline
    marked["metadata"]["labels"] = {"mine": "yes"}
    await kube.create(kinds.CONFIG_MAP, marked)
    await kube.create(kinds.CONFIG_MAP, config(place, "other"))
    await kube.patch(kinds.CONFIG_MAP, place, "one", [{"op": "remove", "path": "/data/a"}])
    await kube.patch(kinds.CONFIG_MAP, place, "one", [{"op": "remove", "path": "/metadata/labels"}])
    stream = kube.watch(kinds.CONFIG_MAP, page.resource_version, namespace=place, label_selector="mine=yes")
    async with aclosing(cast("Any", stream)) as events:
        assert await _next(events, 3) == [("ADDED", "one"), ("MODIFIED", "one"), ("DELETED", "one")]


async def test_a_watch_ends_in_time_without_an_error(kube: Client, place: str) -> None:
    page = await kube.page(kinds.CONFIG_MAP, namespace=place)
    stream = kube.watch(kinds.CONFIG_MAP, page.resource_version, namespace=place, timeout_seconds=1)
    assert await _next(stream, 1) == []


async def test_an_unknown_token_is_not_authenticated(kube: Client) -> None:
    assert not (await kube.review_token("nonsense", "sendward")).authenticated


async def test_requests_are_counted_by_verb_and_kind(kube: Client, place: str) -> None:
    await kube.apply(kinds.CONFIG_MAP, config(place))
    await kube.page(kinds.CONFIG_MAP, namespace=place)
    assert (kube.calls["apply", "ConfigMap"], kube.calls["list", "ConfigMap"]) == (1, 1)


# Faults, which only the fake can be told to have.


@pytest.fixture
async def fake() -> AsyncIterator[FakeKube]:
    async with FakeKube() as server:
        yield server


@pytest.fixture
async def client(fake: FakeKube) -> AsyncIterator[KubeClient]:
    one = KubeClient(fake.url)
    yield one
    await one.close()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Rejected),
        (401, Forbidden),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (410, Gone),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
async def test_statuses_become_errors(
    fake: FakeKube, client: KubeClient, status: int, error: type[Exception]
) -> None:
    fake.fail(status, body="<html>secret</html>")
    with pytest.raises(error) as caught:
        await client.get(kinds.CONFIG_MAP, "n", "one")
    assert "secret" not in str(caught.value)


async def test_retry_after_is_told(fake: FakeKube, client: KubeClient) -> None:
    fake.fail(429, retry_after="7")
    with pytest.raises(Unavailable) as caught:
        await client.get(kinds.CONFIG_MAP, "n", "one")
    assert caught.value.retry_after == 7


async def test_a_lost_answer_is_unavailable_and_the_write_is_not_repeated(
    fake: FakeKube, client: KubeClient
) -> None:
    fake.fail("lose")
    with pytest.raises(Unavailable):
        await client.create(kinds.CONFIG_MAP, config("n"))
    assert fake.count("POST") == 1
    assert len(fake.objects(kinds.CONFIG_MAP)) == 1


async def test_an_old_watch_is_gone(fake: FakeKube, client: KubeClient) -> None:
    page = await client.page(kinds.CONFIG_MAP)
    await client.create(kinds.CONFIG_MAP, config("n"))
    fake.expire()
    with pytest.raises(Gone):
        await _next(client.watch(kinds.CONFIG_MAP, page.resource_version), 1)


async def test_status_is_apart_and_only_the_spec_counts_generations(
    fake: FakeKube, client: KubeClient
) -> None:
    account: Object = {"metadata": {"name": "a", "namespace": "n"}, "spec": {"gateways": ["g"]}}
    made = await client.create(kinds.SENDER_ACCOUNT, account)
    assert made["status"] == {"observedGeneration": -1}
    status = {"metadata": {"name": "a", "namespace": "n"}, "status": {"observedGeneration": 1}}
    after = await client.apply(kinds.SENDER_ACCOUNT, status, subresource="status")
    assert (after["status"], after["metadata"]["generation"]) == ({"observedGeneration": 1}, 1)
    account["spec"] = {"gateways": ["g", "h"]}
    account["status"] = {"observedGeneration": 9}
    changed = await client.apply(kinds.SENDER_ACCOUNT, account)
    assert (changed["status"], changed["metadata"]["generation"]) == ({"observedGeneration": 1}, 2)
