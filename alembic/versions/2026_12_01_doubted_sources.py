"""Why the list of a source's bookings was not believed, until one is."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "sources",
        sa.Column(
            "list_fault",
            sa.Text(),
            nullable=True,
            comment="Why the list of its bookings was not believed last",
        ),
    )


def downgrade() -> None:
    op.drop_column("sources", "list_fault")
