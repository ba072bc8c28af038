from plugins.ledger.chart import BAR, WIDEST, table
from plugins.ledger.report import FIGURES, Key, Totals


def totals(**figures: int) -> Totals:
    made = Totals()
    made.sums = [figures.get(name, 0) for name in FIGURES]
    return made


def costing(pico: int, **more: int) -> Totals:
    return totals(requests=1, cost_pico=pico, cost_high_pico=pico, **more)


def chart(*groups: tuple[Key, Totals]) -> list[str]:
    whole = Totals()
    for _, one in groups:
        whole.add(one.sums)
    return table(["model"], groups, whole).splitlines()


def test_bars_are_as_long_as_what_they_show() -> None:
    lines = chart((("a",), costing(8 * 10**12)), (("b",), costing(4 * 10**12)), (("c",), costing(1)))
    assert [line.count("█") for line in lines] == [0, BAR, BAR // 2, 0, 0]
    assert lines[3].endswith("▏")  # something is never nothing
    assert lines[4].startswith("all")
    assert "$12.0000" in lines[4]


def test_where_nothing_costs_anything_bars_show_requests() -> None:
    lines = chart((("a",), totals(requests=4)), (("b",), totals(requests=2)))
    assert [line.count("█") for line in lines[1:3]] == [BAR, BAR // 2]


def test_what_is_not_certain_is_told() -> None:
    line = chart((("a",), totals(requests=3, unpriced=2, cost_pico=10**12, cost_high_pico=3 * 10**12)))[1]
    assert "$1.0000 (up to $3.0000) +2 unpriced" in line


def test_a_strangers_name_does_nothing_to_a_terminal() -> None:
    lines = chart((("\x1b[31mred\n",), costing(1)), (("x" * 1000,), costing(1)), ((None,), costing(1)))
    assert lines[1].startswith("?[31mred?")
    assert "x" * (WIDEST - 1) + "…" in lines[2]
    assert lines[3].startswith("-")


def test_columns_stand_below_each_other() -> None:
    lines = chart((("a",), costing(10**15, input_tokens=1_234_567)), (("longer",), costing(1)))
    assert len({line.index("$") + len(line[line.index("$") :].split()[0]) for line in lines[1:]}) == 1
    assert "1,234,567" in lines[1]
