"""Who a guard is: a pod-bound token of our audience, and the pod as we see it ourselves.

The gateway comes from the pod's label in our own view, never from the client.
"""

from __future__ import annotations

import asyncio
import base64
from binascii import Error as Base64Error
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from sendward import names
from sendward.apply.ports import TokenStatus
from sendward.clock import Clock
from sendward.errors import SendwardError
from sendward.graph.facts import Pod

_POD_NAME: Final = "authentication.kubernetes.io/pod-name"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"
_MAX_TOKEN: Final = 8192  # characters
_REVIEWS_AT_ONCE: Final = 8  # a flood of tokens must not take the API server from the loop
_REVIEW_SECONDS: Final = 5.0
_CLOCKS_APART: Final = 7200.0  # seconds by which ours may be ahead of the API server's
_ASK_AGAIN: Final = 60.0  # seconds for which a token is good that only our clock has doubts about


class TokenReviewer(Protocol):
    """The one call of `ports.Kube` that the hub makes."""

    async def review_token(self, token: str, audience: str) -> TokenStatus: ...


class View(Protocol):
    """What the hub asks of the controller's own view of the cluster."""

    def pod(self, namespace: str, name: str) -> Pod | None: ...

    def gateway_uid(self, namespace: str, gateway: str) -> str | None:
        """None while there is no such gateway."""

    def pods(self, gateway_uid: str) -> Iterable[Pod]:
        """All pods of a gateway that still exist, terminating ones too; asked from its first
        publication on.
        """

    def stale_after(self, gateway_uid: str) -> int | None:
        """Seconds after which a guard that is cut off refuses everything; None: never."""

    def counters(self, gateway_uid: str) -> str:
        """Where its shared counters are declared to be (`document.Redis.place`); "": it has none."""


@dataclass(frozen=True, slots=True)
class Peer:
    """An authenticated guard. `expires` is Unix seconds by our own clock."""

    pod: Pod
    gateway_uid: str
    expires: float


class Refused(Exception):  # noqa: N818  # an answer, not an error
    """The HTTP answer to a guard that may not connect; `reason` is also a metric's label."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class _Claims(msgspec.Struct):
    exp: float
    iat: float | None = None


class Authenticator:
    """Judges one connection at a time; keeps nothing."""

    def __init__(self, kube: TokenReviewer, view: View, clock: Clock) -> None:
        self._kube = kube
        self._view = view
        self._clock = clock
        self._reviews = asyncio.Semaphore(_REVIEWS_AT_ONCE)

    async def authenticate(self, authorization: str) -> Peer:
        """`authorization` is the HTTP header. Raises Refused."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token or len(token) > _MAX_TOKEN:
            raise Refused(401, "NoToken")
        # Not yet believed: it only spares the API server tokens that it would refuse anyway.
        claims, now = _claims(token), self._clock.now().timestamp()
        if claims is None or claims.exp <= now - _CLOCKS_APART:
            raise Refused(401, "TokenExpired")
        namespace, name, uid = _bound_pod(await self._review(token))
        pod = self._view.pod(namespace, name)
        if pod is None or pod.uid != uid:
            raise Refused(403, "UnknownPod")
        if pod.terminating:
            raise Refused(403, "PodTerminating")
        if not pod.injected:
            raise Refused(403, "PodNotInjected")
        gateway_uid = self._view.gateway_uid(namespace, pod.gateway)
        if gateway_uid is None:
            raise Refused(403, "UnknownGateway")
        return Peer(pod, gateway_uid, _expires(claims, now))

    async def _review(self, token: str) -> TokenStatus:
        try:
            async with asyncio.timeout(_REVIEW_SECONDS), self._reviews:
                return await self._kube.review_token(token, names.AUDIENCE)
        except (SendwardError, TimeoutError):
            raise Refused(503, "ReviewFailed") from None


def _bound_pod(status: TokenStatus) -> tuple[str, str, str]:
    """Namespace, name and uid of the pod that the token was made for. Raises Refused."""
    if not status.authenticated:
        raise Refused(401, "NotAuthenticated")
    if names.AUDIENCE not in status.audiences:
        raise Refused(401, "WrongAudience")
    pod_names, pod_uids = status.extra.get(_POD_NAME, ()), status.extra.get(_POD_UID, ())
    match status.username.split(":"):
        case ["system", "serviceaccount", namespace, _] if len(pod_names) == len(pod_uids) == 1:
            return namespace, pod_names[0], pod_uids[0]
    raise Refused(403, "TokenNotBoundToPod")


def _expires(claims: _Claims, now: float) -> float:
    """When the stream ends, by our own clock. The API server accepts the token, so one that has expired, or
    is older than it can be, means that our clock is off: then it is soon asked again.
    """
    lifetime = claims.exp - claims.iat if claims.iat is not None else claims.exp
    return claims.exp if 0 < claims.exp - now <= lifetime else now + _ASK_AGAIN


def _claims(token: str) -> _Claims | None:
    """Of a JWT; None when it is none."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        return msgspec.json.decode(payload, type=_Claims)
    except (Base64Error, ValueError, msgspec.MsgspecError, RecursionError):
        return None
