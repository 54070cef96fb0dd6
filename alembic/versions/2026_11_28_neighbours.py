"""A stay's neighbours are found by listing and time: those before and after it, among years of them."""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

COLUMNS = ["listing_id", "check_in_at"]


def upgrade() -> None:
    op.create_index(op.f("ix_reservations_listing_id_check_in_at"), "reservations", COLUMNS)
    op.drop_index(op.f("ix_reservations_listing_id"), "reservations")


def downgrade() -> None:
    op.create_index(op.f("ix_reservations_listing_id"), "reservations", COLUMNS[:1])
    op.drop_index(op.f("ix_reservations_listing_id_check_in_at"), "reservations")
