"""PINs that are planned and not hashed yet are found without looking at all that are."""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_access_codes_unhashed",
        "access_codes",
        ["starts_at"],
        postgresql_where=sa.text("state = 'scheduled' AND pin_hash IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_access_codes_unhashed", "access_codes")
