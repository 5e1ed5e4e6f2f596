"""Guard and Envoy together, as in a pod: real processes, real sockets, a real stream to a small hub."""

from __future__ import annotations

import asyncio
import signal

import aiohttp
import pytest
from yarl import URL

from sendward import names
from sendward.document import Limit, Shard
from sendward.protocol import PPM, Ack, Hello, Leave, Nack, Part, Portions, Report, Shares, SharesAck
from tests.guard import builders
from tests.guard.harness import Harness, eventually

GOOD = builders.credential("one")
BEARER = {"authorization": f"Bearer {GOOD.value}"}


def one_account(*, revoked: bool = False, limits: list[Limit] | None = None) -> Shard:
    key = builders.key("one", GOOD.version(revoked=revoked))
    return builders.shard(builders.account("acme", key, limits=limits))


async def give(pod: Harness, shard: Shard, **gateway: object) -> None:
    """A whole document over the hub, in force and ready."""
    await pod.hub.wait_for(Hello)
    content = builders.gateway(
        envoy=pod.files(),
        application_port=pod.application_port,
        **gateway,  # type: ignore[arg-type]
    )
    await pod.hub.send(Part(builders.sealed(content, 1)))
    await pod.hub.send(Part(builders.sealed(shard, 1)))
    await pod.hub.wait_for(Ack, lambda ack: ack.part == "gateway")
    await pod.hub.wait_for(Ack, lambda ack: ack.part == "0")
    await pod.hub.send(Shares(round=1, default=PPM, filled=Portions(PPM)))
    await pod.hub.wait_for(SharesAck)
    await eventually(pod.ready, "readiness")


async def test_nothing_listens_without_a_document(pod: Harness) -> None:
    assert await pod.probe("/ready") == (503, ["NoDocument"])
    with pytest.raises(aiohttp.ClientConnectorError):
        await pod.send(BEARER)


async def test_good_key_passes_with_identity_and_is_reported(pod: Harness) -> None:
    await give(pod, one_account())
    status, _, _ = await pod.send({**BEARER, "x-sw-account": "spoofed", "x-sw-source": "203.0.113.9"})
    assert status == 200
    (received,) = pod.received
    assert received[names.HEADER_ACCOUNT] == "acme"
    assert received[names.HEADER_KEY] == GOOD.id
    report = await pod.hub.wait_for(Report, lambda report: bool(report.demand))
    assert report.demand == {"account-acme": 1, "key-one": 1}
    assert set(report.last_used) == {GOOD.id}


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "SW2201"),
        ([("x-api-key", GOOD.value), ("x-api-key", GOOD.value)], 401, "SW2202"),
        ({"x-api-key": f"{GOOD.value},{GOOD.value}"}, 401, "SW2202"),
        ({**BEARER, "x-api-key": GOOD.value}, 401, "SW2202"),
        ({"x-api-key": GOOD.value[:-1] + "!"}, 401, "SW2203"),
        ({"x-api-key": builders.credential("unknown").value}, 401, "SW2204"),
    ],
)
async def test_bad_keys_are_refused(pod: Harness, headers: dict[str, str], status: int, code: str) -> None:
    await give(pod, one_account())
    answer = await pod.send(headers)
    assert answer[0] == status
    assert answer[2]["code"] == code
    assert answer[1]["content-type"] == "application/problem+json"
    assert answer[1]["www-authenticate"] == "Bearer"
    assert pod.received == []


async def test_limit_answers_429_with_retry_after(pod: Harness) -> None:
    await give(pod, one_account(limits=[Limit(messages=1, period=3600, burst=2)]))
    answers = [await pod.send(BEARER) for _ in range(3)]
    assert [status for status, _, _ in answers] == [200, 200, 429]
    _, headers, problem = answers[2]
    assert problem["code"] == "SW2501"
    assert 3500 <= int(headers["retry-after"]) <= 3600


async def test_revocation_reaches_an_open_connection(pod: Harness) -> None:
    await give(pod, one_account())
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        assert (await pod.send(BEARER, session=session))[0] == 200
        await pod.hub.send(Part(builders.sealed(one_account(revoked=True), 2)))
        await pod.hub.wait_for(Ack, lambda ack: (ack.part, ack.revision) == ("0", 2))
        status, _, problem = await pod.send(BEARER, session=session)
    assert (status, problem["code"]) == (401, "SW2205")


async def test_dead_guard_refuses_and_its_successor_needs_no_hub(pod: Harness) -> None:
    await give(pod, one_account())
    pod.kill_guard()
    assert (await pod.send(BEARER))[0] == 503
    await pod.hub.stop()
    pod.start_guard()
    await eventually(pod.ready, "readiness from the documents on disk")
    assert (await pod.send(BEARER))[0] == 200


async def test_forged_old_and_foreign_parts_are_refused(pod: Harness) -> None:
    await give(pod, one_account(revoked=True))
    open_shard = one_account()
    parts = {
        "signature": builders.sealed(open_shard, 9, signer=builders.FORGER),
        "belongs to gateway": builders.sealed(open_shard, 9, gateway_uid="another"),
        "epoch 0 revision 9": builders.sealed(open_shard, 9, epoch=0),
        "epoch 1 revision 1": builders.sealed(open_shard, 1),
    }
    for reason, part in parts.items():
        await pod.hub.send(Part(part))
        await pod.hub.wait_for(Nack, lambda nack, reason=reason: reason in nack.message)  # type: ignore[misc]
    assert (await pod.send(BEARER))[2]["code"] == "SW2205"


async def test_refused_configuration_keeps_the_old_one_serving(pod: Harness) -> None:
    await give(pod, one_account())
    before = pod.path(names.PATH_LDS).read_bytes()
    bad = builders.gateway(envoy=pod.files(broken=True), cidrs=[], application_port=pod.application_port)
    await pod.hub.send(Part(builders.sealed(bad, 2)))
    nack = await pod.hub.wait_for(Nack)
    assert (nack.part, nack.revision) == ("gateway", 2)
    assert "Envoy refused the listeners" in nack.message
    assert pod.path(names.PATH_LDS).read_bytes() == before
    assert (await pod.send(BEARER))[0] == 200
    good = builders.gateway(envoy=pod.files(), application_port=pod.application_port)
    await pod.hub.send(Part(builders.sealed(good, 3)))
    await pod.hub.wait_for(Ack, lambda ack: (ack.part, ack.revision) == ("gateway", 3))


async def test_mounted_parts_are_followed_without_the_hub(pod: Harness) -> None:
    await pod.hub.stop()
    content = builders.gateway(envoy=pod.files(), application_port=pod.application_port)
    mount = pod.path(names.PATH_DOCUMENT)
    (mount / "0").write_bytes(builders.sealed(one_account(), 1))
    (mount / "gateway").write_bytes(builders.sealed(content, 1))
    await eventually(pod.ready, "readiness from mounted parts")
    assert (await pod.send(BEARER))[0] == 200
    (mount / "new").write_bytes(builders.sealed(one_account(revoked=True), 2))
    (mount / "new").rename(mount / "0")

    async def refused() -> bool:
        return (await pod.send(BEARER))[0] == 401

    await eventually(refused, "revocation from the mounted part")


async def test_stale_document_refuses_everything(pod: Harness) -> None:
    await give(pod, one_account(), stale_after=1)
    pod.hub.standby = True
    await pod.hub.stop()

    async def stale() -> bool:
        status, headers, problem = await pod.send(BEARER)
        return (status, problem.get("code"), headers.get("retry-after")) == (503, "SW2002", "1")

    await eventually(stale, "refusal after staleAfter")
    assert (await pod.probe("/ready"))[1] == ["DocumentStale"]


async def test_listening_beside_loopback_is_not_ready(pod: Harness) -> None:
    async def unused(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(unused, "0.0.0.0", 0)
    await pod.hub.wait_for(Hello)
    content = builders.gateway(
        envoy=pod.files(), application_port=server.sockets[0].getsockname()[1], shards=1
    )
    await pod.hub.send(Shares(round=1, default=PPM, filled=Portions(PPM)))
    await pod.hub.send(Part(builders.sealed(one_account(), 1)))
    await pod.hub.send(Part(builders.sealed(content, 1)))
    await pod.hub.wait_for(Ack, lambda ack: ack.part == "gateway")
    assert await pod.probe("/ready") == (503, ["ApplicationExposed"])
    server.close()
    await server.wait_closed()
    await eventually(pod.ready, "readiness after the application left")


async def test_probes_and_metrics_are_forwarded(pod: Harness) -> None:
    await give(pod, one_account())
    await pod.send(BEARER)
    assert (await pod.probe("/app/app/readiness"))[0] == 200
    assert (await pod.probe("/app/app/liveness"))[0] == 200
    assert (await pod.probe("/app/app/startup"))[0] == 503
    assert (await pod.probe("/app/other/readiness"))[0] == 404
    texts = []
    for path in ("/metrics", "/metrics/guard", "/ready"):
        async with pod.session.get(f"http://127.0.0.1:{pod.metrics_port}{path}") as answer:
            assert answer.status == 200
            texts.append(await answer.text())
    assert 'sendward_messages_total{account="acme",decision="Allow"' in texts[1]
    async with pod.session.get(f"http://127.0.0.1:{pod.metrics_port}/config_dump") as answer:
        assert answer.status == 404


async def test_nothing_secret_on_disk_or_in_logs_and_sigterm_ends_it(pod: Harness) -> None:
    await give(pod, one_account())
    await pod.send(BEARER)
    await pod.send({"x-api-key": GOOD.value[:-1]})
    assert pod.envoy is not None
    assert pod.guard is not None
    pod.envoy.terminate()
    pod.envoy.wait()
    pod.guard.send_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        assert await asyncio.to_thread(pod.guard.wait) == 0
    for path in pod.path("").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert GOOD.secret.encode() not in content, path
            assert b"447700900123" not in content, path


async def test_a_standby_is_left_and_a_new_hub_learns_what_is_in_force(pod: Harness) -> None:
    await give(pod, one_account())
    await pod.hub.stop()
    pod.hub.standby = True
    pod.hub.token = "token-2"
    pod.hub.messages.clear()
    await pod.hub.start(pod.hub.port)

    async def tried_twice() -> bool:
        return pod.hub.refused > 1

    await eventually(tried_twice, "a second try at a standby")
    pod.path(names.PATH_TOKEN).write_text("token-2")
    pod.hub.standby = False
    hello = await pod.hub.wait_for(Hello)
    assert hello.highest_epoch == 1
    assert {part: have.revision for part, have in hello.parts.items()} == {"gateway": 1, "0": 1}
    assert hello.shares == Shares(round=1, default=PPM)
    assert (await pod.send(BEARER))[0] == 200


async def test_a_guard_that_is_killed_again_and_again_lets_no_more_pass(pod: Harness) -> None:
    """Its successor limits by the same share, with empty buckets, also without the hub."""
    await give(pod, one_account(limits=[Limit(messages=1, period=3600, burst=4)]))
    assert (await pod.send(BEARER))[0] == 200
    await pod.hub.stop()
    for _ in range(3):
        pod.kill_guard()
        pod.start_guard()
        await eventually(pod.ready, "readiness")
        assert (await pod.send(BEARER))[0] == 429
    pod.hub.messages.clear()
    await pod.hub.start(pod.hub.port)
    assert (await pod.hub.wait_for(Hello)).shares == Shares(round=1, default=PPM)


async def test_a_guard_that_ends_gives_back_what_is_left(pod: Harness) -> None:
    await give(pod, one_account(limits=[Limit(messages=1, period=3600, burst=4)]))
    assert (await pod.send(BEARER))[0] == 200
    assert pod.guard is not None
    assert pod.envoy is not None
    pod.envoy.kill()
    pod.envoy.wait()
    pod.guard.terminate()
    leave = await pod.hub.wait_for(Leave)
    assert leave.freed.default == PPM
    assert 750_000 <= leave.freed.subjects["account-acme"] < 760_000
    await asyncio.to_thread(pod.guard.wait)
    pod.hub.messages.clear()
    pod.start_guard()
    hello = await pod.hub.wait_for(Hello)
    assert hello.shares is None


async def test_a_smaller_share_limits_at_once(pod: Harness) -> None:
    await give(pod, one_account(limits=[Limit(messages=1, period=3600, burst=10)]))
    await pod.hub.send(Shares(round=2, default=PPM, subjects={"account-acme": PPM // 5}))
    await pod.hub.wait_for(SharesAck, lambda ack: ack.round == 2)
    assert [(await pod.send(BEARER))[0] for _ in range(3)] == [200, 200, 429]


async def test_shards_and_newer_gateway_parts_do_not_wait_for_envoy(pod: Harness) -> None:
    assert pod.envoy is not None
    pod.envoy.kill()
    pod.envoy.wait()
    await pod.hub.wait_for(Hello)
    for revision in (1, 2):
        content = builders.gateway(envoy=pod.files(broken=revision == 1), pods=revision)
        await pod.hub.send(Part(builders.sealed(content, revision)))
    await pod.hub.send(Part(builders.sealed(one_account(), 1)))
    await pod.hub.wait_for(Ack, lambda ack: ack.part == "0")
    assert not any(isinstance(message, Ack) and message.part == "gateway" for message in pod.hub.messages)
    pod.start_envoy()
    ack = await pod.hub.wait_for(Ack, lambda ack: ack.part == "gateway")
    assert ack.revision == 2
    assert not any(isinstance(message, Nack) for message in pod.hub.messages)


async def test_a_deleted_gateway_refuses_before_envoy_is_asked(pod: Harness) -> None:
    await give(pod, one_account())
    deleted = builders.gateway(envoy=pod.files(), application_port=pod.application_port, deleted=True)
    await pod.hub.send(Part(builders.sealed(deleted, 2)))
    await pod.hub.wait_for(Ack, lambda ack: (ack.part, ack.revision) == ("gateway", 2))
    status, _, problem = await pod.send(BEARER)
    assert (status, problem["code"]) == (503, "SW2003")


async def test_oversized_and_odd_requests_never_reach_the_application(pod: Harness) -> None:
    await give(pod, one_account())
    status, _, _ = await pod.send(BEARER, {"to": "1" * 70_000, "from": "ACME", "text": "x"})
    assert status == 413
    for path in ("/v1/messages/%2e%2e/x", "/v1//messages", "/v1/messages/..%2fx", "/v1/messages/a;b"):
        url = URL(f"http://127.0.0.1:{pod.port}{path}", encoded=True)
        async with pod.session.get(url, headers=BEARER) as answer:
            assert answer.status == 400, path
    async with pod.session.head(f"http://127.0.0.1:{pod.port}/v1/messages", headers=BEARER) as answer:
        assert answer.status == 405
    assert pod.received == []
    assert (await pod.send(BEARER))[0] == 200
