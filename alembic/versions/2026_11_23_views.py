"""The audit views, first version of each.

A view's text lies in `pinqueue/sql/NAME_vN.sql` and is never edited once released: a change is a new
file, named by a new revision.
"""

from __future__ import annotations

from importlib.resources import files

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

VIEWS = (
    "audit_jobs",
    "audit_operations",
    "audit_timeline",
    "audit_late",
    "audit_failed",
    "audit_live_pins",
    "audit_overdue_pins",
    "audit_daily",
)


def upgrade() -> None:
    for name in VIEWS:
        text = (files("pinqueue") / "sql" / f"{name}_v1.sql").read_text(encoding="utf-8")
        op.get_bind().exec_driver_sql(text, execution_options={"no_parameters": True})


def downgrade() -> None:
    for name in reversed(VIEWS):
        op.execute(f"DROP VIEW {name}")
