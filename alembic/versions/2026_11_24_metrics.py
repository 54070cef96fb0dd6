"""The totals of what all processes count, which any web process tells Prometheus."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "metric_totals",
        sa.Column("name", sa.Text(), nullable=False, comment="As Prometheus is told it"),
        sa.Column("labels", postgresql.JSONB(), nullable=False),
        sa.Column(
            "value",
            sa.Double(),
            nullable=False,
            comment="Of a _bucket: what fell into it alone, not into the smaller ones too",
        ),
        sa.PrimaryKeyConstraint("name", "labels", name=op.f("pk_metric_totals")),
    )


def downgrade() -> None:
    op.drop_table("metric_totals")
