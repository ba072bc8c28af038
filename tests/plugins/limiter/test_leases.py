from plugins.limiter.leases import TRY_AGAIN, Leases


def test_as_many_as_there_are_and_no_more() -> None:
    leases = Leases(2)
    one, _, remaining, _ = leases.take(None, 1, 0)
    assert remaining == 1
    two, wait, remaining, _ = leases.take(one, 1, 0)
    assert (wait, remaining) == (0, 0)
    assert leases.take(two, 1, 0) == (None, TRY_AGAIN, 0, 0)
    assert leases.take(two, 0, 0)[0] is None
    assert leases.take(one, 0, 0) == (one, 0, 1, 0)


def test_an_end_makes_room_for_one() -> None:
    leases = Leases(2)
    two = leases.take(leases.take(None, 1, 0)[0], 1, 0)[0]
    one = leases.give(two, 2, 1, 0, 0)
    assert leases.take(one, 0, 0)[2] == 1
    assert leases.give(one, 1, 1, 0, 0) is None
    assert leases.give(None, 1, 1, 0, 0) is None


def test_fewer_than_run_already_refuse_until_enough_have_ended() -> None:
    leases = Leases(2)
    assert leases.take(5, 1, 0) == (None, TRY_AGAIN, -3, 0)
    assert leases.take(1, 1, 0)[0] == 2


def test_a_running_request_is_never_forgotten() -> None:
    assert Leases(2).weight(1, 10**18) > 0
