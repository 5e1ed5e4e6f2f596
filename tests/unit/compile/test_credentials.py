from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sendward import names
from sendward.compile.credentials import Do, Facts, Pending, Phase, accepted, decide
from sendward.document import Version
from sendward.graph.effective import EffectiveKey
from sendward.resources.api_key import APIKeySpec
from sendward.resources.api_key_policy import APIKeyPolicySpec
from sendward.resources.base import Meta, ObjectKey, Resource
from sendward.resources.status import APIKeyStatus, KeyVersion

NOW = datetime(2026, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
FOUND = Version("v2", 2, "d2")


def _meta(kind: str, name: str, deleting: bool = False) -> Meta:
    return Meta(ObjectKey(kind, "ns", name), f"uid-{name}", 1, NOW, (), deleting, (names.FINALIZER,))


def _key(policy: dict[str, Any] | None = None, *, deleting: bool = False, **spec: Any) -> EffectiveKey:
    found = None
    if policy is not None:
        found = Resource(_meta("APIKeyPolicy", "p"), APIKeyPolicySpec.model_validate(policy))
    key = Resource(_meta("APIKey", "k", deleting), APIKeySpec(account="a", **spec))
    return EffectiveKey(key, found, None, (), (), None, ())


def _version(number: int, state: Any, **more: Any) -> KeyVersion:
    fields = {"issued_at": NOW - 100 * HOUR, "vault_version": number, **more}
    return KeyVersion(number=number, id=f"v{number}", state=state, **fields)


def _facts(*versions: KeyVersion, pending: Pending | None = None, **more: Any) -> Facts:
    facts = Facts(
        status=APIKeyStatus(versions=list(versions)),
        pending=pending,
        digests={f"v{n}": f"d{n}" for n in range(1, 9)},
        last_used={},
        in_force=True,
        unrecorded=(),
        handed_over="",
        heard_since=NOW - 1000 * HOUR,
        now=NOW,
    )
    return replace(facts, **more)


def _pending(phase: Phase, number: int = 2) -> Pending:
    return Pending(number, f"v{number}", f"d{number}", phase, NOW, number)


CURRENT = _version(1, "Current")
PREVIOUS = _version(1, "Previous", retire_at=NOW + 10 * HOUR)
SECRET = {"handOver": {"type": "Secret"}}
QUICK = {"rotation": {"overlap": "24h", "retireWhenUnusedFor": "1h"}}
HOLD = {"onCompromise": "Hold"}
CASES = [
    ("draw the first", _key({}), _facts(), Do.DRAW),
    ("nothing without a policy", _key(None), _facts(), None),
    ("at rest", _key({}), _facts(CURRENT), None),
    ("verifier not acknowledged", _key({}), _facts(pending=_pending(Phase.DRAWN), in_force=False), None),
    ("verifier in force", _key({}), _facts(pending=_pending(Phase.DRAWN)), Do.WRITE),
    ("answer lost", _key({}), _facts(pending=_pending(Phase.UNCERTAIN), in_force=False), Do.READ_BACK),
    ("written", _key({}), _facts(pending=_pending(Phase.WRITTEN)), Do.RECORD),
    ("adopted, not in force", _key({}), _facts(pending=_pending(Phase.WRITTEN), in_force=False), None),
    ("written, policy gone", _key(None), _facts(pending=_pending(Phase.WRITTEN)), None),
    ("drawn, and not wanted any more", _key({}), _facts(CURRENT, pending=_pending(Phase.DRAWN)), None),
    ("drawn, and revoked", _key({}, revoke_through=2), _facts(pending=_pending(Phase.DRAWN)), Do.DRAW),
    ("written, and revoked", _key({}, revoke_through=2), _facts(pending=_pending(Phase.WRITTEN)), Do.RECORD),
    ("an earlier leader's, at rest", _key({}), _facts(CURRENT, unrecorded=(FOUND,)), Do.READ_BACK),
    ("an earlier leader's, no policy", _key(None), _facts(CURRENT, unrecorded=(FOUND,)), Do.READ_BACK),
    ("verifier unknown", _key({}), _facts(CURRENT, digests={}), Do.READ_DIGESTS),
    ("revoke, not acknowledged", _key({}, revoke_through=1), _facts(CURRENT, in_force=False), None),
    ("revoke", _key({}, revoke_through=1), _facts(CURRENT), Do.END),
    ("revoke without verifiers", _key({}, revoke_through=1), _facts(CURRENT, digests={}), Do.END),
    ("reissue", _key({}, revoke_through=1), _facts(_version(1, "Revoked", destroyed=True)), Do.DRAW),
    ("hold", _key(HOLD, revoke_through=1), _facts(_version(1, "Revoked", destroyed=True)), None),
    ("destroy later", _key({}), _facts(_version(1, "Retired"), _version(2, "Current")), Do.DESTROY),
    ("in the overlap", _key({}), _facts(PREVIOUS, _version(2, "Current")), None),
    ("its end", _key({}), _facts(_version(1, "Previous", retire_at=NOW), _version(2, "Current")), Do.END),
    ("unused", _key(QUICK), _facts(PREVIOUS, _version(2, "Current")), Do.END),
    ("used", _key(QUICK), _facts(PREVIOUS, _version(2, "Current"), last_used={"v1": NOW}), None),
    ("usage unknown", _key(QUICK), _facts(PREVIOUS, _version(2, "Current"), heard_since=NOW), None),
    ("unused, no successor", _key(QUICK | HOLD), _facts(PREVIOUS), None),
    ("hand over", _key(SECRET), _facts(CURRENT), Do.HAND_OVER),
    ("handed over", _key(SECRET), _facts(CURRENT, handed_over="v1"), None),
    ("take back", _key({}), _facts(CURRENT, handed_over="v1"), Do.TAKE_BACK),
    ("deleted, not acknowledged", _key({}, deleting=True), _facts(CURRENT, in_force=False), None),
    ("deleted", _key({}, deleting=True), _facts(CURRENT), Do.PURGE),
]


@pytest.mark.parametrize(("key", "facts", "step"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_the_next_step(key: EffectiveKey, facts: Facts, step: Do | None) -> None:
    assert decide(key, facts, finalizer=True).step is step


def test_nothing_happens_before_the_finalizer() -> None:
    assert decide(_key({}), _facts(), finalizer=False).step is Do.ADD_FINALIZER


def _accepts(key: EffectiveKey, facts: Facts) -> dict[str, bool]:
    return {version.id: not version.revoked for version in accepted(key, facts)}


def test_what_guards_accept() -> None:
    both = _facts(PREVIOUS, _version(2, "Current"))
    assert _accepts(_key({}), both) == {"v1": True, "v2": True}
    assert _accepts(_key({}, revoke_through=1), both) == {"v1": False, "v2": True}
    assert _accepts(_key({}, deleting=True), both) == {"v1": False, "v2": False}
    assert _accepts(_key(QUICK), both) == {"v2": True}
    assert _accepts(_key({}), _facts(pending=_pending(Phase.DRAWN))) == {"v2": True}
    assert _accepts(_key({}, revoke_through=2), _facts(pending=_pending(Phase.DRAWN))) == {}
    assert _accepts(_key({}, revoke_through=2), _facts(pending=_pending(Phase.WRITTEN))) == {"v2": False}
    assert _accepts(_key({}), _facts(CURRENT, unrecorded=(FOUND,))) == {"v1": True, "v2": True}
    assert _accepts(_key({}, revoke_through=2), _facts(unrecorded=(FOUND,))) == {}


def test_expiry_is_the_sooner_of_deadline_and_age() -> None:
    key = _key({"rotation": {"overlap": "1h"}, "maximumAge": "200h"})
    old, new = accepted(key, _facts(PREVIOUS, _version(2, "Current")))
    assert old.not_after == int((NOW + 10 * HOUR).timestamp())
    assert new.not_after == int((NOW + 100 * HOUR).timestamp())


def test_recording_begins_the_overlap() -> None:
    key = _key({"rotation": {"overlap": "3h"}}, rotate_nonce="x")
    status = decide(key, _facts(CURRENT, pending=_pending(Phase.WRITTEN)), finalizer=True).status
    assert [(v.state, v.retire_at) for v in status.versions] == [
        ("Previous", NOW + 3 * HOUR),
        ("Current", None),
    ]
    assert (status.rotate_nonce, status.current_version) == ("x", 2)


def test_a_revoked_pending_version_is_recorded_as_such() -> None:
    key = _key({}, revoke_through=2, rotate_nonce="x")
    facts = _facts(_version(1, "Revoked", destroyed=True, ended_at=NOW), pending=_pending(Phase.WRITTEN))
    decision = decide(key, facts, finalizer=True)
    assert [v.state for v in decision.status.versions] == ["Revoked", "Revoked"]
    assert decision.status.rotate_nonce == ""
    assert not decision.revoking


@pytest.mark.parametrize(
    ("facts", "revoking"),
    [
        (_facts(CURRENT, in_force=False), True),
        (_facts(_version(1, "Revoked", ended_at=NOW)), False),
        (_facts(pending=_pending(Phase.UNCERTAIN)), True),
        (_facts(unrecorded=(FOUND,)), True),
    ],
)
def test_revoking_lasts_until_nothing_may_be_accepted(facts: Facts, revoking: bool) -> None:
    assert decide(_key({}, revoke_through=2), facts, finalizer=True).revoking is revoking


def test_numbers_go_on_above_what_was_revoked_and_recorded() -> None:
    assert decide(_key({}), _facts(CURRENT), finalizer=True).number == 2
    assert decide(_key({}, revoke_through=7), _facts(CURRENT), finalizer=True).number == 8


def test_history_keeps_eight_that_ended() -> None:
    ended = [_version(n, "Retired", destroyed=True, ended_at=NOW) for n in range(1, 13)]
    status = decide(
        _key({}), _facts(*ended, _version(13, "Current"), digests={"v13": "d"}), finalizer=True
    ).status
    assert [v.number for v in status.versions] == [*range(5, 14)]
