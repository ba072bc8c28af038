"""An OTLP/HTTP collector on loopback: decodes what it is sent, and can be slow or refuse."""

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

KINDS = {1: "INTERNAL", 2: "SERVER", 3: "CLIENT"}


@dataclass(frozen=True)
class Received:
    """A span as a collector gets it; ids are hexadecimal, times nanoseconds since 1970."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    start: int
    end: int
    attributes: dict[str, Any]
    failed: bool
    state: str
    flags: int
    scope: tuple[str, str, str]
    """Name, version, schema URL."""
    resource: dict[str, Any]


class Collector:
    """Collects until it is left. `status` is what it answers; while `slow` is set it does not answer."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.raw: list[bytes] = []
        """The bodies, as they came."""
        self.paths: list[str] = []
        self.status = 200
        self.slow = threading.Event()
        self._go = threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.paths.append(self.path)
                if collector.slow.is_set():
                    collector._go.wait(30)
                if collector.status == 200:
                    collector.raw.append(body)
                    collector.spans += decode(body)
                self.send_response(collector.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.address = self.endpoint.removeprefix("http://")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._go.set()
        self._server.shutdown()
        self._server.server_close()

    def one(self, name: str) -> Received:
        """The one span of this name."""
        found = [span for span in self.spans if span.name == name]
        assert len(found) == 1, f"{len(found)} spans {name!r} among {[span.name for span in self.spans]}"
        return found[0]

    def server(self) -> Received:
        """The one SERVER span."""
        (found,) = [span for span in self.spans if span.kind == "SERVER"]
        return found

    def client(self) -> Received:
        """The one CLIENT span."""
        (found,) = [span for span in self.spans if span.kind == "CLIENT"]
        return found

    def children(self, of: Received) -> list[str]:
        """The names of a span's children, by when they began."""
        found = [span for span in self.spans if span.parent_id == of.span_id]
        return [span.name for span in sorted(found, key=lambda span: span.start)]


def decode(body: bytes) -> list[Received]:
    """The spans of one export."""
    request = ExportTraceServiceRequest.FromString(body)
    return [
        Received(
            span.name,
            KINDS[span.kind],
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            span.start_time_unix_nano,
            span.end_time_unix_nano,
            {pair.key: value(pair.value) for pair in span.attributes},
            span.status.code == 2,
            span.trace_state,
            span.flags & 0xFF,
            (scope.scope.name, scope.scope.version, scope.schema_url),
            {pair.key: value(pair.value) for pair in resource.resource.attributes},
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def value(any_value: AnyValue) -> Any:
    """An attribute's value, of the types that Weir uses."""
    return getattr(any_value, any_value.WhichOneof("value") or "string_value")
