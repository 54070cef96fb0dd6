"""Procrastinate's own schema, first half: up to its release 2.6.

The files are the ones Procrastinate ships; they are append-only there, so naming them here pins what
this revision does. It stops where they add enum values, because PostgreSQL wants those committed
before the next files use them.
"""

from __future__ import annotations

from pathlib import Path

from procrastinate.schema import SchemaManager

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

FILES = (
    "00.00.00_01_initial.sql",
    "00.05.00_01_drop_started_at_column.sql",
    "00.05.00_02_drop_started_at_column.sql",
    "00.05.00_03_drop_procrastinate_version_table.sql",
    "00.06.00_01_fix_procrastinate_fetch_job.sql",
    "00.07.01_01_fix_trigger_status_events_insert.sql",
    "00.08.01_01_add_queueing_lock_column.sql",
    "00.10.00_01_close_fetch_job_race_condition.sql",
    "00.10.00_02_add_defer_job_function.sql",
    "00.11.00_03_add_procrastinate_periodic_defers.sql",
    "00.12.00_01_add_foreign_key_index.sql",
    "00.14.00_01_add_locks_to_periodic_defer.sql",
    "00.15.02_01_fix_procrastinate_defer_periodic_job.sql",
    "00.16.00_01_add_finish_job_and_retry_job_functions.sql",
    "00.17.00_01_add_trigger_on_job_deletion.sql",
    "00.17.00_02_delete_finished_jobs.sql",
    "00.17.00_03_add_checks_to_finish_job.sql",
    "00.17.00_04_add_checks_to_retry_job.sql",
    "00.18.01_01_fix_finish_job_compat_issue.sql",
    "00.19.00_01_add_index_on_procrastinate_jobs.sql",
    "00.22.00_01_add_kwargs_to_defer_periodic_job.sql",
    "00.23.00_01_null_locks_excluded.sql",
    "01.00.00_01_remove_old_finish_job_function.sql",
    "01.01.01_01_job_id_bigint.sql",
    "02.00.03_01_add_job_priority.sql",
    "02.05.00_01_add_periodic_job_priority.sql",
    "02.06.00_01_add_cancel_states.sql",
)


def upgrade() -> None:
    folder = Path(SchemaManager.get_migrations_path())
    for name in FILES:
        # no_parameters: the files hold percent signs that are not placeholders.
        op.get_bind().exec_driver_sql(
            (folder / name).read_text(encoding="utf-8"), execution_options={"no_parameters": True}
        )


def downgrade() -> None:
    """Drops whatever bears Procrastinate's name: its own files know no way back."""
    op.get_bind().exec_driver_sql(
        """
        DROP TABLE procrastinate_events, procrastinate_periodic_defers, procrastinate_jobs,
            procrastinate_workers CASCADE;
        DO $$
        DECLARE item text;
        BEGIN
            FOR item IN
                SELECT p.oid::regprocedure::text FROM pg_proc p
                WHERE p.pronamespace = current_schema()::regnamespace
                  AND p.proname LIKE 'procrastinate\\_%'
            LOOP
                EXECUTE 'DROP FUNCTION ' || item || ' CASCADE';
            END LOOP;
            FOR item IN
                SELECT t.oid::regtype::text FROM pg_type t
                WHERE t.typnamespace = current_schema()::regnamespace
                  AND t.typname LIKE 'procrastinate\\_%' AND t.typtype IN ('e', 'c')
            LOOP
                EXECUTE 'DROP TYPE ' || item || ' CASCADE';
            END LOOP;
        END
        $$;
        """,
        execution_options={"no_parameters": True},
    )
