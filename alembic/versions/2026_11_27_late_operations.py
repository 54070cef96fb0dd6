"""Operations that threaten their deadline are told of: since when, and found at once among millions.

Endpoints that are told of everything are told of this too.
"""

from __future__ import annotations

from importlib.resources import files

import sqlalchemy as sa

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

BEFORE = "'code.scheduled', 'code.active', 'code.changed', 'code.failed', 'code.revoked'"
NOW = f"{BEFORE}, 'operation.late'"


def upgrade() -> None:
    op.add_column(
        "operations",
        sa.Column(
            "late_since",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Since when it threatened its deadline; written when that is told",
        ),
    )
    op.create_index(
        "ix_operations_open_due_at",
        "operations",
        ["due_at"],
        postgresql_where=sa.text("state IN ('waiting', 'active')"),
    )
    _replace_view("v2")
    _replace_checks(NOW)
    op.execute(
        "UPDATE endpoints SET events = events || '{operation.late}'::text[]"
        " WHERE cardinality(events) = 5"
    )


def downgrade() -> None:
    op.execute("""
        WITH unknown AS (DELETE FROM deliveries WHERE type = 'operation.late' RETURNING job_id)
        DELETE FROM procrastinate_jobs USING unknown WHERE id = unknown.job_id
    """)
    op.execute("DELETE FROM endpoints WHERE events = '{operation.late}'")
    op.execute("UPDATE endpoints SET events = array_remove(events, 'operation.late')")
    _replace_checks(BEFORE)
    _replace_view("v1")
    op.drop_index("ix_operations_open_due_at", "operations")
    op.drop_column("operations", "late_since")


def _replace_view(version: str) -> None:
    op.execute("DROP VIEW audit_late")
    text = (files("pinqueue") / "sql" / f"audit_late_{version}.sql").read_text(encoding="utf-8")
    op.get_bind().exec_driver_sql(text, execution_options={"no_parameters": True})


def _replace_checks(known: str) -> None:
    for table, name, condition in (
        ("endpoints", "events_known", f"events <@ ARRAY[{known}] AND cardinality(events) > 0"),
        ("deliveries", "type_known", f"type IN ({known})"),
    ):
        op.drop_constraint(op.f(f"ck_{table}_{name}"), table, type_="check")
        op.create_check_constraint(op.f(f"ck_{table}_{name}"), table, condition)
