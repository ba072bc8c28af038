"""Hops in nanoseconds, as the clock gives them: to divide them took a tenth of all that a row costs."""

from alembic import op

revision = "0003"
down_revision = "0002"

_EACH = {
    "sqlite": "SELECT json_group_object(key, value * 1000) FROM json_each(hops_ns)",
    "postgresql": "SELECT jsonb_object_agg(key, value::bigint * 1000) FROM jsonb_each_text(hops_ns)",
}


def upgrade() -> None:
    """Rename the column, and multiply what is there."""
    op.alter_column("weir_ledger", "hops", new_column_name="hops_ns")
    each = _EACH[op.get_context().dialect.name]
    some = "hops_ns IS NOT NULL AND CAST(hops_ns AS TEXT) <> '{}'"  # the sum of no objects is null
    op.execute(f"UPDATE weir_ledger SET hops_ns = ({each}) WHERE {some}")  # noqa: S608 # all of it is above
