"""The API server as a judge of our objects, over plain HTTPS."""

from __future__ import annotations

import json
import time
import urllib.error
from pathlib import Path
from typing import Any, Protocol

from sendward.names import API_VERSION
from sendward.resources.crds import definition
from sendward.resources.kinds import BY_NAME, KINDS
from tests.lab.http import Api

_ESTABLISH_SECONDS = 30.0


class Server(Protocol):
    """What the judge needs of the lab's servers."""

    @property
    def apiserver_url(self) -> str: ...
    @property
    def admin_token(self) -> str: ...
    @property
    def ca_file(self) -> Path: ...


class Judge:
    """Calls the API server as administrator; answers are (HTTP status, body)."""

    def __init__(self, server: Server) -> None:
        self._api = Api(server.apiserver_url, server.ca_file)
        self._headers = {"Authorization": f"Bearer {server.admin_token}"}

    def call(
        self, method: str, path: str, body: object = None, content: str = "application/json"
    ) -> tuple[int, dict[str, Any]]:
        headers = {**self._headers, "Content-Type": content}
        try:
            return 200, self._api.call(method, path, body, headers=headers, timeout=30.0) or {}
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def install(self) -> None:
        """Apply our definitions and wait until each kind is served."""
        for kind in KINDS:
            crd = definition(kind)
            path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
            status, body = self.call(
                "PATCH", f"{path}?fieldManager=tests&force=true", crd, "application/apply-patch+yaml"
            )
            assert status == 200, body
        deadline = time.monotonic() + _ESTABLISH_SECONDS
        for kind in KINDS:
            while self.call("GET", collection(kind.name))[0] != 200:
                assert time.monotonic() < deadline, f"{kind.name} is not served"
                time.sleep(0.05)

    def create(
        self, obj: dict[str, Any], *, strict: bool = True, dry: bool = True
    ) -> tuple[int, dict[str, Any]]:
        query = f"?fieldValidation={'Strict' if strict else 'Ignore'}" + ("&dryRun=All" if dry else "")
        return self.call("POST", collection(obj["kind"]) + query, obj)

    def update(self, obj: dict[str, Any], *, subresource: str = "") -> tuple[int, dict[str, Any]]:
        return self.call("PUT", item(obj) + subresource + "?fieldValidation=Strict", obj)

    def delete(self, obj: dict[str, Any]) -> None:
        status, body = self.call("DELETE", item(obj))
        assert status in {200, 404}, body


def collection(kind: str) -> str:
    return f"/apis/{API_VERSION}/namespaces/default/{BY_NAME[kind].plural}"


def item(obj: dict[str, Any]) -> str:
    return f"{collection(obj['kind'])}/{obj['metadata']['name']}"
