import datetime as dt

from sqlalchemy import func, select

from plugins.ledger.query import Query
from plugins.ledger.report import report
from plugins.ledger.sink import SqlSink
from plugins.ledger.table import daily, rows
from proxy.api.database import Database
from tests.plugins.ledger.making import DAY, a_row, insert_before_hops_ns


def test_rows_of_the_older_revision_stay_and_are_rolled_up(url: str) -> None:
    database = Database(url, package="plugins.ledger", name="ledger")
    database.migrate("0001")
    yesterday = int(dt.datetime.now(dt.UTC).timestamp()) * 1_000_000 - DAY
    with database.begin() as connection:
        made = [a_row(f"{n}", started_at=yesterday, cost_pico=n) for n in range(10)]
        insert_before_hops_ns(connection, made)
    sink = SqlSink(database, 13)
    sink.open()
    sink.keep_house()
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(rows)).scalar() == 10
        assert connection.execute(select(daily.c.requests, daily.c.cost_pico)).all() == [(10, 45)]
        _, whole = report(connection, Query(0, 2**60))
    assert (whole.cost, whole.sums[0]) == (45, 10)
    database.dispose()
