"""What the queue utilities need: a stay's own lead, jobs in due order by state, counts at once.

Counting a million rows takes a tenth of a second and more, so triggers write down how the counts
change: rows of their own, since one row per count would make all webhooks wait for each other.
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

COUNTING = """
CREATE FUNCTION pinqueue_count_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
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
        DELETE FROM job_counts;
    END IF;
    RETURN NULL;
END;
$$;
LOCK TABLE procrastinate_jobs IN SHARE ROW EXCLUSIVE MODE;
INSERT INTO job_counts (queue, status, change)
SELECT queue_name, status, count(*) FROM procrastinate_jobs GROUP BY 1, 2;
CREATE TRIGGER pinqueue_count_inserted AFTER INSERT ON procrastinate_jobs
    REFERENCING NEW TABLE AS new_jobs FOR EACH STATEMENT EXECUTE FUNCTION pinqueue_count_jobs();
CREATE TRIGGER pinqueue_count_updated AFTER UPDATE ON procrastinate_jobs
    REFERENCING OLD TABLE AS old_jobs NEW TABLE AS new_jobs
    FOR EACH STATEMENT EXECUTE FUNCTION pinqueue_count_jobs();
CREATE TRIGGER pinqueue_count_deleted AFTER DELETE ON procrastinate_jobs
    REFERENCING OLD TABLE AS old_jobs FOR EACH STATEMENT EXECUTE FUNCTION pinqueue_count_jobs();
CREATE TRIGGER pinqueue_count_truncated AFTER TRUNCATE ON procrastinate_jobs
    FOR EACH STATEMENT EXECUTE FUNCTION pinqueue_count_jobs();
"""

UNCOUNTING = """
DROP TRIGGER pinqueue_count_inserted ON procrastinate_jobs;
DROP TRIGGER pinqueue_count_updated ON procrastinate_jobs;
DROP TRIGGER pinqueue_count_deleted ON procrastinate_jobs;
DROP TRIGGER pinqueue_count_truncated ON procrastinate_jobs;
DROP FUNCTION pinqueue_count_jobs();
"""


def upgrade() -> None:
    op.add_column(
        "reservations",
        sa.Column(
            "lead",
            sa.Interval(),
            nullable=True,
            comment="How long before check-in its PINs are programmed; NULL: as its listing says",
        ),
    )
    op.create_check_constraint(
        op.f("ck_reservations_lead_not_negative"), "reservations", "lead >= interval '0'"
    )
    op.add_column(
        "reservations",
        sa.Column(
            "pins_withheld_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Its jobs were cancelled by hand: no PIN until they are scheduled again",
        ),
    )
    op.create_table(
        "job_counts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column(
            "status",
            sa.Text(),
            nullable=False,
            comment="Procrastinate's word: todo, doing, succeeded, ...",
        ),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_counts")),
    )
    op.get_bind().exec_driver_sql(COUNTING)
    op.create_index(
        "pinqueue_jobs_status_scheduled_at",
        "procrastinate_jobs",
        ["status", "scheduled_at", "id"],
    )


def downgrade() -> None:
    op.drop_index("pinqueue_jobs_status_scheduled_at", "procrastinate_jobs")
    op.get_bind().exec_driver_sql(UNCOUNTING)
    op.drop_table("job_counts")
    op.drop_column("reservations", "pins_withheld_at")
    op.drop_column("reservations", "lead")
