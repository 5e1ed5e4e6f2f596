"""The story, first part: who may send what from where."""

from __future__ import annotations

import base64
import json
import re
import ssl
import sys
import time
from functools import partial
from typing import Any

from sendward import keyformat, names
from sendward.verdict import Reason
from tests.lab.client import PORT, SERVER_NAME
from tests.lab.stack import eventually
from tests.lab.story_stage import (
    PODS,
    RESOURCES,
    Stage,
    Step,
    expect,
    old_tls,
    on_all,
    until_answer,
)

HOOLI: list[dict[str, Any]] = [
    {
        "apiVersion": names.API_VERSION,
        "kind": "APIKeyPolicy",
        "metadata": {"name": "hooli"},
        "spec": {"rotation": {"overlap": "1h"}},
    },
    {
        "apiVersion": names.API_VERSION,
        "kind": "SenderAccount",
        "metadata": {"name": "hooli"},
        "spec": {"displayName": "Hooli", "gateways": ["sms"], "policies": {"apiKey": "hooli"}},
    },
    *(
        {
            "apiVersion": names.API_VERSION,
            "kind": "APIKey",
            "metadata": {"name": name},
            "spec": {"account": "hooli"},
        }
        for name in ("hooli-main", "hooli-leaked", "hooli-sealed")
    ),
]
_LAST_MESSAGE = (
    "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8080/debug/last').read().decode())"
)


async def everything_ready(stage: Stage) -> str:
    for kind, name in RESOURCES:
        await stage.ready(kind, name)
    table = await stage.stack.kubectl("get", "sendward", "-n", stage.namespace, "--no-headers")
    count = len([line for line in table.splitlines() if line.strip()])
    return f"{count} resources of policies/quickstart/ say Ready=True for their present generation"


async def good_key(stage: Stage) -> str:
    answers = await on_all(stage, stage.shop.send)
    for answer in answers:
        expect(answer, 202)
    pod = await _pod_of(stage, stage.pods[0])
    seen = await stage.stack.runner.execute(
        stage.namespace, pod, "application", sys.executable, "-c", _LAST_MESSAGE
    )
    last = json.loads(seen.stdout)["last"]
    assert last["sendward"].get(names.HEADER_ACCOUNT) == "acme", f"the application saw {last}"
    assert not any(last["credentials"].values()), f"the key reached the application: {last}"
    times = ", ".join(f"{answer.ms:.0f} ms" for answer in answers)
    return f"202 from both pods ({times}); the application saw account acme, and no key"


async def query_and_form(stage: Stage) -> str:
    kannel = await stage.shop.send(
        stage.pods[0],
        method="GET",
        path="/cgi-bin/sendsms",
        query={"username": "u", "password": "p", "to": "+15550123", "from": "ACME", "text": "Hello"},
    )
    expect(kannel, 202)
    form = {"to": "+15550123", "from": "ACME", "content": "Hello"}
    jasmin = await stage.shop.send(stage.pods[1], path="/send", form=form)
    expect(jasmin, 200)
    message = json.loads((await stage.shop.send(stage.pods[0])).body)["id"]
    status = await stage.shop.send(stage.pods[0], method="GET", path=f"/v1/messages/{message}")
    expect(status, 200)
    return f"query {kannel}, form {jasmin}, status of a message {status}"


async def added_account(stage: Stage) -> str:
    started = time.perf_counter()
    await stage.stack.apply(HOOLI, stage.namespace)

    async def issued() -> str:
        status = (await stage.stack.get("apikey", "hooli-main", stage.namespace)).get("status", {})
        return await stage.key("hooli-main") if status.get("currentVersion") else ""

    stage.hooli.key = await eventually(issued, "a key of hooli in Vault", seconds=20, every=0.02)
    # The verifier is in force before the key can be read: the first message is accepted already.
    for answer in await on_all(stage, stage.hooli.send):
        expect(answer, 202)
    passed = (time.perf_counter() - started) * 1000
    for name in ("hooli-main", "hooli-leaked", "hooli-sealed"):
        await stage.ready("apikey", name)
    return f"read from Vault and accepted by both pods {passed:.0f} ms after `kubectl apply` began"


async def bad_keys(stage: Stage) -> str:
    key = stage.shop.key
    other = stage.otp.key
    cases: dict[str, tuple[list[tuple[str, str]], Reason]] = {
        "wrong": ([("x-api-key", _wrong(key))], Reason.UnknownKey),
        "missing": ([], Reason.MissingKey),
        "doubled": ([("x-api-key", key), ("x-api-key", key)], Reason.MultipleKeys),
        "joined": ([("x-api-key", f"{key}, {other}")], Reason.MultipleKeys),
        "two headers": ([("x-api-key", key), ("authorization", f"Bearer {key}")], Reason.MultipleKeys),
        "malformed": ([("x-api-key", key[:-1])], Reason.MalformedKey),
    }
    happened = []
    for title, (headers, reason) in cases.items():
        for answer in await on_all(stage, partial(stage.shop.send, headers=headers)):
            expect(answer, 401, reason)
        happened.append(f"{title} {reason.code}")
    return f"401 each, by both pods: {', '.join(happened)}"


async def foreign_source(stage: Stage) -> str:
    account = await stage.stranger.send(stage.pods[0])
    expect(account, 403, Reason.SourceNotAllowed)
    key = stage.otp.key
    narrow = await stage.shop.send(stage.pods[0], headers=[("x-api-key", key)])
    expect(narrow, 403, Reason.SourceNotAllowed)
    expect(await stage.otp.send(stage.pods[0]), 202)
    claims = [("x-api-key", key), ("x-sw-source", "10.123.201.10"), ("x-forwarded-for", "10.123.201.10")]
    spoofed = await stage.shop.send(stage.pods[0], headers=claims)
    expect(spoofed, 403, Reason.SourceNotAllowed)
    return (
        f"outside the account's networks {account}; outside the key's {narrow}, 202 from inside;"
        f" with forged x-sw-source and X-Forwarded-For still {spoofed}"
    )


async def foreign_operation(stage: Stage) -> str:
    policy = await stage.shop.send(stage.pods[0], method="GET", path="/v1/balance")
    expect(policy, 403, Reason.OperationNotAllowed)
    key = await stage.otp.send(stage.pods[0], method="GET", path="/v1/messages/1")
    expect(key, 403, Reason.OperationNotAllowed)
    return f"balance, which the policy leaves out, {policy}; status, which the key leaves out, {key}"


async def foreign_sender_id(stage: Stage) -> str:
    message = {"to": "+15550123", "from": "YOURBANK", "text": "Confirm your password"}
    answer = await stage.shop.send(stage.pods[0], message=message)
    expect(answer, 403, Reason.SenderIdNotAllowed)
    return f"acme as YOURBANK: {answer}"


async def suspended(stage: Stage) -> str:
    times = []
    for suspend, status in ((True, 403), (False, 202)):
        await stage.patch("senderaccount", "acme", {"suspend": suspend})
        started = time.perf_counter()
        for pod in stage.pods:
            answer, _ = await until_answer(partial(stage.shop.send, pod), status)
            if suspend:
                expect(answer, 403, Reason.AccountSuspended)
        times.append((time.perf_counter() - started) * 1000)
        await stage.ready("senderaccount", "acme")
    return (
        f"403 {Reason.AccountSuspended.code} by both pods {times[0]:.0f} ms after `suspend: true`,"
        f" 202 again {times[1]:.0f} ms after `suspend: false`"
    )


async def hand_over(stage: Stage) -> str:
    secret = await stage.stack.get("secret", names.hand_over_secret("globex-main"), stage.namespace)
    value = base64.b64decode(secret["data"]["key"]).decode()
    same = value == stage.globex.key
    assert same, "the Secret holds another value than Vault"
    expect(await stage.globex.send(stage.pods[0], headers=[("authorization", f"Bearer {value}")]), 202)
    listed = await stage.stack.kubectl("get", "secrets", "-n", stage.namespace, "-o", "name")
    hands = re.findall(r"secret/(\S+-api-key)", listed)
    assert hands == [names.hand_over_secret("globex-main")], f"Secrets with keys: {hands}"
    return (
        f"Secret {names.hand_over_secret('globex-main')} holds the key that Vault holds; only that account's"
    )


async def old_tls_refused(stage: Stage) -> str:
    told = ""
    try:
        await _handshake(stage, old_tls(stage.tls))
    except ssl.SSLError as error:
        told = error.reason or str(error)
    except ConnectionResetError:
        told = "connection reset"
    assert told, "a TLS 1.2 handshake was accepted"
    version = await _handshake(stage, stage.tls)
    assert version == "TLSv1.3", f"the newest version was {version}"
    return f"TLS 1.2 refused ({told}), TLS 1.3 accepted"


async def _handshake(stage: Stage, tls: ssl.SSLContext) -> str:
    _reader, writer = await stage.shop.place.open_connection(
        stage.pods[0], PORT, ssl=tls, server_hostname=SERVER_NAME
    )
    version = str(writer.get_extra_info("ssl_object").version())
    writer.close()
    await writer.wait_closed()
    return version


async def _pod_of(stage: Stage, address: str) -> str:
    pods = await stage.stack.pods(stage.namespace, PODS)
    return next(str(pod["metadata"]["name"]) for pod in pods if pod["status"].get("podIP") == address)


def _wrong(key: str) -> str:
    """A key that only its digest tells from a good one: its id is known, its checksum is right."""
    key_id = key.split("_")[1]
    return keyformat.encode(key_id, "0" * keyformat.SECRET_WIDTH)


STEPS: tuple[Step, ...] = (
    Step("Every declared resource becomes Ready", everything_ready),
    Step("A message with a good key is accepted, by either pod", good_key),
    Step("Recipient, sender id and text may stand in JSON, in the query or in a form", query_and_form),
    Step("A new account with a key works as soon as its holder can read the key", added_account),
    Step("A wrong, missing, doubled or malformed key is refused with 401", bad_keys),
    Step("A source outside the account's or the key's networks is refused with 403", foreign_source),
    Step("An operation outside the scope is refused with 403", foreign_operation),
    Step("A sender id that the account does not own is refused with 403", foreign_sender_id),
    Step("A suspended account is refused with 403, and accepted again when resumed", suspended),
    Step("The key is handed over in a Secret where the policy says so", hand_over),
    Step("TLS 1.2 is refused", old_tls_refused),
)
