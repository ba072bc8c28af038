"""`python -m tests.soak`: soak, tell, and exit with 1 if something grows, is left or is missing."""

import argparse
import asyncio
import random
import sys

from .figures import HEAD, Figures, line, summary
from .world import Soak


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (10)")
    parser.add_argument("--seed", type=int, help="what is random is that of an earlier soak, near enough")
    parser.add_argument("--clients", type=int, default=8, help="how many at a time (8)")
    parser.add_argument("--every", type=float, help="seconds of load between two rests (10)")
    parser.add_argument("--patience", type=float, default=15.0, help="seconds in which all has settled (15)")
    parser.add_argument("--plant", action="append", default=[], metavar="LEAK", help="a leak of planted.py")
    given = parser.parse_args()
    seed = random.randrange(2**32) if given.seed is None else given.seed
    print(f"soaking for {given.minutes:g} minutes with --seed {seed}", HEAD, sep="\n", flush=True)
    soak = Soak(
        given.minutes * 60,
        seed,
        load=given.every,
        clients=given.clients,
        patience=given.patience,
        planted=[f"tests.soak.planted:{name}" for name in given.plant],
        tell=_tell,
    )
    try:
        asyncio.run(soak.run())
    except* AssertionError as group:
        soak.wrong += [f"broken: {' '.join(str(each).split())[:500]}" for each in _leaves(group)]
    if soak.rests:
        print(*summary(soak.rests), sep="\n")
    answers = ", ".join(f"{status}: {count}" for status, count in sorted(soak.book.statuses.items()))
    print(f"{len(soak.book.made)} requests; answers {answers}", flush=True)
    for each in soak.wrong:
        print(f"FAILED {each} (--seed {seed})", file=sys.stderr)
    return 1 if soak.wrong else 0


def _tell(rest: Figures) -> None:
    print(line(rest), flush=True)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for each in group.exceptions:
        found += _leaves(each) if isinstance(each, BaseExceptionGroup) else [each]
    return found


if __name__ == "__main__":
    sys.exit(main())
