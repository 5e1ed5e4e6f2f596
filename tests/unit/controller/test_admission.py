from sendward.controller.admission import AT_ONCE, Admission
from sendward.resources.base import ObjectKey

SMS = frozenset({"sms"})


def _account(number: int) -> ObjectKey:
    return ObjectKey("SenderAccount", "tenant", f"a{number}")


def _full(admission: Admission) -> None:
    assert all(admission.enter(f"k{n}", _account(n), SMS, 0) for n in range(AT_ONCE))


def test_a_bounded_number_is_under_way_and_the_others_are_called_as_places_fall_free() -> None:
    admission = Admission()
    _full(admission)
    late = [_account(AT_ONCE + n) for n in range(3)]
    assert not any(admission.enter(f"late{n}", account, SMS, 0) for n, account in enumerate(late))
    assert admission.leave("k0") == [late[0]]
    assert admission.leave("k1") == [late[1]]
    assert admission.enter("late0", late[0], SMS, 0)
    assert not admission.enter("late2", late[2], SMS, 0)


def test_who_is_under_way_stays_so_until_it_leaves() -> None:
    admission = Admission()
    _full(admission)
    assert admission.enter("k7", _account(7), SMS, 0)
    assert admission.leave("k7") == []
    assert admission.leave("k7") == []


def test_neighbours_in_a_shard_go_together() -> None:
    admission = Admission()
    _full(admission)
    for n in range(8):
        admission.enter(f"late{n}", _account(1000 + n), SMS, n % 2)
    called = [admission.leave(f"k{n}")[0] for n in range(8)]
    assert called == [_account(1000 + n) for n in (0, 2, 4, 6, 1, 3, 5, 7)]


def test_one_that_goes_while_it_waits_is_not_called() -> None:
    admission = Admission()
    _full(admission)
    admission.enter("gone", _account(1), SMS, 0)
    admission.enter("next", _account(2), SMS, 0)
    assert admission.leave("gone") == []
    assert admission.leave("k0") == [_account(2)]


def test_a_gateway_whose_guards_hang_holds_up_no_other_one() -> None:
    admission = Admission()
    _full(admission)
    assert admission.enter("other", _account(1), frozenset({"voice"}), 0)


def test_nothing_is_kept_of_keys_that_left() -> None:
    admission = Admission()
    _full(admission)
    admission.enter("late", _account(1), SMS, 0)
    for uid in [f"k{n}" for n in range(AT_ONCE)] + ["late"]:
        admission.leave(uid)
    assert len(admission) == 0
    assert not admission._lanes
