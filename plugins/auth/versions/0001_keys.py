"""The tables of keys: what there is, what was done to it, and the counter that tells of a change."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "weir_keys",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("sha256", sa.Text, nullable=False, unique=True),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("team", sa.Text),
        sa.Column("limits", sa.Text, nullable=False),
        sa.Column("models", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger),
        sa.Column("previous_sha256", sa.Text),
        sa.Column("previous_until", sa.BigInteger),
        sa.Column("version", sa.BigInteger, nullable=False, index=True),
    )
    state = op.create_table(
        "weir_keys_state",
        sa.Column("one", sa.Integer, primary_key=True),
        sa.Column("epoch", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(state, [{"one": 1, "epoch": secrets.token_hex(8), "version": 0}])
    op.create_table(
        "weir_keys_audit",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False, index=True),
        sa.Column("changed", sa.Text, nullable=False),
    )
