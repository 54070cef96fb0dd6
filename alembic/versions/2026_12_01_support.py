"""The schema says which older versions of PinQueue can work with it.

From here on a migration only adds: columns that may be empty or have a default, tables, indexes.
What takes something away comes when no version that is still run needs it, and says so here.
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "schema_support",
        sa.Column(
            "id",
            sa.Boolean,
            sa.CheckConstraint("id", name=op.f("ck_schema_support_one_row")),
            server_default=sa.true(),
            nullable=False,
        ),
        sa.Column(
            "oldest_revision",
            sa.Text,
            nullable=False,
            comment="PinQueue from this revision on can work with the schema as it is now",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schema_support")),
    )
    op.execute("INSERT INTO schema_support (oldest_revision) VALUES ('0025')")


def downgrade() -> None:
    op.drop_table("schema_support")
