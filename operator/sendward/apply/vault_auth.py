"""How the operator logs in to Vault: one small port, a class per method.

Nothing that was issued depends on the token: KV has no leases, so its loss costs a login.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from sendward.apply.http import TokenFile


@dataclass(frozen=True, slots=True)
class LoginRequest:
    """What to POST below /v1/auth/. The body is a secret."""

    path: str
    body: dict[str, str] = field(repr=False)


class Login(Protocol):
    """A way to get a token."""

    def request(self) -> LoginRequest | str:
        """The request to send, or a token that needs no login. Raises Unavailable."""


class JWTLogin:
    """JWT auth with a projected service-account token of audience `vault`."""

    def __init__(self, mount: str, role: str, token_file: str) -> None:
        self._path = f"{mount}/login"
        self._role = role
        self._token = TokenFile(token_file)

    def request(self) -> LoginRequest:
        return LoginRequest(self._path, {"role": self._role, "jwt": self._token.read()})


class KubernetesLogin(JWTLogin):
    """Kubernetes auth: the same request, but Vault has the API server review the token."""


class TokenLogin:
    """A token that somebody else made: administrators and tests."""

    def __init__(self, token: str) -> None:
        self._token = token

    def request(self) -> str:
        return self._token
