"""A few HTTPS calls to the lab's servers with the lab's CA, for readiness and set-up."""

import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

_TIMEOUT_SECONDS = 5.0


class Api:
    """JSON over HTTP(S) at one base address; `headers` go with every call."""

    def __init__(self, base: str, ca_file: Path | None = None) -> None:
        self._base = base
        context = ssl.create_default_context(cafile=str(ca_file)) if ca_file else ssl.create_default_context()
        # No proxy of the caller's environment: the servers are in this namespace.
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: dict[str, str] | None = None,
        timeout: float = _TIMEOUT_SECONDS,
    ) -> Any:
        """The parsed answer (None for an empty one); raises urllib.error.HTTPError or OSError."""
        request = urllib.request.Request(
            self._base + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"} | (headers or {}),
        )
        with self._opener.open(request, timeout=timeout) as response:
            content = response.read()
        return json.loads(content) if content.strip().startswith((b"{", b"[")) else None

    def ok(self, path: str, headers: dict[str, str] | None = None) -> bool:
        """Whether a GET is answered with 2xx."""
        try:
            self.call("GET", path, headers=headers, timeout=2.0)
        except OSError:  # includes HTTPError, refused connections and time-outs
            return False
        return True
