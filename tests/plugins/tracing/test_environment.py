"""What the standard variables mean here, and the lines that they can cause."""

import pytest

from plugins.tracing.environment import Environment, read

ON = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


def on(**variables: str) -> Environment:
    found = read(ON | variables)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://collector:4318"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        {"OTEL_TRACES_EXPORTER": "none"},
        ON | {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        ON | {"OTEL_SDK_DISABLED": "true"},
        ON | {"OTEL_SDK_DISABLED": "True"},
        {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"},
    ],
)
def test_these_ask_for_no_tracing(variables: dict[str, str]) -> None:
    assert read(variables) is None


@pytest.mark.parametrize(
    ("variables", "collector"),
    [
        (ON, "collector:4318"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://c.example/x"}, "c.example:443"),
        (ON | {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://traces/v1/traces"}, "traces:80"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "localhost:4318"),
        (ON | {"OTEL_TRACES_EXPORTER": "OTLP"}, "collector:4318"),
        (ON | {"OTEL_SDK_DISABLED": "false"}, "collector:4318"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://user:secret@c:1/token"}, "c:1"),
    ],
)
def test_these_ask_for_it(variables: dict[str, str], collector: str) -> None:
    found = read(variables)
    assert found is not None
    assert found.collector == collector


def test_the_defaults_are_the_standards() -> None:
    found = on()
    assert (found.sampling.ratio, found.sampling.parent_based) == (1.0, True)
    assert found.propagates
    assert not found.latest
    assert (found.queue, found.batch, found.delay) == (2048, 512, 5000)


@pytest.mark.parametrize(
    ("sampler", "arg", "ratio", "parent_based"),
    [
        ("always_on", "", 1.0, False),
        ("always_off", "0.5", 0.0, False),
        ("parentbased_always_off", "", 0.0, True),
        ("traceidratio", "0.25", 0.25, False),
        ("parentbased_traceidratio", "0.1", 0.1, True),
        ("ParentBased_TraceIdRatio", "", 1.0, True),
    ],
)
def test_the_samplers(sampler: str, arg: str, ratio: float, parent_based: bool) -> None:
    sampling = on(OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG=arg).sampling
    assert (sampling.ratio, sampling.parent_based) == (ratio, parent_based)


@pytest.mark.parametrize(
    ("value", "propagates"),
    [("tracecontext", True), ("baggage, TraceContext", True), ("baggage", False), ("none", False)],
)
def test_the_propagators(value: str, propagates: bool) -> None:
    assert on(OTEL_PROPAGATORS=value).propagates is propagates


def test_the_switch_for_the_newest_conventions() -> None:
    assert on(OTEL_SEMCONV_STABILITY_OPT_IN="http, gen_ai_latest_experimental").latest
    assert not on(OTEL_SEMCONV_STABILITY_OPT_IN="gen_ai_latest").latest


def test_a_small_queue_has_small_batches() -> None:
    found = on(OTEL_BSP_MAX_QUEUE_SIZE="100", OTEL_BSP_SCHEDULE_DELAY="50")
    assert (found.queue, found.batch, found.delay) == (100, 100, 50)


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL=grpc: only http/protobuf is built in; name the collector's "
            "HTTP port (usually 4318) and set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, or set "
            "OTEL_TRACES_EXPORTER=none",
        ),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"},
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/json: only http/protobuf is built in",
        ),
        (
            {"OTEL_TRACES_EXPORTER": "otlp,console"},
            "OTEL_TRACES_EXPORTER=otlp,console: only otlp is built in; set it to otlp or to none",
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "secret-host:4318"},
            "OTEL_EXPORTER_OTLP_ENDPOINT is not a URL like http://localhost:4318",
        ),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://secret-host:port"},
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is not a URL like http://localhost:4318",
        ),
        ({"OTEL_TRACES_SAMPLER": "xray"}, "OTEL_TRACES_SAMPLER=xray is not built in; always_on, always_off"),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "10%"},
            "OTEL_TRACES_SAMPLER_ARG=10% is not a number from 0 to 1",
        ),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "nan"},
            "OTEL_TRACES_SAMPLER_ARG=nan is not a number from 0 to 1",
        ),
        ({"OTEL_PROPAGATORS": "tracecontext,b3"}, "OTEL_PROPAGATORS: b3 is not built in; use tracecontext"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "0"}, "OTEL_BSP_MAX_QUEUE_SIZE=0 is not a whole number above 0"),
        ({"OTEL_BSP_SCHEDULE_DELAY": "5s"}, "OTEL_BSP_SCHEDULE_DELAY=5s is not a whole number above 0"),
        (
            {"OTEL_BSP_MAX_QUEUE_SIZE": "9" * 5000},
            "is not a whole number above 0",
        ),
        (
            {"OTEL_BSP_MAX_QUEUE_SIZE": "10", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "11"},
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE is more than OTEL_BSP_MAX_QUEUE_SIZE",
        ),
    ],
)
def test_what_cannot_be_done_has_a_line(variables: dict[str, str], line: str) -> None:
    with pytest.raises(ValueError, match="OTEL_") as raised:
        read(ON | variables)
    assert line in str(raised.value)
    assert "secret" not in str(raised.value)


def test_the_protocol_for_traces_counts() -> None:
    assert on(OTEL_EXPORTER_OTLP_TRACES_PROTOCOL="http/protobuf", OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
