"""The events of jobs that change together are written together.

Procrastinate writes an event for each job whose status changes, by a function that is called once
for each: for the hundred that a worker begins, or ends, in one statement that took longer than all
else in it. The same events come from one function for all of them.
"""

from __future__ import annotations

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

TOGETHER = """
CREATE FUNCTION pinqueue_tell_job_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO procrastinate_events (job_id, type)
    SELECT id, type FROM (
        SELECT new_jobs.id, CASE
            WHEN old_jobs.status = 'todo' AND new_jobs.status = 'doing' THEN 'started'
            WHEN old_jobs.status = 'doing' AND new_jobs.status = 'todo' THEN 'deferred_for_retry'
            WHEN old_jobs.status = 'doing' AND new_jobs.status = 'failed' THEN 'failed'
            WHEN old_jobs.status = 'doing' AND new_jobs.status = 'succeeded' THEN 'succeeded'
            WHEN old_jobs.status = 'todo' AND new_jobs.status IN ('cancelled', 'failed', 'succeeded')
                THEN 'cancelled'
            WHEN old_jobs.status = 'doing' AND new_jobs.status = 'aborted' THEN 'aborted'
            WHEN old_jobs.status = 'failed' AND new_jobs.status = 'todo' THEN 'retried'
        END::procrastinate_job_event_type AS type
        FROM old_jobs JOIN new_jobs ON new_jobs.id = old_jobs.id
    ) changed
    WHERE type IS NOT NULL;
    RETURN NULL;
END;
$$;
DROP TRIGGER procrastinate_trigger_status_events_update_v1 ON procrastinate_jobs;
CREATE TRIGGER pinqueue_tell_job_events AFTER UPDATE ON procrastinate_jobs
    REFERENCING OLD TABLE AS old_jobs NEW TABLE AS new_jobs
    FOR EACH STATEMENT EXECUTE FUNCTION pinqueue_tell_job_events();
"""
EACH = """
DROP TRIGGER pinqueue_tell_job_events ON procrastinate_jobs;
DROP FUNCTION pinqueue_tell_job_events();
CREATE TRIGGER procrastinate_trigger_status_events_update_v1
    AFTER UPDATE OF status ON procrastinate_jobs
    FOR EACH ROW EXECUTE PROCEDURE procrastinate_trigger_function_status_events_update_v1();
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(TOGETHER)


def downgrade() -> None:
    op.get_bind().exec_driver_sql(EACH)
