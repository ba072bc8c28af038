"""Metrics of several processes: what is added up, what is told apart, and what must never fall."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Summary, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from proxy.admin import merge
from proxy.admin.merge import Merged, labelled, read


class Worker:
    """A process' own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("weir_requests", "Requests.", ["model"], registry=self.registry)
        self.running = Gauge("weir_running", "Now.", registry=self.registry)
        self.mode = Gauge("weir_mode", "A mode.", ["limit"], registry=self.registry)
        self.seconds = Histogram("weir_seconds", "Seconds.", buckets=(0.1, 1), registry=self.registry)
        self.size = Summary("weir_size", "Bytes.", registry=self.registry)
        Info("weir", "What it is.", registry=self.registry).info({"version": "1"})

    @property
    def text(self) -> str:
        return generate_latest(self.registry).decode()


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """As Prometheus reads it; a series must not come twice."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found
            found[key] = sample.value
    return found


def of(text: str, name: str, **labels: str) -> float | None:
    return samples(text).get((name, tuple(sorted(labels.items()))))


def merged(*workers: Worker) -> Merged:
    made = Merged()
    take(made, workers)
    return made


def take(made: Merged, workers: Iterable[Worker]) -> None:
    for number, worker in enumerate(workers, 1):
        made.take(number, worker.text)


def test_counters_add_up_series_by_series() -> None:
    one, two = Worker(), Worker()
    one.requests.labels("a").inc(3)
    two.requests.labels("a").inc(4)
    two.requests.labels('b "}{\\\n,worker="x').inc()
    text = merged(one, two).text((1, 2))
    assert of(text, "weir_requests_total", model="a") == 7
    assert of(text, "weir_requests_total", model='b "}{\\\n,worker="x') == 1


def test_histograms_and_summaries_add_up() -> None:
    one, two = Worker(), Worker()
    for seconds in (0.05, 0.5, 5):
        one.seconds.observe(seconds)
        two.size.observe(seconds)
    two.seconds.observe(0.05)
    text = merged(one, two).text((1, 2))
    assert of(text, "weir_seconds_bucket", le="0.1") == 2
    assert of(text, "weir_seconds_bucket", le="+Inf") == 4
    assert of(text, "weir_seconds_count") == 4
    assert of(text, "weir_seconds_sum") == pytest.approx(5.6)
    assert of(text, "weir_size_count") == 3


def test_gauges_are_told_apart() -> None:
    one, two = Worker(), Worker()
    one.running.set(2)
    two.running.set(5)
    two.mode.labels("x").set(1)
    text = merged(one, two).text((1, 2))
    assert of(text, "weir_running", worker="1") == 2
    assert of(text, "weir_running", worker="2") == 5
    assert of(text, "weir_running") is None
    assert of(text, "weir_mode", worker="2", limit="x") == 1
    assert of(text, "weir_info", worker="1", version="1") == 1


def test_a_label_of_that_name_stays_its_own() -> None:
    assert labelled('a{worker="me"}', 2) == 'a{weir_worker="2",worker="me"}'
    assert labelled('a{b="c",worker="me"}', 2) == 'a{weir_worker="2",b="c",worker="me"}'
    assert labelled('a{b="c"}', 2) == 'a{worker="2",b="c"}'
    assert labelled("a", 2) == 'a{worker="2"}'


def test_the_types_and_help_stay() -> None:
    one, two = Worker(), Worker()
    text = merged(one, two).text((1, 2))
    assert text.count("# TYPE weir_requests_total counter\n") == 1
    assert text.count("# HELP weir_seconds Seconds.\n# TYPE weir_seconds histogram\n") == 1


def test_what_began_last_does_not_say_since_when_it_counts() -> None:
    one, two = Worker(), Worker()
    one.requests.labels("a").inc()
    two.requests.labels("a").inc()
    text = merged(two, one).text((1, 2))
    began = [of(worker.text, "weir_requests_created", model="a") for worker in (one, two)]
    assert of(text, "weir_requests_created", model="a") == began[0]
    assert began[0] != began[1]


def test_a_sum_does_not_fall_when_a_worker_ends_and_its_successor_begins() -> None:
    one, two = Worker(), Worker()
    one.requests.labels("a").inc(3)
    two.requests.labels("a").inc(4)
    two.running.set(9)
    made = merged(one, two)
    made.ended(2)
    assert of(made.text((1,)), "weir_requests_total", model="a") == 7
    assert of(made.text((1,)), "weir_running", worker="2") is None
    successor = Worker()
    successor.requests.labels("a").inc()
    take(made, (one, successor))
    assert of(made.text((1, 2)), "weir_requests_total", model="a") == 8
    made.ended(2)
    made.ended(2)
    assert of(made.text((1,)), "weir_requests_total", model="a") == 8


def test_who_does_not_answer_counts_as_it_last_did_and_its_gauges_are_left_out() -> None:
    one, two = Worker(), Worker()
    two.requests.labels("a").inc(4)
    two.running.set(9)
    text = merged(one, two).text((1,))
    assert of(text, "weir_requests_total", model="a") == 4
    assert of(text, "weir_running", worker="2") is None
    assert of(text, "weir_running", worker="1") == 0


def test_what_is_kept_of_the_dead_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "SERIES", 12)
    made = Merged()
    for generation in range(5):
        worker = Worker()
        for n in range(10):
            worker.requests.labels(f"{generation}-{n}").inc()
        made.take(1, worker.text)
        made.ended(1)
    assert len(samples(made.text(()))) == 12


def test_a_metric_that_a_reload_took_away_is_only_what_was_counted() -> None:
    one = Worker()
    one.requests.labels("a").inc()
    made = merged(one)
    made.take(1, "")
    assert of(made.text((1,)), "weir_running", worker="1") is None


@pytest.mark.parametrize("text", ["weir_requests_total", "# TYPE a", "a{b} x", "{"])
def test_what_is_no_metric_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read(text)


def test_a_timestamp_is_dropped() -> None:
    made = Merged()
    made.take(1, '# HELP a A.\n# TYPE a counter\na_total{b="} 1 2"} 5.0 1700000000000\na_total 2 17\n')
    assert made.text((1,)) == '# HELP a A.\n# TYPE a counter\na_total{b="} 1 2"} 5.0\na_total 2.0\n'


names = st.text(min_size=1, max_size=8)


@given(st.lists(st.dictionaries(names, st.floats(0, 1e12), max_size=4), min_size=1, max_size=4))
def test_sums_are_those_of_the_parts_whatever_the_labels(counted: list[dict[str, float]]) -> None:
    workers = []
    for counts in counted:
        worker = Worker()
        for label, amount in counts.items():
            worker.requests.labels(label).inc(amount)
        workers.append(worker)
    found = samples(merged(*workers).text(range(1, len(workers) + 1)))
    for label in {label for counts in counted for label in counts}:
        expected = sum(counts.get(label, 0.0) for counts in counted)
        assert found["weir_requests_total", (("model", label),)] == pytest.approx(expected)
