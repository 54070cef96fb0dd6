"""How fast all workers together call a lock cloud."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "paces",
        sa.Column("project", sa.Text(), nullable=False, comment="Access ID of the Tuya project"),
        sa.Column(
            "next_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When the next call may be made",
        ),
        sa.PrimaryKeyConstraint("project", name=op.f("pk_paces")),
        # It is written many times a second, and what a crash takes was over in that second.
        prefixes=["UNLOGGED"],
    )


def downgrade() -> None:
    op.drop_table("paces")
