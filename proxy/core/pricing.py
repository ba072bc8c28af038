"""The price table of a file, with a line for everything that is wrong with it."""

from pathlib import Path

from proxy.core import yaml
from proxy.core.settings.messages import ConfigError, by_line, nearest, told
from proxy.core.yaml import show_loc
from proxy.pricing.schema import TableError
from proxy.pricing.table import Table, default, parse


def load(path: Path | None) -> Table:
    """The table of a YAML file; without one, that which comes with Weir. Implements `Prices`.

    Reading YAML takes a millisecond for every three lines: not for the event loop. Raises `ConfigError`.
    """
    if path is None:
        return default()
    node, problems = yaml.read(path)
    if node is not None:
        spots = dict(yaml.spots(node))
        try:
            table = parse(yaml.plain(node))
        except TableError as error:
            for loc, text in error.problems:
                spot = nearest(spots, loc)
                if not spot.broken:
                    problems.append(yaml.Problem(spot.key_line, loc, text))
        else:
            if not problems:
                return table
    elif not problems:
        problems.append(yaml.Problem(0, (), "is empty"))
    lines = sorted(problems, key=by_line)
    raise ConfigError(told(str(path), line, show_loc(loc), text) for line, loc, text in lines)
