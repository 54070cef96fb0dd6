"""What counts of all that was told of a stay, field by field, in place of one version for all."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

VERSION: dict[str, tuple[str, Any, str | None]] = {
    "source_updated_at": ("updated_at", sa.TIMESTAMP(timezone=True), "the source's last change"),
    "source_event_at": ("event_at", sa.TIMESTAMP(timezone=True), None),
    "source_event_id": ("event_id", sa.Text(), None),
}
NEW_CHECK = (
    "status IN ('cancelled', 'pending') OR (listing_id IS NOT NULL AND check_in_at IS NOT NULL"
    " AND check_out_at IS NOT NULL)"
)
OLD_CHECK = (
    "status = 'cancelled' OR (listing_id IS NOT NULL AND check_in_at IS NOT NULL"
    " AND check_out_at IS NOT NULL)"
)


def upgrade() -> None:
    op.add_column(
        "reservations",
        sa.Column(
            "told",
            JSONB(),
            server_default=sa.text("'[]'"),
            nullable=False,
            comment="The tellings that count, newest first: see tellings",
        ),
    )
    op.execute("""
        UPDATE reservations SET told = jsonb_build_array(jsonb_build_object(
            'updated_at', to_jsonb(source_updated_at), 'event_at', to_jsonb(source_event_at),
            'cancels', status = 'cancelled', 'event_id', source_event_id,
            'fields', jsonb_strip_nulls(jsonb_build_object(
                'status', status, 'listing_id', listing_id, 'check_in', to_jsonb(check_in_at),
                'check_out', to_jsonb(check_out_at), 'guest_name', guest_name,
                'guest_phone', guest_phone, 'other_id', other_id))))
    """)
    for column in VERSION:
        op.drop_column("reservations", column)
    op.drop_constraint(op.f("ck_reservations_only_a_tombstone_lacks_dates"), "reservations")
    op.create_check_constraint(
        op.f("ck_reservations_only_what_is_off_or_pending_lacks_dates"), "reservations", NEW_CHECK
    )


def downgrade() -> None:
    for column, (key, kind, comment) in VERSION.items():
        op.add_column("reservations", sa.Column(column, kind, nullable=True, comment=comment))
        cast = "" if column == "source_event_id" else "::timestamptz"
        op.execute(f"UPDATE reservations SET {column} = (told -> 0 ->> '{key}'){cast}")  # noqa: S608
        op.alter_column("reservations", column, nullable=False)
    op.drop_column("reservations", "told")
    op.execute("DELETE FROM reservations WHERE status = 'pending' AND listing_id IS NULL")
    op.drop_constraint(
        op.f("ck_reservations_only_what_is_off_or_pending_lacks_dates"), "reservations"
    )
    op.create_check_constraint(
        op.f("ck_reservations_only_a_tombstone_lacks_dates"), "reservations", OLD_CHECK
    )
