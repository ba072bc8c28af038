"""What limits mean, said as plainly as possible: exact fractions, no algorithm to speak of."""

from collections import Counter
from datetime import UTC, datetime
from fractions import Fraction
from math import ceil, floor

from plugins.limiter.limit import Limit

WINDOWS = {
    "second": 10**6,
    "minute": 60 * 10**6,
    "hour": 3600 * 10**6,
    "day": 86400 * 10**6,
    "month": 30 * 86400 * 10**6,
}


class Leaking:
    """A bucket that leaks at a steady rate. `level` has reservations in full, `known` only what was used."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.level = self.known = Fraction(0)
        self.at = 0

    def leak(self, now: int) -> None:
        lost = Fraction(self.limit.amount, WINDOWS[self.limit.window]) * (now - self.at)
        self.level = max(Fraction(0), self.level - lost)
        self.known = max(Fraction(0), self.known - lost)
        self.at = now

    def admits(self, amount: int) -> bool:
        return self.level + max(amount, 1) <= self.limit.burst

    def take(self, amount: int) -> object:
        self.level += amount
        return None

    def charge(self, receipt: object, amount: int) -> None:
        self.level = max(self.level + amount, self.known)

    def give(self, receipt: object, reserved: int, used: int) -> None:
        self.known += used
        self.level = max(self.level + used - reserved, self.known)

    @property
    def remaining(self) -> int:
        return floor(self.limit.burst - self.level)

    @property
    def reset(self) -> int:
        return ceil(self.level / Fraction(self.limit.amount, WINDOWS[self.limit.window]))


class Counting:
    """Spending by calendar window."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.spent: Counter[str] = Counter()
        self.window = ""

    def leak(self, now: int) -> None:
        formats = {"hour": "%Y-%m-%d %H", "day": "%Y-%m-%d", "month": "%Y-%m"}
        self.window = datetime.fromtimestamp(now // 10**6, UTC).strftime(formats[self.limit.window])

    def admits(self, amount: int) -> bool:
        return self.spent[self.window] + max(amount, 1) <= self.limit.amount

    def take(self, amount: int) -> object:
        self.spent[self.window] += amount
        return self.window

    def charge(self, receipt: object, amount: int) -> None:
        self.give(receipt, 0, amount)

    def give(self, receipt: object, reserved: int, used: int) -> None:
        if receipt == self.window:
            spent = self.spent[self.window] + used - reserved
            self.spent[self.window] = min(2**53, max(0, spent))

    @property
    def remaining(self) -> int:
        return self.limit.amount - self.spent[self.window]


class Flying:
    """Requests in flight."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.running = 0

    def leak(self, now: int) -> None:
        pass

    def admits(self, amount: int) -> bool:
        return self.running + max(amount, 1) <= self.limit.amount

    def take(self, amount: int) -> object:
        self.running += amount
        return None

    def charge(self, receipt: object, amount: int) -> None:
        raise AssertionError

    def give(self, receipt: object, reserved: int, used: int) -> None:
        self.running += used - reserved

    @property
    def remaining(self) -> int:
        return self.limit.amount - self.running


Model = Leaking | Counting | Flying


def model(limit: Limit) -> Model:
    if limit.kind == "cost" and not limit.rolling:
        return Counting(limit)
    return Flying(limit) if limit.kind == "in_flight" else Leaking(limit)
