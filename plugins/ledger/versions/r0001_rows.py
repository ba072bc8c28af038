"""The table of rows: one per request."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

_JSON = sa.Text().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    """Make the table and its indexes."""
    op.create_table(
        "weir_ledger",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("key_id", sa.Text),
        sa.Column("user", sa.Text),
        sa.Column("team", sa.Text),
        sa.Column("end_user", sa.Text),
        sa.Column("address", sa.Text),
        sa.Column("endpoint", sa.Text),
        sa.Column("method", sa.Text),
        sa.Column("path", sa.Text),
        sa.Column("model_requested", sa.Text),
        sa.Column("model_served", sa.Text),
        sa.Column("upstream", sa.Text),
        sa.Column("attempts", sa.SmallInteger),
        sa.Column("status", sa.SmallInteger),
        sa.Column("end_reason", sa.Text, nullable=False),
        sa.Column("end_code", sa.Text, nullable=False),
        sa.Column("stream", sa.Boolean),
        sa.Column("input_tokens", sa.BigInteger),
        sa.Column("cached_tokens", sa.BigInteger),
        sa.Column("cache_write_tokens", sa.BigInteger),
        sa.Column("audio_input_tokens", sa.BigInteger),
        sa.Column("image_input_tokens", sa.BigInteger),
        sa.Column("output_tokens", sa.BigInteger),
        sa.Column("reasoning_tokens", sa.BigInteger),
        sa.Column("audio_output_tokens", sa.BigInteger),
        sa.Column("image_output_tokens", sa.BigInteger),
        sa.Column("other_units", _JSON),
        sa.Column("usage_provenance", sa.Text, nullable=False),
        sa.Column("cost_pico", sa.BigInteger),
        sa.Column("cost_low_pico", sa.BigInteger),
        sa.Column("cost_high_pico", sa.BigInteger),
        sa.Column("estimate_pico", sa.BigInteger),
        sa.Column("price_version", sa.Text),
        sa.Column("service_tier", sa.Text),
        sa.Column("ttfb_us", sa.BigInteger),
        sa.Column("duration_us", sa.BigInteger),
        sa.Column("hops", _JSON),
        sa.Column("trace_id", sa.Text),
        sa.Column("client_request_id", sa.Text),
        sa.Column("upstream_request_id", sa.Text),
        sa.Column("cache", sa.Text),
    )
    # A row costs what its indexes cost: by time for reports and deletion, by key for the caller's own view.
    op.create_index("weir_ledger_started_at", "weir_ledger", ["started_at", "id"])
    op.create_index("weir_ledger_key_id", "weir_ledger", ["key_id", "started_at"])
