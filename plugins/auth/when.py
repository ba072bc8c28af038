"""Spans and moments as people write them: `90d`, `2030-01-31`."""

import re
from datetime import UTC, datetime

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SPAN = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|s|m|h|d)")


def span(text: object) -> float:
    """Seconds of a span with its unit. Raises `ValueError`."""
    found = _SPAN.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError("is not a span like 30s, 10m, 12h or 90d")
    return float(found[1]) * _UNITS[found[2]]


def moment(text: object) -> float:
    """Seconds since 1970 of a date (its first moment, UTC) or a time (UTC unless it says otherwise).

    Raises `ValueError`.
    """
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        found = None
    if found is None:
        raise ValueError("is not a date like 2030-01-31 or a time like 2030-01-31T12:00:00Z")
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()


def expiry(text: object, now: float) -> float:
    """Seconds since 1970 of a moment that is given as such or as a span from now, and is to come.

    Raises `ValueError`.
    """
    try:
        found = now + span(text)
    except ValueError:
        try:
            found = moment(text)
        except ValueError:
            raise ValueError("is neither a span like 90d nor a date like 2030-01-31") from None
    if found <= now:
        raise ValueError("is over already")
    if found > _LAST:
        raise ValueError("is too far away")
    return found


_LAST = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


def written(seconds: float | None) -> str | None:
    """A moment as it is shown: ISO 8601, UTC, to the second."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
