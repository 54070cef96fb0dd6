"""Procrastinate's own schema, second half: as of its release 3.10.

A later release's files get a revision of their own.
"""

from __future__ import annotations

from pathlib import Path

from procrastinate.schema import SchemaManager

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

FILES = (
    "02.08.00_01_add_additional_params_to_retry_job.sql",
    "02.14.01_01_add_indexes_for_fetch_job.sql",
    "03.00.00_01_pre_cancel_notification.sql",
    "03.00.00_50_post_cancel_notification.sql",
    "03.01.00_01_pre_add_heartbeat.sql",
    "03.01.00_50_post_add_heartbeat.sql",
    "03.02.00_01_pre_batch_defer_jobs.sql",
    "03.02.00_50_post_batch_defer_jobs.sql",
    "03.03.00_01_pre_priority_lock_fetch_job.sql",
    "03.04.00_01_pre_add_retry_failed_job_procedure.sql",
    "03.04.00_50_post_add_retry_failed_job_procedure.sql",
)


def upgrade() -> None:
    folder = Path(SchemaManager.get_migrations_path())
    for name in FILES:
        # no_parameters: the files hold percent signs that are not placeholders.
        op.get_bind().exec_driver_sql(
            (folder / name).read_text(encoding="utf-8"), execution_options={"no_parameters": True}
        )


def downgrade() -> None:
    """Nothing: these files have no way back, and the revision before drops the schema whole."""
