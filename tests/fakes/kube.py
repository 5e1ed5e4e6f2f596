"""A stateful API server in memory, on a loopback port: `async with FakeKube() as kube`.

It knows paging, watches with bookmarks and 410, server-side apply, the status subresource,
generations, finalizers, uid and resourceVersion checks. It has no schemas, no admission, no RBAC and
no controllers, and asks for no namespaces. The shared suite in tests/apply holds it to the real one.
"""

from __future__ import annotations

import asyncio
import copy
import json
import uuid
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from sendward.apply import kinds
from sendward.apply.ports import Kind, TokenStatus
from tests.fakes.kube_requests import (
    OURS,
    WITH_STATUS,
    WITHOUT_GENERATION,
    RefusedError,
    Target,
    check,
    content,
    joined,
    now,
    owned,
    seen,
    target_of,
    visible,
)
from tests.fakes.merge import Object, PatchFailedError, apply, json_patch, merge_patch
from tests.fakes.server import FakeServer

Name = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Change:
    version: int
    kind: Kind
    before: Object | None
    after: Object | None


@dataclass(slots=True)
class _Stored:
    body: Object
    applied: dict[tuple[str, str], Object] = field(default_factory=dict)  # by (manager, subresource)


class FakeKube(FakeServer):
    """`tokens` answers TokenReviews; `token`, when set, is the only bearer token that is let in."""

    def __init__(self, token: str = "") -> None:
        super().__init__()
        self.token = token
        self.tokens: dict[str, TokenStatus] = {}
        self._stored: dict[str, dict[Name, _Stored]] = {kind.plural: {} for kind in kinds.ALL}
        self._changes: list[_Change] = []
        self.version = 100
        self._oldest = 0  # watches from before this version get a 410
        self._watchers: set[asyncio.Event] = set()
        self._bookmarks = 0
        self._cut = 0
        self._lists: dict[str, tuple[int, list[Object]]] = {}  # continue tokens

    # What a test does beside the clients.

    def objects(self, kind: Kind) -> list[Object]:
        """Copies of all objects of a kind, by namespace and name."""
        return [copy.deepcopy(one.body) for _, one in sorted(self._stored[kind.plural].items())]

    def put(self, kind: Kind, obj: Object) -> Object:
        """Create or overwrite, status included, as some other client would; watchers learn of it."""
        meta = obj["metadata"]
        key = (meta.get("namespace", ""), meta["name"])
        old = self._stored[kind.plural].get(key)
        body = {"apiVersion": kind.api_version, "kind": kind.kind, **copy.deepcopy(obj)}
        if old is None:
            return self._add(kind, key, body, keep_status=True)
        body["metadata"] = {**old.body["metadata"], **body["metadata"]}
        return self._store(kind, key, old, body)

    def remove(self, kind: Kind, namespace: str, name: str) -> None:
        """Remove at once, finalizers or not."""
        self._forget(kind, (namespace, name))

    def restore(self, kind: Kind, obj: Object) -> None:
        """Let an object be what it was, old version included, as from a backup of etcd. Nobody is told."""
        meta = obj["metadata"]
        self._stored[kind.plural][meta.get("namespace", ""), meta["name"]].body = copy.deepcopy(obj)

    def expire(self) -> None:
        """Compact all history: older watches and continue tokens get a 410. Ends all watches."""
        self._oldest = self.version
        self._changes.clear()
        self._lists.clear()
        self.drop_watches()

    def watching(self) -> int:
        """Open watches."""
        return len(self._watchers)

    def drop_watches(self) -> None:
        """End all watches, without an error."""
        self._cut += 1
        self._wake()

    def bookmark(self) -> None:
        """Send a bookmark to all watches, also of versions that came from other kinds."""
        self.version += 1
        self._bookmarks += 1
        self._wake()

    # Requests.

    async def handle(self, request: web.Request) -> web.StreamResponse:
        try:
            if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
                raise RefusedError(401, "Unauthorized", "Unauthorized")
            target = target_of(request.path)
            if request.method == "GET" and not target.name and request.query.get("watch") == "true":
                return await self._watch(request, target)
            status, answer = await self._answer(request, target)
        except RefusedError as refusal:
            return web.json_response(refusal.status, status=refusal.code)
        return web.json_response(answer, status=status)

    async def _answer(self, request: web.Request, target: Target) -> tuple[int, Object]:
        if target.kind is kinds.TOKEN_REVIEW:
            return 201, self._review(await request.json())
        match request.method:
            case "GET":
                return 200, self._get(target).body if target.name else self._page(request, target)
            case "POST":
                return 201, self._create(target, await request.json(), request)
            case "PUT":
                return 200, self._replace(target, await request.json())
            case "PATCH":
                return self._patch(request, target, json.loads(await request.read()))
            case "DELETE":
                return 200, self._delete(target, await request.json() if request.can_read_body else {})
        raise RefusedError(405, "MethodNotAllowed", "the server does not allow this method")

    def _get(self, target: Target) -> _Stored:
        stored = self._stored[target.kind.plural].get((target.namespace, target.name))
        if stored is None:
            raise RefusedError(404, "NotFound", f'{target.kind.plural} "{target.name}" not found')
        return stored

    def _page(self, request: web.Request, target: Target) -> Object:
        token = request.query.get("continue", "")
        if token:
            if token not in self._lists:
                raise RefusedError(410, "Expired", "The provided continue parameter is too old")
            version, items = self._lists[token]
        else:
            version = self.version
            items = [
                copy.deepcopy(one.body)
                for _, one in sorted(self._stored[target.kind.plural].items())
                if visible(target, request, one.body)
            ]
        limit = int(request.query.get("limit", "0")) or len(items)
        meta: Object = {"resourceVersion": str(version)}
        if len(items) > limit:
            meta["continue"] = uuid.uuid4().hex
            self._lists[meta["continue"]] = (version, items[limit:])
        shown = [seen(request, item) for item in items[:limit]]
        return {"kind": "List", "apiVersion": "v1", "metadata": meta, "items": shown}

    def _create(self, target: Target, body: Object, request: web.Request) -> Object:
        key = (target.namespace, body["metadata"]["name"])
        if key in self._stored[target.kind.plural]:
            raise RefusedError(409, "AlreadyExists", f'{target.kind.plural} "{key[1]}" already exists')
        return self._add(target.kind, key, body)

    def _replace(self, target: Target, body: Object) -> Object:
        stored = self._get(target)
        check(stored.body, body["metadata"], target)
        return self._store(
            target.kind, (target.namespace, target.name), stored, joined(target, stored.body, body)
        )

    def _patch(self, request: web.Request, target: Target, patch: Any) -> tuple[int, Object]:
        key = (target.namespace, target.name)
        if isinstance(patch, list):
            stored = self._get(target)
            try:
                changed = json_patch(stored.body, patch)
            except PatchFailedError:
                message = "the server rejected our request due to an error in our request"
                raise RefusedError(422, "Invalid", message) from None
            return 200, self._store(target.kind, key, stored, joined(target, stored.body, changed))
        found = self._stored[target.kind.plural].get(key)
        if request.content_type == "application/merge-patch+json":
            stored = self._get(target)
            check(stored.body, patch.get("metadata", {}), target)
            merged = merge_patch(stored.body, patch)
            return 200, self._store(target.kind, key, stored, joined(target, stored.body, merged))
        owner = (request.query["fieldManager"], target.subresource)
        if found is None:
            if patch["metadata"].get("uid"):
                raise RefusedError(409, "Conflict", "uid mismatch: no existing object was found")
            if target.subresource:
                raise RefusedError(404, "NotFound", f'{target.kind.plural} "{target.name}" not found')
            created = self._add(target.kind, key, patch)
            self._stored[target.kind.plural][key].applied[owner] = owned(patch)
            return 201, created
        check(found.body, patch["metadata"], target)
        wanted = owned(patch)
        merged = apply(found.body, found.applied.get(owner, {}), wanted)
        found.applied[owner] = wanted
        return 200, self._store(target.kind, key, found, joined(target, found.body, merged))

    def _delete(self, target: Target, options: Object) -> Object:
        stored = self._get(target)
        uid = (options.get("preconditions") or {}).get("uid", "")
        if uid and uid != stored.body["metadata"]["uid"]:
            raise RefusedError(409, "Conflict", f"the UID in the precondition ({uid}) does not match")
        key = (target.namespace, target.name)
        if not stored.body["metadata"].get("finalizers"):
            self._forget(target.kind, key)
        elif "deletionTimestamp" not in stored.body["metadata"]:
            body = copy.deepcopy(stored.body)
            body["metadata"]["deletionTimestamp"] = now()
            body["metadata"]["deletionGracePeriodSeconds"] = 0
            self._store(target.kind, key, stored, body)
        return {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def _review(self, review: Object) -> Object:
        known = self.tokens.get(review["spec"]["token"])
        audiences = [one for one in review["spec"]["audiences"] if known and one in known.audiences]
        if known is None or not known.authenticated or not audiences:
            return {**review, "status": {"user": {}, "error": "invalid bearer token"}}
        extra = {name: list(values) for name, values in known.extra.items()}
        user = {"username": known.username, "extra": extra}
        return {**review, "status": {"authenticated": True, "user": user, "audiences": audiences}}

    # State.

    def _add(self, kind: Kind, key: Name, body: Object, *, keep_status: bool = False) -> Object:
        body = copy.deepcopy(body)
        meta = body["metadata"]
        if key[0]:
            meta["namespace"] = key[0]
        meta.update(uid=str(uuid.uuid4()), creationTimestamp=now())
        if kind.plural not in WITHOUT_GENERATION:
            meta["generation"] = 1
        if kind.plural in WITH_STATUS and not keep_status:
            body.pop("status", None)
        if kind.plural in OURS:
            body.setdefault("status", {"observedGeneration": -1})
        stored = _Stored(body)
        self._stored[kind.plural][key] = stored
        self._record(kind, None, body)
        return body

    def _store(self, kind: Kind, key: Name, stored: _Stored, body: Object) -> Object:
        before = stored.body
        for fixed in ("uid", "creationTimestamp", "resourceVersion", "generation"):
            if fixed in before["metadata"]:
                body["metadata"][fixed] = before["metadata"][fixed]
        for empty in ("finalizers", "labels", "annotations", "ownerReferences"):
            if not body["metadata"].get(empty):
                body["metadata"].pop(empty, None)
        if body == before:
            return before
        if "generation" in before["metadata"] and content(body) != content(before):
            body["metadata"]["generation"] += 1
        stored.body = body
        if "deletionTimestamp" in body["metadata"] and not body["metadata"].get("finalizers"):
            self._forget(kind, key)
        else:
            self._record(kind, before, body)
        return body

    def _forget(self, kind: Kind, key: Name) -> None:
        stored = self._stored[kind.plural].pop(key)
        last = copy.deepcopy(stored.body)
        self._record(kind, last, None)

    def _record(self, kind: Kind, before: Object | None, after: Object | None) -> None:
        self.version += 1
        last = after if after is not None else before
        assert last is not None
        last["metadata"]["resourceVersion"] = str(self.version)
        self._changes.append(_Change(self.version, kind, before, copy.deepcopy(after)))
        self._wake()

    def _wake(self) -> None:
        for watcher in self._watchers:
            watcher.set()

    # Watches.

    async def _watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        since = int(request.query["resourceVersion"])
        if since < self._oldest:
            raise RefusedError(410, "Expired", f"too old resource version: {since} ({self._oldest})")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        news = asyncio.Event()
        self._watchers.add(news)
        try:
            await self._stream(request, target, response, news)
        finally:
            self._watchers.discard(news)
        return response

    async def _stream(
        self, request: web.Request, target: Target, response: web.StreamResponse, news: asyncio.Event
    ) -> None:
        since = int(request.query["resourceVersion"])
        deadline = asyncio.get_running_loop().time() + float(request.query.get("timeoutSeconds", "300"))
        cut, bookmarks, place = self._cut, self._bookmarks, 0
        while True:
            news.clear()
            fresh, place = self._changes[place:], len(self._changes)
            for change in fresh:
                event = _event(change, target, request) if change.version > since else None
                if event is not None:
                    await response.write(json.dumps(event).encode() + b"\n")
            if bookmarks != self._bookmarks:
                bookmarks = self._bookmarks
                await response.write(json.dumps(self._bookmark(target)).encode() + b"\n")
            left = deadline - asyncio.get_running_loop().time()
            if cut != self._cut or left <= 0:
                return
            try:
                await asyncio.wait_for(news.wait(), left)
            except TimeoutError:
                return

    def _bookmark(self, target: Target) -> Object:
        meta = {"resourceVersion": str(self.version), "creationTimestamp": None}
        body = {"kind": target.kind.kind, "apiVersion": target.kind.api_version, "metadata": meta}
        return {"type": "BOOKMARK", "object": body}


def _event(change: _Change, target: Target, request: web.Request) -> Object | None:
    """What a watch sees: an object whose labels stop matching is DELETED for it, as on the real server."""
    if change.kind.plural != target.kind.plural:
        return None
    before, after = (visible(target, request, body) for body in (change.before, change.after))
    if not before and not after:
        return None
    shown = change.after if change.after is not None else change.before
    assert shown is not None
    kind = "MODIFIED" if before and after else "ADDED" if after else "DELETED"
    return {"type": kind, "object": seen(request, shown)}
