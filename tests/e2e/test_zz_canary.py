"""After everything else: no key value that was ever issued, and no phone number, lies where it should not."""

import asyncio
import base64
import gzip
import os
import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from sendward import document, names
from tests.e2e.support import RECIPIENT, Record, Tenant, answer, exchange
from tests.lab.servers import NEEDS
from tests.lab.stack import SYSTEM, Stack, eventually

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="session")]

HEAD = len("swk_") + 10 + 1  # of a key: prefix, id, and the sign before the secret
SECRET = 43
NUMBERS = (RECIPIENT, "15550001111", "15550002222")


def forms(text: str) -> Iterator[bytes]:
    """A value as it could be written down."""
    raw = text.encode()
    yield raw
    yield urllib.parse.quote(text, safe="").encode()
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    # Inside a longer base64 text the value stands at one of three offsets; the ends depend on its neighbours.
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for offset in range(3):
            yield encode(b"\0" * offset + raw)[4 * bool(offset) : -4].rstrip(b"=")


@pytest.fixture
def canaries(record: Record) -> list[bytes]:
    """Every key of the session, and its secret part alone, in every form."""
    return sorted(
        {form for key in record.keys for part in (key, key[HEAD : HEAD + SECRET]) for form in forms(part)}
    )


class Search:
    """Collects where a canary was found."""

    def __init__(self, canaries: list[bytes]) -> None:
        self._pattern = re.compile(b"|".join(map(re.escape, canaries)))
        self.found: list[str] = []
        self.searched = 0

    def text(self, where: str, content: bytes | str) -> None:
        raw = content.encode() if isinstance(content, str) else content
        self.searched += len(raw)
        if match := self._pattern.search(raw):
            self.found.append(
                f"{where} at {match.start()}: {raw[max(0, match.start() - 60) : match.start()]!r}"
            )

    def file(self, path: Path) -> None:
        try:
            self.text(str(path), path.read_bytes())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return  # a process that ended meanwhile


async def test_the_record_is_not_empty(tenant: Tenant, record: Record) -> None:
    """Also a key that was rotated: both of its values are looked for."""
    first = await tenant.key("acme-shop")
    await tenant.patch("akey", "acme-shop", {"spec": {"rotateNonce": "canary"}})

    async def rotated() -> bool:
        return await tenant.key("acme-shop") != first

    await eventually(rotated, "the key is rotated", seconds=30)
    pod = await tenant.pod()
    for key in (first, await tenant.key("acme-shop")):
        await tenant.send(pod, key)
        await tenant.send(pod, key, path=f"/v1/messages?api_key={key}")
        await tenant.raw(pod, f"GET /{key} HTTP/1.1\r\nhost: {key}\r\nx-api-key: {key}x\r\n\r\n".encode())
    await record.note(tenant.stack, tenant.namespace)
    assert len(record.keys) >= 4
    search = Search(sorted({form for key in record.keys for form in forms(key)}))
    for form in (base64.b64encode(b"x" + first.encode()), urllib.parse.quote(first), first.encode().hex()):
        search.text("itself", form)
    assert len(search.found) == 3


async def test_logs(stack: Stack, canaries: list[bytes]) -> None:
    """Of every container that ran, of the servers, and Vault's audit (which hashes values)."""
    search = Search(canaries)
    logs = list((stack.lab.directory / "pods" / "logs").glob("*.log"))
    assert len(logs) >= 6
    servers = [stack.lab.log(name) for name in NEEDS]
    for path in [*logs, *servers, stack.lab.vault_audit_log, stack.lab.audit_log]:
        search.file(path)
    assert search.found == []
    assert search.searched > 100_000


async def test_no_phone_number_in_the_logs_of_the_sidecar_and_operator(stack: Stack) -> None:
    search = Search([number.lstrip("+").encode() for number in NUMBERS])
    for path in (stack.lab.directory / "pods" / "logs").glob("*.log"):
        if (
            path.stem.rpartition("_")[2] in (names.GUARD_CONTAINER, names.PROXY_CONTAINER)
            or SYSTEM in path.stem
        ):
            search.file(path)
    assert search.found == []
    assert search.searched > 10_000


async def test_objects(tenant: Tenant, record: Record, canaries: list[bytes]) -> None:
    """Everything in the API server but the Secrets that hand keys over; also what tests have deleted."""
    search = Search(canaries)
    await record.dump(tenant.stack, tenant.namespace)
    await record.dump(tenant.stack, SYSTEM)
    dumps = list(record.folder.glob("*.json"))
    for path in dumps:
        search.file(path)
    for scope in ("--namespaced=false", "--namespaced"):
        kinds = (await tenant.stack.kubectl("api-resources", scope, "--verbs=list", "-o", "name")).split()
        wanted = ",".join(kind for kind in kinds if kind != "secrets")
        search.text(
            scope, await tenant.stack.kubectl("get", wanted, "-A", "-o", "json", "--show-managed-fields")
        )
    assert search.found == []
    assert search.searched > 100_000


async def test_documents(tenant: Tenant, canaries: list[bytes]) -> None:
    """Decoded and unpacked: verifiers only."""
    search = Search(canaries)
    selector = f"{names.LABEL_PART}=document"
    listed = await tenant.stack.listing("secrets", "", "-l", selector)
    assert len(listed) >= 17
    verifiers = 0
    for secret in listed:
        envelope = document.decode(base64.b64decode(secret["data"]["document"]))
        content = gzip.decompress(envelope.payload)
        verifiers += content.count(b'"digest"')
        search.text(secret["metadata"]["name"], content)
    assert verifiers >= 4  # it is the right place to look
    assert search.found == []


async def test_envoy_and_metrics(tenant: Tenant, stack: Stack, canaries: list[bytes]) -> None:
    """Envoy's configuration and statistics on its admin socket; the metrics of all processes."""
    search = Search(canaries)
    pod = await tenant.pod()
    run = stack.runner.volume_path(tenant.namespace, pod["metadata"]["name"], names.VOLUME_RUN)
    for path in ("/config_dump?include_eds", "/stats", "/clusters", "/server_info"):
        search.text(path, await _admin(run / Path(names.PATH_ADMIN_SOCKET).name, path))
    for path in ("/metrics", "/metrics/guard"):
        reader, writer = await tenant.client.open_connection(pod["status"]["podIP"], names.PORT_METRICS)
        writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        search.text(path, (await answer(reader)).body)
        writer.close()
    for operator in await stack.pods(SYSTEM, "app.kubernetes.io/name=sendward"):
        address = operator["status"]["podIP"]
        reader, writer = await asyncio.open_connection(address, names.PORT_OPERATOR_PROBE)
        search.text(
            "operator", (await exchange(reader, writer, b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")).body
        )
    assert search.found == []
    assert search.searched > 50_000


async def _admin(path: Path, target: str) -> bytes:
    folder = os.open(path.parent, os.O_PATH)  # the path of a socket may have 107 characters only
    try:
        reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
    return (await exchange(reader, writer, f"GET {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode())).body


async def test_processes_and_volumes(tenant: Tenant, stack: Stack, canaries: list[bytes]) -> None:
    """No argument, no environment, and no file of a sidecar holds a key."""
    search = Search(canaries)
    for process in (entry for entry in os.listdir("/proc") if entry.isdigit()):
        for name in ("cmdline", "environ"):
            search.file(Path("/proc", process, name))
    pod = await tenant.pod()
    volumes = [
        volume["name"] for volume in pod["spec"]["volumes"] if volume["name"].startswith(names.VOLUME_PREFIX)
    ]
    for name in volumes:
        for path in stack.runner.volume_path(tenant.namespace, pod["metadata"]["name"], name).rglob("*"):
            if path.is_file():
                search.file(path)
    assert search.found == []
    assert search.searched > 10_000
