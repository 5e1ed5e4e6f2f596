"""An operator whose clock is an hour off still speaks to its guards, and they to it."""

from __future__ import annotations

import base64
import json
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from sendward import names
from sendward.apply.certificates import new_authority, new_leaf
from sendward.apply.ports import TokenStatus
from sendward.controller.hub_auth import Authenticator, Refused
from sendward.graph.facts import Pod
from tests.fakes.guard import FakeTokens, FakeView

HOUR = timedelta(hours=1)
LIFETIME = 3600.0  # seconds, of a token
TRUE_TIME = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Skewed:
    """A clock that is off by so much."""

    def __init__(self, skew: timedelta) -> None:
        self.skew = skew

    def now(self) -> datetime:
        return TRUE_TIME + self.skew

    def monotonic(self) -> float:
        return 1.0


def token(tokens: FakeTokens, pod: Pod, age: float) -> str:
    """As a pod has it, issued `age` seconds ago by the API server's clock."""
    issued = TRUE_TIME.timestamp() - age
    claims = {"iat": issued, "exp": issued + LIFETIME}
    parts = [{"alg": "RS256"}, claims, {"signature": pod.uid}]
    made = ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts)
    prefix = "authentication.kubernetes.io"
    extra = {f"{prefix}/pod-name": (pod.name,), f"{prefix}/pod-uid": (pod.uid,)}
    username = f"system:serviceaccount:{pod.namespace}:default"
    tokens.known[made] = TokenStatus(True, username, (names.AUDIENCE,), extra)
    return made


async def seconds_left(skew: timedelta, age: float) -> float:
    """For how long the hub lets a guard stay, whose token is so old."""
    view, tokens, clock = FakeView(), FakeTokens(), Skewed(skew)
    made = token(tokens, view.add("pod"), age)
    peer = await Authenticator(tokens, view, clock).authenticate(f"Bearer {made}")
    return peer.expires - clock.now().timestamp()


@pytest.mark.parametrize("age", [0.0, 1800.0, 3500.0])
async def test_a_token_is_good_until_it_expires(age: float) -> None:
    assert await seconds_left(timedelta(), age) == LIFETIME - age


@pytest.mark.parametrize("age", [0.0, 1800.0, 3500.0])
@pytest.mark.parametrize("skew", [HOUR, -HOUR], ids=["ahead", "behind"])
async def test_a_token_that_only_our_clock_doubts_is_good_for_a_while(skew: timedelta, age: float) -> None:
    """Long enough to be told of a revocation, and not for longer than the token could live."""
    assert 0 < await seconds_left(skew, age) <= LIFETIME


async def test_a_token_that_expired_long_ago_is_refused_unasked() -> None:
    with pytest.raises(Refused, match="TokenExpired"):
        await seconds_left(timedelta(), 3 * LIFETIME)


@pytest.mark.parametrize("skew", [HOUR, -HOUR], ids=["ahead", "behind"])
def test_certificates_of_an_operator_that_is_an_hour_off_are_valid_for_its_peers(skew: timedelta) -> None:
    authority = new_authority(TRUE_TIME + skew)
    leaf = new_leaf(authority, ("hub.example",), TRUE_TIME + skew)
    for pem in (authority.certificate_pem, leaf.certificate_pem):
        for certificate in x509.load_pem_x509_certificates(pem):
            assert certificate.not_valid_before_utc <= TRUE_TIME < certificate.not_valid_after_utc
    assert (
        ssl.create_default_context(cadata=authority.certificate_pem.decode()).cert_store_stats()["x509"] == 1
    )
