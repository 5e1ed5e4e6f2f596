"""Sends one message in a running demo, as the holder of an API key would, and prints what comes back."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.lab.client import MESSAGE, sender
from tests.lab.http import Api

SOURCE: Final = "10.123.201.200"  # inside the networks of every key of the quickstart


def _get(kubectl: str, namespace: str, *what: str) -> Any:
    command = [kubectl, "get", *what, "-n", namespace, "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stderr.strip())
    return json.loads(done.stdout)


async def _send(arguments: argparse.Namespace) -> None:
    vault = Api(os.environ["VAULT_ADDR"], Path(os.environ["VAULT_CACERT"]))
    token = {"X-Vault-Token": os.environ["VAULT_TOKEN"]}
    status = _get(arguments.kubectl, arguments.namespace, "akey", arguments.key).get("status", {})
    if not status.get("currentVersion"):
        sys.exit(f"error: APIKey {arguments.key} has no current version")
    found = vault.call("GET", f"/v1/sendward/data/{status['vaultPath']}", headers=token)
    authority = vault.call("GET", "/v1/sendward-pki/cert/ca", headers=token)
    tls = ssl.create_default_context(cadata=authority["data"]["certificate"])
    pods = _get(arguments.kubectl, arguments.namespace, "pods", "-l", "sendward.io/gateway=sms")["items"]
    message = {**MESSAGE, "from": arguments.sender_id}
    async with sender(arguments.source, tls, found["data"]["data"]["key"]) as client:
        for pod in pods:
            answer = await client.send(pod["status"]["podIP"], message=message)
            wait = f", Retry-After {answer.retry_after} s" if answer.retry_after else ""
            print(f"{pod['metadata']['name']}: {answer.status}{wait} ({answer.ms:.0f} ms)\n  {answer.body}")


def main() -> None:
    """Send a message through each pod of the gateway `sms`."""
    parser = argparse.ArgumentParser(prog="build/demo/send", description=main.__doc__)
    parser.add_argument("kubectl", help=argparse.SUPPRESS)
    parser.add_argument("namespace", help=argparse.SUPPRESS)
    parser.add_argument("key", help="name of the APIKey, acme-shop say")
    parser.add_argument("--source", default=SOURCE, help=f"address to send from; default {SOURCE}")
    parser.add_argument("--sender-id", default=MESSAGE["from"], help="default %(default)s")
    try:
        asyncio.run(_send(parser.parse_args()))
    except (aiohttp.ClientError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
