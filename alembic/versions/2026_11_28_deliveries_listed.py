"""An endpoint's deliveries are listed, the newest first."""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_deliveries_endpoint_id_id", "deliveries", ["endpoint_id", "id"])


def downgrade() -> None:
    op.drop_index("ix_deliveries_endpoint_id_id", "deliveries")
