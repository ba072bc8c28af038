import orjson
from sqlalchemy import select

from plugins.ledger.table import rows
from proxy.api.database import Database
from tests.plugins.ledger.making import a_row, insert_before_hops_ns

OLD = """UPDATE weir_ledger SET hops = CASE id WHEN 'a' THEN CAST('{"auth":12,"up":1400000}' AS %s)
    ELSE CAST('{}' AS %s) END WHERE id <> 'c'"""


def test_hops_of_older_rows_are_nanoseconds_too(url: str) -> None:
    database = Database(url, package="plugins.ledger", name="ledger")
    database.migrate("0002")
    with database.begin() as connection:
        insert_before_hops_ns(connection, [a_row(id_) for id_ in "abc"])
        connection.exec_driver_sql(OLD.replace("%s", "TEXT" if database.is_sqlite else "JSONB"))
    database.migrate()
    with database.read() as connection:
        found = connection.execute(select(rows.c.id, rows.c.hops_ns)).all()
    told = {id_: orjson.loads(hops) if isinstance(hops, str) else hops for id_, hops in found}
    assert told == {"a": {"auth": 12_000, "up": 1_400_000_000}, "b": {}, "c": None}
    database.dispose()
