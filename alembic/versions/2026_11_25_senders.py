"""Property systems: their kinds, how to read from them, and what a listing adds to a date alone."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

KINDS = "'pinqueue', 'stays', 'hospitable', 'hostaway', 'lodgify', 'guesty', 'cloudbeds', 'smoobu'"
OUTCOMES = "'accepted', 'stale', 'ignored', 'unmapped', 'fetching', 'fetched', 'incomplete'"
CHECKS = (
    ("sources", "kind_known", f"kind IN ({KINDS})", "kind IN ('pinqueue')"),
    (
        "webhook_events",
        "outcome_known",
        f"outcome IN ({OUTCOMES})",
        "outcome IN ('accepted', 'stale', 'ignored', 'unmapped')",
    ),
    (
        "reservations",
        "status_known",
        "status IN ('pending', 'confirmed', 'blocked', 'cancelled')",
        "status IN ('pending', 'confirmed', 'cancelled')",
    ),
)


def columns() -> tuple[tuple[str, sa.Column[Any]], ...]:
    return (
        (
            "sources",
            sa.Column(
                "api_error",
                sa.Text(),
                nullable=True,
                comment="Why its API could not be read last",
            ),
        ),
        (
            "operations",
            sa.Column(
                "waits_for_room",
                sa.Boolean(),
                server_default=sa.text("false"),
                nullable=False,
                comment="Its lock holds as many PINs as it can",
            ),
        ),
        (
            "webhook_events",
            sa.Column(
                "job_id",
                sa.BigInteger(),
                nullable=True,
                comment="The job that fetches the booking it names",
            ),
        ),
        (
            "listings",
            sa.Column(
                "check_in_time",
                sa.Time(),
                server_default=sa.text("'15:00'"),
                nullable=False,
                comment="Local; of a stay told by its date alone",
            ),
        ),
        (
            "listings",
            sa.Column(
                "check_out_time", sa.Time(), server_default=sa.text("'11:00'"), nullable=False
            ),
        ),
        (
            "listings",
            sa.Column(
                "buffer_before",
                sa.Interval(),
                server_default=sa.text("'00:00:00'"),
                nullable=False,
                comment="A PIN opens so long before check-in",
            ),
        ),
        (
            "listings",
            sa.Column(
                "buffer_after",
                sa.Interval(),
                server_default=sa.text("'00:00:00'"),
                nullable=False,
                comment="and so long after check-out",
            ),
        ),
        (
            "sources",
            sa.Column(
                "api",
                sa.LargeBinary(),
                nullable=True,
                comment="Sealed: how to read bookings from the sender",
            ),
        ),
        (
            "sources",
            sa.Column(
                "reconciled_at",
                sa.DateTime(timezone=True),
                nullable=True,
                comment="When its bookings were compared",
            ),
        ),
        (
            "sources",
            sa.Column(
                "bookings_listed",
                sa.BigInteger(),
                nullable=True,
                comment="Bookings its API listed then: far fewer the next time is an alarm",
            ),
        ),
        (
            "reservations",
            sa.Column(
                "other_id",
                sa.Text(),
                nullable=True,
                comment="The second id its source has for it, made ours as the first is",
            ),
        ),
        (
            "reservations",
            sa.Column(
                "early_check_in_at",
                sa.DateTime(timezone=True),
                nullable=True,
                comment="Granted by hand: the PIN opens from then; a change of check-in ends it",
            ),
        ),
        (
            "reservations",
            sa.Column(
                "late_check_out_at",
                sa.DateTime(timezone=True),
                nullable=True,
                comment="Granted by hand: the PIN opens until then; a change of check-out ends it",
            ),
        ),
    )


def upgrade() -> None:
    for table, column in columns():
        op.add_column(table, column)
    op.create_index(
        "ix_webhook_events_fetching",
        "webhook_events",
        ["received_at"],
        postgresql_where=sa.text("outcome = 'fetching'"),
    )
    op.create_index(op.f("ix_reservations_other_id"), "reservations", ["other_id"])
    op.create_check_constraint(
        op.f("ck_listings_buffers_up_to_a_day"),
        "listings",
        "buffer_before BETWEEN interval '0' AND interval '1 day'"
        " AND buffer_after BETWEEN interval '0' AND interval '1 day'",
    )
    op.alter_column(
        "listings", "id", comment="The id its webhooks use, or SOURCE:ID where two use the same"
    )
    for table, name, new, _ in CHECKS:
        _replace_check(table, name, new)


def downgrade() -> None:
    for table, name, _, old in CHECKS:
        _replace_check(table, name, old)
    op.alter_column("listings", "id", comment="The id its webhooks use")
    op.drop_index("ix_webhook_events_fetching", "webhook_events")
    op.drop_index(op.f("ix_reservations_other_id"), "reservations")
    for table, column in reversed(columns()):
        op.drop_column(table, column.name)


def _replace_check(table: str, name: str, condition: str) -> None:
    op.drop_constraint(op.f(f"ck_{table}_{name}"), table, type_="check")
    op.create_check_constraint(op.f(f"ck_{table}_{name}"), table, condition)
