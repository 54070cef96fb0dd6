"""Only a job that is due soon is notified of.

Procrastinate notifies every worker twice of each job, also of those that are months away, and a
notification takes a lock of the whole database at COMMIT. Workers look at what is due next every
five seconds (`ringing.LOOK_EVERY`), so what is further away they find themselves. A job that is put
off for a moment, or given back, is notified of as well: any worker may be the next to have it.
"""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

NEAR = """
DROP TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1 ON procrastinate_jobs;
CREATE TRIGGER pinqueue_notify_near_job
    AFTER INSERT OR UPDATE OF status ON procrastinate_jobs
    FOR EACH ROW WHEN (
        NEW.status = 'todo'
        AND (NEW.scheduled_at IS NULL OR NEW.scheduled_at <= now() + interval '30 seconds'))
    EXECUTE FUNCTION procrastinate_notify_queue_job_inserted_v1();
"""
ALL = """
DROP TRIGGER pinqueue_notify_near_job ON procrastinate_jobs;
CREATE TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1
    AFTER INSERT ON procrastinate_jobs
    FOR EACH ROW WHEN (NEW.status = 'todo'::procrastinate_job_status)
    EXECUTE FUNCTION procrastinate_notify_queue_job_inserted_v1();
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(NEAR)


def downgrade() -> None:
    op.get_bind().exec_driver_sql(ALL)
