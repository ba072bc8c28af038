from pathlib import Path

from sqlalchemy import inspect

from plugins.auth.store import AUDIT, KEYS, STATE, Store


def test_the_tables_are_those_that_the_store_asks(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'weir.db'}")
    store.database.migrate("0001")
    with store.database.read() as connection:
        found = inspect(connection)
        for table in (KEYS, STATE, AUDIT):
            assert [column["name"] for column in found.get_columns(table.name)] == table.columns.keys()
        assert found.get_unique_constraints("weir_keys")[0]["column_names"] == ["sha256"]
        indexed = {name for index in found.get_indexes("weir_keys") for name in index["column_names"]}
        assert "version" in indexed  # what a poll that has something to read asks by
    store.close()
