"""Runs Weir with guards taken out, to count what they cost. For nothing else: it lets everything through.

    python -m bench.ungated "gate,deadlines" serve --config weir.yaml

`GUARDS` says which statements each guard is made of. They are taken out of the source as it is imported, so
whatever runs on the way of a request runs without them. A statement that is not found is an error: who
changes a guard changes it here too. Back-pressure stays, and what any proxy has to do: fields that are
hop-by-hop, and framing of its own.
"""

import ast
import importlib
import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any, NamedTuple, cast


class Cut(NamedTuple):
    """Statements of a module: all that hold this text, as `ast.unparse` writes it, within one function or, if
    that is empty, anywhere. Of an `if` its condition counts, and an `else` stays. Without a text: the
    function's whole body."""

    module: str
    within: str
    holds: str
    instead: str = "pass"


class CutError(Exception):
    """There is nothing to cut any more, and it says where."""


TIMERS = "timers"
_DOOR, _ANSWER = "proxy.core.server.protocol", "proxy.core.upstream.http1"
GUARDS: dict[str, tuple[Cut, ...]] = {
    # The request line as RFC 9112 has it; bytes of a head and of a URI, and header fields.
    "front door": (
        Cut(_DOOR, "HttpProtocol.buffer_updated", "self._head_size += nbytes"),
        Cut(_DOOR, "HttpProtocol.buffer_updated", "self._sought = "),
        Cut(_DOOR, "HttpProtocol.buffer_updated", "self._first_line("),
        Cut(_DOOR, "HttpProtocol.on_url", "self.limits.uri"),
        Cut(_DOOR, "HttpProtocol.on_headers_complete", "self._further_line("),
        Cut(_DOOR, "HttpProtocol.on_headers_complete", "self.limits.headers"),
        Cut(_DOOR, "HttpProtocol.on_headers_complete", "version not in "),
        Cut(_DOOR, "HttpProtocol.on_message_complete", "self._head_size = 0"),
    ),
    # Method, Host, framing, expectations, upgrades, and what a path must not hold.
    "gate": (
        Cut("proxy.core.forward", "Trip._pass_gate", "gate.check_method("),
        Cut("proxy.core.gate", "check_framing", "", "return (True, None, frozenset())"),  # as of a chat
        Cut("proxy.core.gate", "Paths.endpoint", "_UNSAFE"),
    ),
    # How large a body may be that plugins read, and that it is not compressed or in another charset.
    "readable body": (
        Cut("proxy.core.body", "Body.read", "self.length > self._limit"),
        Cut("proxy.core.body", "Body._within_limit", "len(whole) > self._limit"),
        Cut("proxy.api.request", "Request.json", "_check_readable("),
    ),
    # Members of a body by which it is metered, and that stand in it twice.
    "duplicates": (Cut("proxy.api.duplicates", "ambiguous", "", "return None"),),
    # For a head, a body, the upstream's connection and answer, all of an exchange, and an idle connection.
    "deadlines": (
        Cut(_DOOR, "", "self.deadline = "),
        Cut(_DOOR, "", "self.deadlines.add("),
        Cut(_DOOR, "", "self._rest()"),
        Cut("proxy.core.forward", "", "deadlines.add("),
        Cut("proxy.core.forward", "", "deadlines.discard("),
        Cut("proxy.core.forward", "", "flight.rest()"),
        Cut("proxy.core.flight", "Flight.__init__", "loop.time()", "self._total_at = 0.0"),
        Cut("proxy.core.flight", "Flight.begin_ending", "self.deadline = "),
        Cut("proxy.core.flight", "Flight.arm_end", "self.deadline = "),
        Cut("proxy.core.body", "", "flight.arm("),
        Cut("proxy.core.body", "", "flight.rest()"),
        Cut("proxy.core.deliver", "", "flight.arm("),
        Cut(_ANSWER, "", "clock.arm("),
        Cut(_ANSWER, "", "deadlines.add("),
        Cut(_ANSWER, "", "deadlines.discard("),
        Cut(_ANSWER, "Pool.give_back", "connection.deadline = "),
    ),
    # Framing, status, version and size of an upstream's head.
    "upstream's answer": (
        Cut(_ANSWER, "Connection.on_header", "name in _FRAMING"),
        Cut(_ANSWER, "Connection.on_headers_complete", "MAX_HEADERS"),
        Cut(_ANSWER, "Connection.on_headers_complete", "get_http_version()"),
        Cut(_ANSWER, "Connection.on_headers_complete", "<= status <="),
        Cut(_ANSWER, "Connection.buffer_updated", "self._head_bytes += nbytes"),
        Cut(_ANSWER, "Connection.buffer_updated", "MAX_HEAD"),
    ),
    # No line breaks in the fields that go to the client, and no more or less body than they promise.
    "client's answer": (
        Cut(_DOOR, "Cycle._start", "_check_lines("),
        Cut(_DOOR, "Cycle._write", "size > self._remaining"),
        Cut(_DOOR, "Cycle._write", "not more and self._remaining"),
    ),
    # Each request looks whether it is to be turned away.
    "overload": (Cut("proxy.core.app", "App.__call__", "self.overload.cause"),),
    # What looks by the clock whether something is late, memory is short or the loop is: nothing of a request.
    TIMERS: (
        Cut("proxy.core.deadlines", "Deadlines.add", "self._timer is None"),
        Cut("proxy.core.app", "App.start", "self.overload.start("),
        Cut("proxy.core.app", "App.start", "self.watchdog.start("),
    ),
}


class _Cutting(ast.NodeTransformer):
    """Takes cuts out of a module's tree; `missed` are those that it has not met."""

    def __init__(self, cuts: Sequence[Cut]) -> None:
        self._cuts = cuts
        self._within: list[str] = []
        self.missed = list(cuts)

    def _found(self, text: str | None) -> Cut | None:
        """The cut that takes out a statement of this text here or, of None, the whole function."""
        for cut in self._cuts:
            if cut.within in ("", ".".join(self._within)) and (
                not cut.holds if text is None else cut.holds and cut.holds in text
            ):
                if cut in self.missed:
                    self.missed.remove(cut)
                return cut
        return None

    def visit(self, node: ast.AST) -> Any:
        """A node, cut if need be."""
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            self._within.append(node.name)
            whole = self._found(None)
            if whole is not None:
                node.body = _parsed(whole.instead, node.body[0])
            else:
                self.generic_visit(node)
            self._within.pop()
            return node
        if isinstance(node, ast.stmt) and (isinstance(node, ast.If) or not hasattr(node, "body")):
            cut = self._found(ast.unparse(node.test if isinstance(node, ast.If) else node))
            if cut is not None:
                rest = [self.visit(each) for each in getattr(node, "orelse", [])]
                return rest or _parsed(cut.instead, node)
        return self.generic_visit(node)


def _parsed(text: str, place: ast.stmt) -> list[ast.stmt]:
    made = ast.parse(text).body
    for statement in made:
        for node in ast.walk(statement):
            ast.copy_location(node, place)
    return made


def cut(source: bytes | str, cuts: Sequence[Cut]) -> ast.Module:
    """The tree of a source without these. Raises CutError."""
    cutting = _Cutting(cuts)
    tree = cutting.visit(ast.parse(source))
    for missed in cutting.missed:
        of = f"{missed.module}, {missed.within or 'anywhere'}"
        raise CutError(f"{of}: no statement holds `{missed.holds}`; what guards there now?")
    return cast("ast.Module", tree)


class _Loader(SourceFileLoader):
    """Neither reads nor writes compiled files: those are of the whole source."""

    cuts: Sequence[Cut] = ()

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = compile(cut(self.get_data(path), self.cuts), path, "exec")
        return code


class _Finder:
    def __init__(self, cuts: Sequence[Cut]) -> None:
        self._cuts = cuts

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        cuts = [each for each in self._cuts if each.module == name]
        spec = PathFinder.find_spec(name, path) if cuts else None
        if spec is not None and spec.origin is not None:
            loader = spec.loader = _Loader(name, spec.origin)
            loader.cuts = cuts
        return spec


def take_out(guards: Sequence[str]) -> None:
    """Have this process import Weir without them. Raises CutError."""
    cuts = [each for guard in guards for each in GUARDS[guard]]
    modules = sorted({each.module for each in cuts})
    for name in modules:
        if name in sys.modules:
            raise CutError(f"{name} has been imported already, guards and all")
    sys.meta_path.insert(0, cast("Any", _Finder(cuts)))
    for name in modules:
        importlib.import_module(name)


def main(guards: str, *arguments: str) -> None:
    """Run `weir` with these arguments, without the guards that are named, with commas between."""
    take_out([name for name in guards.split(",") if name])
    sys.argv = ["weir", *arguments]
    runpy.run_module("proxy", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
