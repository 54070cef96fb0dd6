"""The few operations that wait for room on their lock are found without looking at all that wait."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_operations_waits_for_room",
        "operations",
        ["access_code_id"],
        postgresql_where=sa.text("waits_for_room"),
    )


def downgrade() -> None:
    op.drop_index("ix_operations_waits_for_room", "operations")
