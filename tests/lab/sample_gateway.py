"""A small messaging gateway with an HTTP send API: what Sendward protects in tests and in the demo.

It trusts whoever reaches it, as many gateways do, and speaks three dialects:

    POST /v1/messages      JSON {"to", "from", "text"}          202 {"id", "status"}
    GET  /v1/messages/ID   GET /v1/balance
    GET  /cgi-bin/sendsms  Kannel: username, password, to, from, text in the query
    GET|POST /send         Jasmin: to, from, content in the query or as a form
    GET  /healthz          GET /debug/last: what the last message came with

`/debug/last` names the headers of the last accepted message and shows the `x-sw-*` values. Of other
headers, credentials above all, it shows only that they were there.
"""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

SHOWN = "x-sw-"


@dataclass
class Gateway:
    """Accepted messages and the traits of the last one."""

    messages: dict[str, dict[str, str]] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)

    def accept(self, request: web.Request, to: str, sender: str, text: str) -> str:
        """Take a message; returns its id. Raises HTTPBadRequest when a part is missing."""
        if not (to and sender and text):
            raise web.HTTPBadRequest(text="to, from and text are required\n")
        message_id = str(uuid.uuid4())
        self.messages[message_id] = {"id": message_id, "status": "accepted", "to": to, "from": sender}
        names = sorted({name.lower() for name in request.headers})
        self.last = {
            "id": message_id,
            "path": request.path,
            "headers": names,
            "sendward": {name: request.headers[name] for name in names if name.startswith(SHOWN)},
            "credentials": {name: name in names for name in ("authorization", "x-api-key")},
            "query": sorted(request.query),
        }
        return message_id

    async def send_json(self, request: web.Request) -> web.Response:
        try:
            body = await request.json()
        except ValueError:
            raise web.HTTPBadRequest(text="the body is not JSON\n") from None
        if not isinstance(body, dict):
            raise web.HTTPBadRequest(text="the body is not a JSON object\n")
        message_id = self.accept(request, *(str(body.get(name, "")) for name in ("to", "from", "text")))
        return web.json_response({"id": message_id, "status": "accepted"}, status=202)

    async def status(self, request: web.Request) -> web.Response:
        found = self.messages.get(request.match_info["id"])
        if found is None:
            raise web.HTTPNotFound(text="no such message\n")
        return web.json_response(found)

    async def balance(self, _request: web.Request) -> web.Response:
        return web.json_response({"balance": 1000 - len(self.messages), "currency": "credits"})

    async def kannel(self, request: web.Request) -> web.Response:
        query = request.query
        if not (query.get("username") and query.get("password")):
            raise web.HTTPForbidden(text="Authorization failed for sendsms\n")
        self.accept(request, *_parts(query, "text"))
        return web.Response(status=202, text="0: Accepted for delivery")

    async def jasmin(self, request: web.Request) -> web.Response:
        values = await request.post() if request.method == "POST" else request.query
        message_id = self.accept(request, *_parts(values, "content"))
        return web.Response(text=f'Success "{message_id}"')

    async def debug_last(self, _request: web.Request) -> web.Response:
        return web.json_response({"accepted": len(self.messages), "last": self.last})


def _parts(values: Mapping[str, Any], text: str) -> tuple[str, str, str]:
    return str(values.get("to", "")), str(values.get("from", "")), str(values.get(text, ""))


async def _healthz(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def application() -> web.Application:
    """The whole gateway, with no message accepted yet."""
    gateway = Gateway()
    app = web.Application()
    app.add_routes(
        [
            web.post("/v1/messages", gateway.send_json),
            web.get("/v1/messages/{id}", gateway.status),
            web.get("/v1/balance", gateway.balance),
            web.get("/cgi-bin/sendsms", gateway.kannel),
            web.get("/send", gateway.jasmin),
            web.post("/send", gateway.jasmin),
            web.get("/healthz", _healthz),
            web.get("/debug/last", gateway.debug_last),
        ]
    )
    return app


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="Sample messaging gateway")
    parser.add_argument("--listen", default="127.0.0.1:8080", metavar="HOST:PORT")
    host, _, port = parser.parse_args().listen.rpartition(":")
    web.run_app(application(), host=host, port=int(port), access_log=None, shutdown_timeout=5)


if __name__ == "__main__":
    main()
