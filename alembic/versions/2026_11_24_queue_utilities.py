"""What the queue utilities need: a stay's own lead, jobs in due order by state, counts at once.

Counting a million rows takes a tenth of a second and more, so triggers write down how the counts
change: rows of their own, since one row per count would make all webhooks wait for each other.

Of the jobs of one lock or listing, a page in due order is had from an index only where those three
lie in one row: our record of a job says so of each job that is still there.
"""

from __future__ import annotations

from typing import Any

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

FOLLOWING = """
UPDATE job_records SET next_at = coalesce(job.scheduled_at, record.scheduled_at),
       lock_id = code.lock_id, listing_id = stay.listing_id
FROM job_records record
JOIN operations operation ON operation.id = record.operation_id
JOIN access_codes code ON code.id = operation.access_code_id
JOIN reservations stay ON stay.id = code.reservation_id
LEFT JOIN procrastinate_jobs job ON job.id = record.job_id
WHERE record.job_id = job_records.job_id;
ALTER TABLE job_records ALTER next_at SET NOT NULL, ALTER lock_id SET NOT NULL;
CREATE FUNCTION pinqueue_follow_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE job_records SET next_at = NEW.scheduled_at WHERE job_id = NEW.id;
    RETURN NULL;
END;
$$;
CREATE TRIGGER pinqueue_follow_postponed AFTER UPDATE OF scheduled_at ON procrastinate_jobs
    FOR EACH ROW WHEN (OLD.scheduled_at IS DISTINCT FROM NEW.scheduled_at)
    EXECUTE FUNCTION pinqueue_follow_job();
CREATE FUNCTION pinqueue_follow_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE job_records SET listing_id = NEW.listing_id
    FROM operations operation
    JOIN access_codes code ON code.id = operation.access_code_id
    WHERE code.reservation_id = NEW.id AND job_records.operation_id = operation.id;
    RETURN NULL;
END;
$$;
CREATE TRIGGER pinqueue_follow_relisted AFTER UPDATE OF listing_id ON reservations
    FOR EACH ROW WHEN (OLD.listing_id IS DISTINCT FROM NEW.listing_id)
    EXECUTE FUNCTION pinqueue_follow_stay();
"""

NOT_FOLLOWING = """
DROP TRIGGER pinqueue_follow_postponed ON procrastinate_jobs;
DROP TRIGGER pinqueue_follow_relisted ON reservations;
DROP FUNCTION pinqueue_follow_job();
DROP FUNCTION pinqueue_follow_stay();
"""

UNCOUNTING = """
DROP TRIGGER pinqueue_count_inserted ON procrastinate_jobs;
DROP TRIGGER pinqueue_count_updated ON procrastinate_jobs;
DROP TRIGGER pinqueue_count_deleted ON procrastinate_jobs;
DROP TRIGGER pinqueue_count_truncated ON procrastinate_jobs;
DROP FUNCTION pinqueue_count_jobs();
"""

RECORDED: tuple[sa.Column[Any], ...] = (
    sa.Column(
        "next_at", sa.DateTime(timezone=True), comment="When it rings next, postponed or not"
    ),
    sa.Column("lock_id", sa.Text(), comment="Of its access code"),
    sa.Column("listing_id", sa.Text(), comment="Of its stay"),
)


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
        "pinqueue_jobs_queue_status_scheduled_at",
        "procrastinate_jobs",
        ["queue_name", "status", "scheduled_at", "id"],
    )
    for column in RECORDED:
        op.add_column("job_records", column)
    op.get_bind().exec_driver_sql(FOLLOWING)
    for owner in ("lock", "listing"):
        op.create_index(
            f"ix_job_records_{owner}_next_at",
            "job_records",
            [f"{owner}_id", "next_at", "job_id"],
            postgresql_where=sa.text("state IS NULL"),
        )


def downgrade() -> None:
    op.get_bind().exec_driver_sql(NOT_FOLLOWING)
    op.drop_index("ix_job_records_listing_next_at", "job_records")
    op.drop_index("ix_job_records_lock_next_at", "job_records")
    for column in ("listing_id", "lock_id", "next_at"):
        op.drop_column("job_records", column)
    op.drop_index("pinqueue_jobs_queue_status_scheduled_at", "procrastinate_jobs")
    op.get_bind().exec_driver_sql(UNCOUNTING)
    op.drop_table("job_counts")
    op.drop_column("reservations", "pins_withheld_at")
    op.drop_column("reservations", "lead")
