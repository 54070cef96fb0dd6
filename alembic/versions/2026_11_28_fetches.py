"""How often the worker that fetched an event's booking died: one that kills workers is given up."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "webhook_events",
        sa.Column(
            "rescues",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="Times the worker that fetched it died; three end it",
        ),
    )


def downgrade() -> None:
    op.drop_column("webhook_events", "rescues")
