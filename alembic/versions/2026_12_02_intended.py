"""That a create may be on record before it is sent: the claim says so now."""

from __future__ import annotations

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

WAS = "A create was sent then and no answer is recorded: it may yet take effect"
IS = "A create may be out since then, and no answer is recorded: it may yet take effect"


def upgrade() -> None:
    op.alter_column("access_codes", "create_in_doubt_since", comment=IS, existing_comment=WAS)


def downgrade() -> None:
    op.alter_column("access_codes", "create_in_doubt_since", comment=WAS, existing_comment=IS)
