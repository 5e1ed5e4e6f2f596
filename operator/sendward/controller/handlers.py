"""kopf as shell and watcher: login, probes, and one event handler per kind; nothing else of it.

No create, update, delete or resume handlers (they write annotations and act on diffs), no index, no
timers, no peering. A handler parses, stores and marks dirty; it never raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kopf
from kopf._core.engines.peering import Identity

from sendward import names
from sendward.apply import kinds
from sendward.apply.kube import SERVICE_ACCOUNT
from sendward.controller.watch import Resources

WATCHED = (kinds.MESSAGING_GATEWAY, kinds.API_KEY_POLICY, kinds.RATE_LIMIT_POLICY)


def registry(resources: Resources, url: str) -> kopf.OperatorRegistry:
    """The handlers, bound to our Store."""
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
        _follow(found, kind.plural, kind.kind, resources)
    return found


def _follow(found: kopf.OperatorRegistry, plural: str, kind: str, resources: Resources) -> None:
    @kopf.on.event(names.GROUP, "v1alpha1", plural, registry=found, id=f"follow-{plural}")
    def follow(event: Mapping[str, Any], **_: Any) -> None:
        raw = dict(event["object"])
        if event["type"] is None:  # kopf lists, at start or after a 410, and says nothing of what vanished
            resources.gaps[kind].set()
        if event["type"] == "DELETED":
            resources.deleted(kind, raw)
        else:
            resources.event(kind, raw)


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """SIGTERM or SIGINT came: kopf takes the signals of the process and ends by them."""


async def run(resources: Resources, url: str, identity: str) -> None:
    """Run kopf in this event loop until cancelled. Raises Stopped when a signal ends it."""
    await kopf.operator(
        registry=registry(resources, url),
        clusterwide=True,
        standalone=True,
        # By default kopf asks for the user's name, which a container's uid need not have.
        identity=Identity(identity),
    )
    raise Stopped
