from sqlalchemy import inspect

from proxy.api.database import Database
from tests.plugins.ledger.making import a_row, insert_before_hops_ns


def test_the_first_revision_takes_rows(url: str) -> None:
    database = Database(url, package="plugins.ledger", name="ledger")
    database.migrate("0001")
    with database.begin() as connection:
        insert_before_hops_ns(connection, [a_row()])
        indexes = {index["name"] for index in inspect(connection).get_indexes("weir_ledger")}
    assert indexes == {"weir_ledger_started_at", "weir_ledger_key_id"}
    database.dispose()
