"""kopf as shell and watcher: login, probes, and one event handler per kind; nothing else of it.

No create, update, delete or resume handlers (they write annotations and act on diffs), no index, no
timers, no peering. A handler parses, stores and marks dirty; it never raises.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import kopf
import structlog
from kopf._core.engines.peering import Identity

from sendward import names
from sendward.apply import kinds
from sendward.apply.kube import SERVICE_ACCOUNT
from sendward.controller.watch import Resources

_RETRY: Final = 1.0
_log = structlog.get_logger(__name__)

WATCHED = (kinds.MESSAGING_GATEWAY, kinds.API_KEY_POLICY, kinds.RATE_LIMIT_POLICY)


def registry(resources: Resources, url: str, loop: asyncio.AbstractEventLoop) -> kopf.OperatorRegistry:
    """The handlers, bound to our Store, which lives in `loop`."""
    found = kopf.OperatorRegistry()

    @kopf.on.login(registry=found)
    def login(**_: Any) -> kopf.ConnectionInfo:
        token = (Path(SERVICE_ACCOUNT) / "token").read_text(encoding="ascii").strip()
        return kopf.ConnectionInfo(
            server=url, ca_path=f"{SERVICE_ACCOUNT}/ca.crt", scheme="Bearer", token=token
        )

    @kopf.on.startup(registry=found)
    def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.peering.standalone = True
        settings.posting.enabled = False  # kopf would post exception texts
        settings.scanning.disabled = True
        settings.watching.server_timeout = 300

    for kind in WATCHED:
        _follow(found, kind.plural, kind.kind, resources, loop)
    return found


def _follow(
    found: kopf.OperatorRegistry,
    plural: str,
    kind: str,
    resources: Resources,
    loop: asyncio.AbstractEventLoop,
) -> None:
    def take(type_: str | None, raw: dict[str, Any]) -> None:
        if type_ is None:  # kopf lists, at start or after a 410, and says nothing of what vanished
            resources.gaps[kind].set()
        if type_ == "DELETED":
            resources.deleted(kind, raw)
        else:
            resources.event(kind, raw)

    @kopf.on.event(names.GROUP, "v1alpha1", plural, registry=found, id=f"follow-{plural}")
    async def follow(event: Mapping[str, Any], **_: Any) -> None:
        loop.call_soon_threadsafe(take, event["type"], dict(event["object"]))


async def run(resources: Resources, url: str, identity: str) -> None:
    """Follow the kinds until cancelled.

    kopf ends as a whole when a watch ends with any error but a 410, and takes all younger tasks of its event
    loop along. So it has a thread and a loop of its own and is begun anew; what it may have missed is listed.
    """
    while True:
        await _kopf(resources, url, identity).wait()
        _log.warning("kopf ended, and is begun anew")
        for kind in WATCHED:
            resources.gaps[kind.kind].set()
        await asyncio.sleep(_RETRY)


def _kopf(resources: Resources, url: str, identity: str) -> asyncio.Event:
    """Begin a thread of kopf, which ends with the process; the event is set when it ends before."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def work() -> None:
        try:
            asyncio.run(
                kopf.operator(
                    registry=registry(resources, url, loop),
                    clusterwide=True,
                    standalone=True,
                    # By default kopf asks for the user's name, which a container's uid need not have.
                    identity=Identity(identity),
                )
            )
        except Exception as error:  # noqa: BLE001 - of kopf, whatever it is
            _log.warning("kopf failed", error=type(error).__name__, reason=str(error))
        finally:
            with suppress(RuntimeError):  # our loop is closed: the process ends
                loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=work, name="kopf", daemon=True).start()
    return ended
