"""What has been kept for long enough is found by an index, and an old audit may go.

The trail of the last 90 days stays out of reach: nothing that this application does can change it.
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

REFUSE = """
CREATE OR REPLACE FUNCTION audit_events_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    {but}RAISE EXCEPTION 'audit_events is append only: % refused', lower(TG_OP)
        USING ERRCODE = 'integrity_constraint_violation';
END;
$$
"""
BUT_WHAT_IS_OLD = """IF TG_OP = 'DELETE' AND OLD.at < now() - interval '90 days' THEN
        RETURN OLD;
    END IF;
    """


def upgrade() -> None:
    op.execute(REFUSE.format(but=BUT_WHAT_IS_OLD))
    op.create_index(
        "ix_webhook_events_told",
        "webhook_events",
        ["received_at"],
        postgresql_where=sa.text("body <> '{}'::jsonb"),
    )
    op.create_index(
        "ix_reservations_with_guest",
        "reservations",
        [sa.text("coalesce(check_out_at, updated_at)")],
        postgresql_where=sa.text("guest_name IS NOT NULL OR guest_phone IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_reservations_with_guest", "reservations")
    op.drop_index("ix_webhook_events_told", "webhook_events")
    op.execute(REFUSE.format(but=""))
