from plugins.limiter.limit import Limit
from plugins.limiter.redis.call import Give
from plugins.limiter.redis.settlements import Settlements

TOKENS, FLYING = Limit("t", "tokens", 100, "hour"), Limit("f", "in_flight", 5)


def give(number: int) -> Give:
    return Give(TOKENS, "k", number, 0, 0)


def test_what_waits_goes_in_order_and_in_pieces() -> None:
    settlements = Settlements()
    assert not settlements
    settlements.put([give(number) for number in range(5)])
    assert settlements
    assert [each.reserved for each in settlements.take(3)] == [0, 1, 2]
    assert [each.reserved for each in settlements.take(3)] == [3, 4]
    assert not settlements


def test_charges_go_before_what_settles_them() -> None:
    settlements = Settlements(bound=2)
    settlements.put([give(7)])
    settlements.charge([give(1), give(2)])
    settlements.charge([give(3)])
    settlements.hand_over(iter([give(0)]))
    assert settlements.lost == 1
    assert [each.reserved for each in settlements.take(3)] == [0, 1, 2]
    assert settlements
    assert [each.reserved for each in settlements.take(3)] == [7]


def test_above_the_bound_the_newest_are_lost_and_counted() -> None:
    settlements = Settlements(bound=3)
    settlements.put([give(1), give(2)])
    settlements.put([give(3), give(4)])
    settlements.put([give(5)])
    assert [each.reserved for each in settlements.take(9)] == [1, 2, 5]
    assert settlements.lost == 2
    assert settlements.waiting == 0
    settlements.charge([give(6)])
    settlements.put([give(7)])
    assert settlements.waiting == 2


def test_what_was_counted_elsewhere_goes_first() -> None:
    settlements = Settlements()
    settlements.put([give(9)])
    settlements.hand_over(iter([give(1), give(2), give(3)]))
    assert [each.reserved for each in settlements.take(2)] == [1, 2]
    settlements.hand_over(iter([give(4)]))
    assert [each.reserved for each in settlements.take(9)] == [4, 3, 9]
    settlements.hand_over(iter(()))
    assert not settlements


def test_leases_are_renewed_as_long_as_their_requests_run() -> None:
    settlements = Settlements()
    for id_ in ("one", "two"):
        settlements.run(id_, [(FLYING, "k", 1), (TOKENS, "k", 5)])
    settlements.run("three", [(TOKENS, "k", 5)])
    settlements.beat()
    settlements.stop("one")
    assert settlements.take(9) == [Give(FLYING, "k", 1, 1, "two")]
    assert not settlements
    settlements.beat()
    settlements.beat()
    assert len(settlements.take(9)) == 1


def test_nothing_brings_back_or_takes_away_a_lease_at_the_wrong_time() -> None:
    settlements = Settlements()
    settlements.run("runs", [(FLYING, "k", 1)])
    renewed = [Give(FLYING, "k", 1, 1, id_) for id_ in ("runs", "ended")]
    assert settlements.still_due([*renewed, give(1)]) == [renewed[0], give(1)]
    ends = [Give(FLYING, "k", 1, 0, id_) for id_ in ("runs", "ended")]
    assert settlements.ended([*ends, give(1)]) == [ends[1], give(1)]


def test_the_end_of_a_request_ends_what_redis_may_have_of_it() -> None:
    settlements = Settlements()
    renewed, kept = (Give(FLYING, "k", 1, 1, id_) for id_ in ("renewed", "kept"))
    settlements.run("renewed", [(FLYING, "k", 1)])
    settlements.beat()
    assert settlements.take(9) == [renewed]
    settlements.run("kept", [(FLYING, "k", 1)])
    settlements.run("only here", [(FLYING, "k", 1)])
    gone = Give(FLYING, "k", 1, 0, "gone")
    assert settlements.ended([kept, gone, give(1)]) == [gone, give(1)]
    assert settlements.stop("only here") == []
    for lease in (renewed, kept):
        assert settlements.stop(str(lease.receipt)) == [lease._replace(used=0)]
        assert settlements.stop(str(lease.receipt)) == []
