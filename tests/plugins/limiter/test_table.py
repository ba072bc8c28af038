import random
import tracemalloc

import pytest

from plugins.limiter.gcra import Gcra
from plugins.limiter.meter import State
from plugins.limiter.table import SMALL, Table


def weight(state: State, now: int) -> int:
    """A bucket of these tests is the time at which it is unused again."""
    return max(0, int(state) - now)


def test_what_is_put_is_there_until_it_is_dropped() -> None:
    table = Table(weight, 100)
    assert table.get("a") is None
    table.put("a", 5, 0)
    table.put("b", 6, 0)
    table.put("a", 7, 0)
    assert (table.get("a"), table.get("b"), len(table)) == (7, 6, 2)
    table.drop("a")
    table.drop("c")
    assert (table.get("a"), len(table)) == (None, 1)


def test_unused_buckets_are_swept_away_as_new_ones_come() -> None:
    table = Table(weight, 100_000)
    for key in range(10_000):
        table.put(f"old-{key}", 100, 0)
    assert len(table) == 10_000
    for key in range(10_000):
        table.put(f"new-{key}", 10**9, 200)
    assert len(table) == 10_000
    assert all(table.get(f"new-{key}") for key in range(10_000))
    assert table.forgotten == 0


def test_a_bucket_in_use_is_kept_through_every_sweep() -> None:
    table = Table(weight, 100_000)
    for key in range(3 * SMALL):
        table.put(f"kept-{key}", 10**9, 0)
    for key in range(20 * SMALL):
        table.put(f"passing-{key}", key + 1, key)
        table.put("kept-7", 10**9 + key, key)
    assert all(table.get(f"kept-{key}") for key in range(3 * SMALL))
    assert table.get("kept-7") == 10**9 + 20 * SMALL - 1
    assert len(table) < 2 * 3 * SMALL


@pytest.mark.parametrize("bound", [1, 2, 17, 2000])
def test_there_are_never_more_than_the_bound(bound: int) -> None:
    table = Table(weight, bound)
    for key in range(5 * bound + 50):
        table.put(str(key), 10**9 + key, 0)
        assert len(table) <= bound
    assert len(table) == bound
    assert table.forgotten == 4 * bound + 50
    assert table.get(str(5 * bound + 49)) is not None


def test_at_the_bound_an_unused_bucket_goes_before_one_in_use() -> None:
    table = Table(weight, 8)
    for key in range(8):
        table.put(f"used-{key}", 10**9, 0)
    table.drop("used-0")
    table.put("unused", 100, 0)
    table.put("new", 10**9, 200)
    assert table.get("unused") is None
    assert (len(table), table.forgotten) == (8, 0)
    assert all(table.get(f"used-{key}") for key in range(1, 8))


def test_a_flood_of_new_keys_pushes_out_its_own_and_nobody_else() -> None:
    """Each of the flood's buckets knows of one request, those of the others of ten or more."""
    bound, heavy = 2000, 600
    table = Table(weight, bound)
    order = list(range(bound))
    random.Random(7).shuffle(order)
    for key in order:
        table.put(
            f"heavy-{key}" if key < heavy else f"flood-{key}", 10_000 + key if key < heavy else 1_000, 0
        )
    for key in range(20 * bound):
        table.put(f"more-{key}", 1_000, 0)
    lost = [key for key in range(heavy) if table.get(f"heavy-{key}") is None]
    assert lost == []
    assert table.forgotten == 20 * bound


def test_moved_buckets_are_there_once() -> None:
    """Against a plain dict, with keys that come and go and some that stay in use."""
    dice = random.Random(11)
    table = Table(weight, 10_000)
    plain: dict[str, int] = {}
    for now in range(30_000):
        key = str(dice.randrange(6000))
        if dice.random() < 0.1:
            table.drop(key)
            plain.pop(key, None)
        else:
            plain[key] = now + dice.choice((1, 1000, 10**9))
            table.put(key, plain[key], now)
        assert table.get(key) == plain.get(key)
        if now % 5000 == 0:
            for each, until in plain.items():
                assert table.get(each) == until or until <= now
    assert table.forgotten == 0


def test_a_bucket_costs_about_a_quarter_of_a_kilobyte() -> None:
    """What docs/limits.md says; the figure is of this Python, hence the room."""
    meter = Gcra(997, 60_000_000, 997)
    table = Table(meter.weight, 20_000)
    tracemalloc.start()
    try:
        for key in range(20_000):
            state = meter.take(None, 1, 10**12)[0]
            assert state is not None
            table.put(f"user-{key:08}", state, 10**12)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 100 < used / 20_000 < 500


def test_all_can_be_taken_out() -> None:
    table = Table(lambda state, now: state, 100)
    for number in range(30):
        table.put(str(number), number + 1, 0)
    assert dict(table.empty()) == {str(number): number + 1 for number in range(30)}
    assert len(table) == 0
    assert [*table.empty()] == []
