"""An endpoint may be told PINs, if it was added for it."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

ACTORS = "source:NAME, worker, sweep, cli:USER or key:NAME"


def upgrade() -> None:
    op.add_column(
        "endpoints",
        sa.Column(
            "with_pin",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="What is posted there has the PIN in it",
        ),
    )
    op.alter_column(
        "audit_events",
        "actor",
        comment="source:NAME, worker, sweep, cli:USER, key:NAME or endpoint:NAME",
    )


def downgrade() -> None:
    op.alter_column("audit_events", "actor", comment=ACTORS)
    op.drop_column("endpoints", "with_pin")
