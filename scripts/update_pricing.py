"""Keep the price table up to date.

    python scripts/update_pricing.py pack               # make proxy/pricing/default.json from pricing.yaml
    python scripts/update_pricing.py compare            # say where genai-prices has other prices
    python scripts/update_pricing.py compare FILE.json  # or litellm's model_prices_and_context_window.json

Prices are changed by a person, in pricing.yaml: the sources disagree, and each has been wrong. Run it with
Weir and, to compare, its development dependencies installed.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import orjson

from proxy.core import yaml
from proxy.core.config import ConfigError
from proxy.core.pricing import load
from proxy.pricing.sources import against_genai, against_litellm
from proxy.pricing.table import PACKED

SOURCE: Final = Path(__file__).parents[1] / "pricing.yaml"


def main(arguments: Sequence[str], source: Path = SOURCE, target: Path = PACKED) -> int:
    """The exit status."""
    try:
        match arguments:
            case ["pack"]:
                print(pack(source, target))  # noqa: T201 # a command speaks
                return 0
            case ["compare"]:
                print(*against_genai(load(source)), sep="\n")  # noqa: T201
                return 0
            case ["compare", file]:
                print(*against_litellm(load(source), orjson.loads(Path(file).read_bytes())), sep="\n")  # noqa: T201
                return 0
    except (ConfigError, OSError, orjson.JSONDecodeError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    print(__doc__, file=sys.stderr)  # noqa: T201
    return 2


def pack(source: Path, target: Path) -> str:
    """Write what a table of YAML says as JSON. Raises `ConfigError`, and writes nothing, if it is wrong."""
    version = load(source).version
    packed = compiled(source)
    if not target.exists() or target.read_bytes() != packed:
        target.write_bytes(packed)
    return f"{target.name}: {len(packed)} bytes, version {version}"


def compiled(source: Path) -> bytes:
    """The JSON of a table of YAML, a model a line so that a change of price is one line too."""
    node, _ = yaml.read(source)
    assert node is not None  # noqa: S101 # it was loaded
    lines = []
    for key, value in yaml.plain(node).items():
        if key == "models":
            models = ",\n".join(f"{_dumped(name)}:{_dumped(model)}" for name, model in value.items())
            lines.append(f'"models":{{\n{models}\n}}')
        else:
            lines.append(f"{_dumped(key)}:{_dumped(value)}")
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _dumped(value: object) -> str:
    return orjson.dumps(value).decode()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
