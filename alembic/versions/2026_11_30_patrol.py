"""Each lock's list is compared with our rows now and then: when next, and what was wrong last.

Endpoints that are told of everything are told of what that finds, too.
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
BEFORE = (
    "'code.scheduled', 'code.active', 'code.changed', 'code.failed', 'code.revoked',"
    " 'operation.late'"
)
NOW = (
    "'code.scheduled', 'code.active', 'code.changed', 'code.failed', 'code.revoked',"
    " 'code.missing', 'code.stray', 'operation.late'"
)


def upgrade() -> None:
    op.add_column(
        "locks",
        sa.Column(
            "patrol_at",
            INSTANT,
            nullable=False,
            server_default=sa.text("now() + interval '5 minutes'"),
            comment="When its list is compared with our rows next",
        ),
    )
    op.execute("UPDATE locks SET patrol_at = now() + interval '5 minutes' * (1 + random())")
    op.add_column(
        "locks",
        sa.Column(
            "patrolled_at", INSTANT, comment="When its list was last read whole, and believed"
        ),
    )
    op.add_column(
        "locks", sa.Column("patrol_fault", sa.Text, comment="What was wrong at the last look")
    )
    op.add_column(
        "access_codes",
        sa.Column(
            "past_names",
            sa.ARRAY(sa.Text),
            nullable=False,
            server_default=sa.text("'{}'"),
            comment="Names it had there before this one",
        ),
    )
    op.add_column(
        "access_codes",
        sa.Column(
            "missing_since",
            INSTANT,
            comment="When its lock's list first was without it, though it should be on the door",
        ),
    )
    _replace_checks(NOW)
    op.execute(
        "UPDATE endpoints SET events = events || '{code.missing,code.stray}'::text[]"
        " WHERE cardinality(events) = 6"
    )


def downgrade() -> None:
    op.execute("""
        WITH unknown AS (
            DELETE FROM deliveries WHERE type IN ('code.missing', 'code.stray') RETURNING job_id
        )
        DELETE FROM procrastinate_jobs USING unknown WHERE id = unknown.job_id
    """)
    op.execute("DELETE FROM endpoints WHERE events <@ '{code.missing,code.stray}'")
    op.execute(
        "UPDATE endpoints"
        " SET events = array_remove(array_remove(events, 'code.missing'), 'code.stray')"
    )
    _replace_checks(BEFORE)
    op.drop_column("access_codes", "missing_since")
    op.drop_column("access_codes", "past_names")
    for column in ("patrol_fault", "patrolled_at", "patrol_at"):
        op.drop_column("locks", column)


def _replace_checks(known: str) -> None:
    for table, name, condition in (
        ("endpoints", "events_known", f"events <@ ARRAY[{known}] AND cardinality(events) > 0"),
        ("deliveries", "type_known", f"type IN ({known})"),
    ):
        op.drop_constraint(op.f(f"ck_{table}_{name}"), table, type_="check")
        op.create_check_constraint(op.f(f"ck_{table}_{name}"), table, condition)
