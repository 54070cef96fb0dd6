"""Outgoing webhooks: the endpoints, and each event on its way to each of them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "endpoints",
        sa.Column("id", sa.Text(), nullable=False, comment="The name people give it"),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False, comment="Sealed signing secret"),
        sa.Column(
            "events", postgresql.ARRAY(sa.Text()), nullable=False, comment="The types it is told of"
        ),
        sa.Column(
            "private",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="It may lie in a private network",
        ),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "events <@ ARRAY['pin.generated', 'pin.revoked', 'pin.generate_failed', 'pin.revoke_failed']"
            " AND cardinality(events) > 0",
            name=op.f("ck_endpoints_events_known"),
        ),
        sa.CheckConstraint(
            "enabled = (disabled_at IS NULL)", name=op.f("ck_endpoints_disabled_has_disabled_at")
        ),
        sa.CheckConstraint(
            "(disabled_at IS NULL) = (disabled_reason IS NULL)",
            name=op.f("ck_endpoints_disabled_has_reason"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_endpoints")),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("endpoint_id", sa.Text(), nullable=False),
        sa.Column(
            "event_id",
            sa.Text(),
            nullable=False,
            comment="Its webhook-id, the same at every try",
        ),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'waiting'"), nullable=False),
        sa.Column(
            "attempts",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="Counts claims: a worker with an older one records nothing",
        ),
        sa.Column(
            "last_status",
            sa.BigInteger(),
            nullable=True,
            comment="The endpoint's last HTTP status",
        ),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column(
            "next_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it is posted next",
        ),
        sa.Column(
            "job_id", sa.BigInteger(), nullable=True, comment="The Procrastinate job that rings"
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "type IN ('pin.generated', 'pin.revoked', 'pin.generate_failed', 'pin.revoke_failed')",
            name=op.f("ck_deliveries_type_known"),
        ),
        sa.CheckConstraint(
            "state IN ('waiting', 'delivered', 'failed')", name=op.f("ck_deliveries_state_known")
        ),
        sa.CheckConstraint(
            "(state = 'waiting') = (finished_at IS NULL)",
            name=op.f("ck_deliveries_final_has_finished_at"),
        ),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["endpoints.id"],
            name=op.f("fk_deliveries_endpoint_id_endpoints"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint(
            "endpoint_id", "event_id", name=op.f("uq_deliveries_endpoint_id_event_id")
        ),
    )
    op.create_index(
        "ix_deliveries_waiting_next_at",
        "deliveries",
        ["next_at"],
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_index("ix_deliveries_finished_at", "deliveries", ["finished_at"])


def downgrade() -> None:
    op.execute("DELETE FROM procrastinate_jobs WHERE queue_name = 'deliver'")
    op.drop_table("deliveries")
    op.drop_table("endpoints")
