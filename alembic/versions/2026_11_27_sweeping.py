"""What the sweep asks every few seconds is answered by indexes, and a TRUNCATE leaves no count.

Without them each sweep of each worker reads every event of every job, and every access code that
ever was: with a million jobs ahead half a second of it.

The trigger deleted the counts. A sweep that was summing them up at that moment had deleted them
already, and its sum was not to be seen yet: it came back with its COMMIT, for good.
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

COUNTING = """
CREATE OR REPLACE FUNCTION pinqueue_count_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO job_counts (queue, status, change)
        SELECT queue_name, status, count(*) FROM new_jobs GROUP BY 1, 2;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO job_counts (queue, status, change)
        SELECT queue_name, status, -count(*) FROM old_jobs GROUP BY 1, 2;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO job_counts (queue, status, change)
        SELECT queue_name, status, sum(change) FROM (
            SELECT queue_name, status, -1 AS change FROM old_jobs
            UNION ALL
            SELECT queue_name, status, 1 FROM new_jobs
        ) changes GROUP BY 1, 2 HAVING sum(change) <> 0;
    ELSE
        {emptying};
    END IF;
    RETURN NULL;
END;
$$
"""


def upgrade() -> None:
    op.create_index(
        "pinqueue_events_ended_at",
        "procrastinate_events",
        ["at"],
        postgresql_where=sa.text("type IN ('succeeded', 'cancelled', 'aborted')"),
    )
    op.create_index(
        "ix_access_codes_pin_rests",
        "access_codes",
        [sa.text("coalesce(revoked_at, cancelled_at)")],
        postgresql_where=sa.text("pin_fingerprint IS NOT NULL AND pin_sealed IS NULL"),
    )
    op.get_bind().exec_driver_sql(COUNTING.format(emptying="TRUNCATE job_counts"))


def downgrade() -> None:
    op.get_bind().exec_driver_sql(COUNTING.format(emptying="DELETE FROM job_counts"))
    op.drop_index("ix_access_codes_pin_rests", "access_codes")
    op.drop_index("pinqueue_events_ended_at", "procrastinate_events")
