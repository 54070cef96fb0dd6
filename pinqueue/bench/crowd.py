"""Stays ahead, as many as a large operator has, with everything that belongs to them: what a queue
must carry without being slower."""

from __future__ import annotations

import psycopg

AHEAD = """
INSERT INTO listings (id, time_zone) SELECT 'ahead-' || n, 'UTC' FROM generate_series(0, 999) n
ON CONFLICT DO NOTHING;
INSERT INTO locks (id, device_id, protocol)
SELECT 'ahead-' || n, 'ahead-' || n, 'zigbee' FROM generate_series(0, 999) n
ON CONFLICT DO NOTHING;
CREATE TEMP TABLE stays AS
SELECT n, 'ahead-' || n AS id, 'ahead-' || n % 1000 AS place, starts_at,
       starts_at + interval '2 days' AS ends_at
FROM (
    -- All ring at ten and at three, from a month ahead to a year and a half.
    SELECT n, date_trunc('day', now()) + interval '30 days' + n % 500 * interval '1 day'
              + interval '15 hours' AS starts_at
    FROM generate_series(1, {stays}) n
) numbered;
INSERT INTO reservations (id, listing_id, status, check_in_at, check_out_at)
SELECT id, place, 'confirmed', starts_at, ends_at FROM stays;
INSERT INTO access_codes (reservation_id, lock_id, state, starts_at, ends_at, remote_name,
                          pin_sealed, pin_hash, pin_fingerprint)
SELECT id, place, 'scheduled', starts_at, ends_at, 'ahead-' || n, decode(repeat('ab', 120), 'hex'),
       repeat('x', 60), sha256(id::bytea)
FROM stays;
CREATE TEMP TABLE ringing AS
SELECT code.id AS code, place, kind, kind || '_pin' AS queue,
       CASE kind WHEN 'generate' THEN stays.starts_at - interval '1 hour' ELSE stays.ends_at END
           AS due_at,
       -(extract(epoch FROM CASE kind WHEN 'generate' THEN stays.starts_at ELSE stays.ends_at END)
         / 60)::integer AS priority,
       nextval('procrastinate_jobs_id_seq') AS job
FROM stays JOIN access_codes code ON code.reservation_id = stays.id,
     unnest(ARRAY['generate', 'revoke']) kind;
INSERT INTO operations (access_code_id, kind, due_at, next_at, job_id)
SELECT code, kind, due_at, due_at, job FROM ringing;
INSERT INTO procrastinate_jobs (id, queue_name, task_name, priority, scheduled_at, args)
SELECT job, queue, queue, priority, ringing.due_at, jsonb_build_object('operation_id', operation.id)
FROM ringing JOIN operations operation ON operation.job_id = job;
INSERT INTO procrastinate_events (job_id, type, at)
SELECT job, 'deferred'::procrastinate_job_event_type, now() FROM ringing UNION ALL
SELECT job, 'scheduled', due_at FROM ringing;
INSERT INTO job_records (job_id, operation_id, queue, task, scheduled_at, next_at, lock_id,
                         listing_id)
SELECT job, operation.id, queue, queue, ringing.due_at, ringing.due_at, place, place
FROM ringing JOIN operations operation ON operation.job_id = job;
INSERT INTO job_counts (queue, status, change)
SELECT queue, 'todo', count(*) FROM ringing GROUP BY 1;
"""


def fill(url: str, jobs: int, *, analyse: bool = True) -> None:
    """So many jobs that are months ahead, two to each stay."""
    with psycopg.connect(url) as connection:
        # Neither foreign keys nor notifications for each of a million rows; the counts follow.
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(AHEAD.format(stays=jobs // 2).encode())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE" if analyse else "VACUUM")
