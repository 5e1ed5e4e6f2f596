"""What a guard may say to the hub: it is a tenant's pod, and its words cost itself only."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sendward import document
from sendward.clock import SystemClock
from sendward.controller.hub_auth import Authenticator, Refused
from sendward.controller.hub_state import GatewayState, highest_epoch
from sendward.document import Shard
from sendward.graph.facts import Pod
from sendward.protocol import MAX_MESSAGE_BYTES, PPM, GuardMessage, Hello, HubMessage, Report
from tests.fakes.guard import FakeTokens, FakeView

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = Ed25519PrivateKey.generate()
EVIL = Pod("evil", "tenant", "gw-1", "gw", ready=True, terminating=False, injected=True)
HONEST = replace(EVIL, uid="honest", name="gw-2")
HUGE = 10**400


def heard(**message: Any) -> Any:
    """As the hub decodes it; None when it refuses the message and ends the stream."""
    try:
        found: GuardMessage = msgspec.json.decode(json.dumps(message), type=GuardMessage)
    except msgspec.MsgspecError:
        return None
    return None if isinstance(found, Hello) and highest_epoch(found) is None else found


def met(*hellos: Any) -> GatewayState:
    """A hub that met hostile guards, each with its own Hello, and the honest one last."""
    made = GatewayState()
    envelope = document.seal(KEY, "gateway-uid", "0", 1, 1, document.compress(Shard([])))
    made.publish({"0": envelope}, [])
    for number, hello in enumerate(hellos):
        if hello is not None:
            made.hello(replace(EVIL, uid=f"evil-{number}"), hello, NOW)
    made.hello(HONEST, Hello([document.FORMAT], 1, {}), NOW)
    return made


def served(made: GatewayState) -> int:
    """The honest guard's share when all acknowledge, over frames that it can read."""
    made.shares.retarget()
    given = 0
    for _ in range(4):
        for guard, message in made.shares.due().items():
            frame = msgspec.json.encode(message)
            assert len(frame) < MAX_MESSAGE_BYTES
            assert msgspec.json.decode(frame, type=HubMessage) == message
            given = message.default if guard == "honest" else given
            made.shares.acknowledge(guard, message.round)
    return given


def hello(**more: Any) -> dict[str, Any]:
    return {"type": "Hello", "formats": [1], "highest_epoch": 1, "parts": {}, **more}


REPORTS: dict[str, dict[str, Any]] = {
    "a huge demand": {"demand": {"acme": HUGE}, "last_used": {}},
    "huge demands": {"demand": {"acme": 10**308, "globex": 10**308}, "last_used": {}},
    "a negative demand": {"demand": {"acme": -HUGE}, "last_used": {}},
    "long names": {"demand": {f"{n}{'a' * 1_000_000}": 1 for n in range(4)}, "last_used": {}},
    "a huge time": {"demand": {}, "last_used": {"version": HUGE}},
    "a negative time": {"demand": {}, "last_used": {"version": -HUGE}},
}


@pytest.mark.parametrize("case", REPORTS)
def test_a_report_of_one_guard_does_not_touch_another(case: str) -> None:
    """A demand beyond a float's range stayed for good, and ended every later Hello of the gateway."""
    made = met(heard(**hello()))
    message = heard(type="Report", **REPORTS[case])
    if message is not None:
        assert isinstance(message, Report)
        for moment in range(3):
            made.report("evil-0", message, NOW, float(moment))
    assert served(made) == PPM // 2
    assert all(len(subject) <= 64 for subject in made.last_used)
    assert all(0 <= seconds <= NOW.timestamp() for seconds in made.last_used.values())


SHARES: dict[str, dict[str, Any]] = {
    "a huge round": {"round": 10**4300 - 1, "default": 0, "subjects": {}},
    "the highest round": {"round": 2**53, "default": 0, "subjects": {}},
    "a negative round": {"round": -HUGE, "default": 0, "subjects": {}},
    "huge shares": {"round": 1, "default": HUGE, "subjects": {"acme": HUGE, "globex": -HUGE}},
    "many subjects": {"round": 1, "default": 0, "subjects": {f"{n:036}": PPM for n in range(80_000)}},
    "long subjects": {"round": 1, "default": 0, "subjects": {f"{n}{'a' * 100_000}": PPM for n in range(30)}},
}


@pytest.mark.parametrize("case", SHARES)
def test_shares_that_one_guard_claims_do_not_cut_another_off(case: str) -> None:
    hellos = []
    for guard in "abc":
        subjects = {f"{guard}{name[1:]}": share for name, share in SHARES[case]["subjects"].items()}
        hellos.append(heard(**hello(shares=SHARES[case] | {"subjects": subjects})))
    made = met(*hellos)
    assert 0 <= served(made) <= PPM
    # What the honest guard was given is believed when it comes back.
    back = [message.round for message in made.shares.due().values()]
    assert all(heard(**hello(shares={"round": number, "default": 0})) for number in back)


def test_a_round_near_its_bound_leaves_room_for_the_others() -> None:
    made = met(heard(**hello(shares={"round": 2**53, "default": 0})))
    made.shares.retarget()
    for message in made.shares.due().values():
        assert heard(**hello(shares=msgspec.to_builtins(message))) is not None


async def test_a_token_nested_beyond_all_bounds_is_refused_before_it_is_reviewed() -> None:
    """Nobody needs to be authenticated to send one."""
    tokens = FakeTokens()
    deep = base64.urlsafe_b64encode(b'{"exp":1e12,"x":' + b"[" * 5000).decode()
    for token in (f"a.{deep}.c", "a.b.c", "a..c", f"a.{'=' * 100}.c", "\u0661.\u0662.\u0663"):
        with pytest.raises(Refused) as refused:
            await Authenticator(tokens, FakeView(), SystemClock()).authenticate(f"Bearer {token}")
        assert refused.value.status == 401
    assert tokens.reviews == 0
