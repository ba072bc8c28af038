"""One target under atheris: `python -m tests.fuzz.guided TARGET [arguments of libFuzzer]`."""

import importlib
import sys

import atheris


def main() -> None:
    """Does not return: libFuzzer ends the process."""
    name, *arguments = sys.argv[1:]
    with atheris.instrument_imports(include=["proxy", "plugins", "tests.fuzz"]):
        module = importlib.import_module(f"tests.fuzz.{name}")
    atheris.Setup([sys.argv[0], *arguments], module.target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
