"""What the hub tells guards to limit by: shares, or counters that they share."""

from __future__ import annotations

from dataclasses import replace

from sendward.protocol import PPM, Leave, Portions, Report, Shares, SharesAck
from tests.unit.controller.hub_world import GATEWAY, World, envelope, have


async def test_shares_move_only_after_the_decrease_is_acknowledged(world: World) -> None:
    world.hub.publish(GATEWAY, {"0": envelope("0", 1)})
    one, two = world.view.add("one"), world.view.add("two")
    async with world.guard(one) as first:
        await first.hello()
        assert (await first.take_shares()).default == PPM
        async with world.guard(two) as second:
            await second.hello()
            decrease = await first.next(Shares)
            assert decrease.default == PPM // 2
            assert second.messages == []
            await first.send(SharesAck(decrease.round))
            assert (await second.take_shares()).default == PPM // 2


async def test_the_share_of_a_guard_whose_pod_is_gone_goes_to_the_others(world: World) -> None:
    world.hub.publish(GATEWAY, {"0": envelope("0", 1)})
    one, two = world.view.add("one"), world.view.add("two")
    async with world.guard(one) as first:
        await first.hello()
        await first.take_shares()
        async with world.guard(two) as second:
            await second.hello()
            await first.take_shares()
            await second.take_shares()
        await world.until(lambda: not world.hub.guards(GATEWAY)[two.uid].connected)
        world.view.remove(two)
        assert (await first.take_shares()).default == PPM


async def test_a_guard_that_ends_in_order_leaves_its_share_and_its_tokens_to_the_others(world: World) -> None:
    world.hub.publish(GATEWAY, {"0": envelope("0", 1)})
    one, two = world.view.add("one"), world.view.add("two")
    async with world.guard(one) as first, world.guard(two) as second:
        await first.hello()
        await first.take_shares()
        await second.hello()
        await first.take_shares()
        await second.take_shares()
        await second.send(Leave(Portions(PPM // 2, {"account": 7})))
        left = await first.take_shares()
        assert (left.default, left.filled) == (PPM, Portions(PPM // 2, {"account": 7}))


async def test_a_new_leader_waits_for_guards_that_may_hold_shares(world: World) -> None:
    one, two = world.view.add("one"), world.view.add("two")
    held = Shares(5, PPM // 2, {"account": PPM // 4})
    world.view.opened = False
    async with world.guard(one) as first, world.guard(two) as second:
        await first.hello(shares=held)
        await world.until(lambda: one.uid in world.hub.guards(GATEWAY))
        world.view.opened = True  # the document was loaded
        world.hub.publish(GATEWAY, {"0": envelope("0", 1)})
        await second.hello(shares=Shares(6, PPM // 2, {"account": PPM // 2}))
        given = await first.take_shares()
        assert (given.default, given.subjects) == (PPM // 2, {})
        assert given.round > 5
        await second.send(Report({"account": 90}, {}))
        assert (await first.take_shares()).subjects["account"] <= PPM // 10
        while (await second.take_shares()).subjects.get("account", 0) < 0.9 * PPM:
            pass


async def test_guards_that_reach_shared_counters_are_told_of_one_term_and_of_its_end(world: World) -> None:
    world.view.place = "0123456789abcdef"
    pod, part = world.view.add("pod"), envelope("gateway", 1)
    world.hub.publish(GATEWAY, {"gateway": part})
    async with world.guard(pod) as guard:
        await guard.hello(have(part))
        await guard.send(Report({}, {}, place="0123456789abcdef.here"))
        told = await guard.take_shares()
        assert told.term.startswith("0123456789abcdef.here.")
        assert (told.default, told.subjects) == (0, {})
        await guard.send(Report({}, {}))
        left = await guard.take_shares()
        assert (left.default, left.term) == (0, "")
        shares = await guard.take_shares()
        assert (shares.default, shares.term) == (PPM, "")


async def test_a_guard_that_only_begins_does_not_end_the_term_of_the_others(world: World) -> None:
    world.view.place = "0123456789abcdef"
    one, two, part = world.view.add("one"), world.view.add("two"), envelope("gateway", 1)
    here = Report({}, {}, place="0123456789abcdef.here")
    world.hub.publish(GATEWAY, {"gateway": part})
    async with world.guard(one) as first, world.guard(two) as second:
        await first.hello(have(part))
        await second.hello()
        await first.send(here)
        term = (await first.take_shares()).term
        await second.send(Report({}, {}, place=None))
        await second.send(here)
        assert (await second.take_shares()).term == term
        assert [message.term for message in first.messages if isinstance(message, Shares)] == [term]


async def test_a_guard_of_an_earlier_gateway_keeps_no_counters_from_this_one(world: World) -> None:
    """Nor shares: it refuses everything, and reaches the counters of a gateway that is gone."""
    world.view.place = "0123456789abcdef"
    old, new, part = world.view.add("old"), world.view.add("new"), envelope("gateway", 1)
    old = world.view.of["tenant", "old"] = replace(old, gateway_uid="uid-of-an-earlier-one")
    world.hub.publish(GATEWAY, {"gateway": part})
    async with world.guard(old) as first, world.guard(new) as second:
        await first.hello(shares=Shares(9, PPM))
        assert (await first.take()).part == "gateway"
        await first.send(Report({}, {}, place=""))
        await second.hello(have(part))
        await second.send(Report({}, {}, place="0123456789abcdef.here"))
        assert (await second.take_shares()).term.startswith("0123456789abcdef.here.")
        world.view.place = ""
        assert (await second.take_shares()).term == ""
        assert (await second.take_shares()).default == PPM
        assert not any(isinstance(message, Shares) for message in first.messages)
