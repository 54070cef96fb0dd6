"""Comments that say what the code does now: buffers go before and after what was granted, too."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

COMMENTS = (
    (
        "reservations",
        "early_check_in_at",
        "Granted by hand, in place of check-in; a change of check-in ends it",
        "Granted by hand: the PIN opens from then; a change of check-in ends it",
    ),
    (
        "reservations",
        "late_check_out_at",
        "Granted by hand, in place of check-out; a change of check-out ends it",
        "Granted by hand: the PIN opens until then; a change of check-out ends it",
    ),
)


def upgrade() -> None:
    for table, column, now, _ in COMMENTS:
        op.alter_column(table, column, comment=now)


def downgrade() -> None:
    for table, column, _, before in COMMENTS:
        op.alter_column(table, column, comment=before)
