"""A database with as many stays as a large operator has, written in bulk."""

from __future__ import annotations

import psycopg

BUSY, PAST, QUIET = "lock-busy", "lock-past", "lock-quiet"
"""A lock with a tenth of all stays; one with a twentieth, all over; one with three. The listing of
each is named alike, and so are a thousand others."""

STAYS = """
CREATE TEMP TABLE stays AS
SELECT n, 'res-' || n AS reservation_id,
       CASE WHEN n <= 3 THEN 'lock-quiet'
            WHEN n % 10 = 0 THEN 'lock-busy'
            WHEN n % 20 = 1 THEN 'lock-past'
            ELSE 'lock-' || n % 1000 END AS lock_id,
       ahead,
       date_trunc('second', now())
           + CASE WHEN ahead THEN 1 ELSE -1 END * (n + 7200) * interval '20 seconds' AS starts_at
FROM (SELECT n, n % 20 >= 10 AS ahead FROM generate_series(1, %(stays)s) n) numbered;
ALTER TABLE stays ADD ends_at timestamptz;
UPDATE stays SET ends_at = starts_at + interval '1 day';
CREATE TEMP TABLE ringing AS
SELECT row_number() OVER (ORDER BY n, kind) AS id, stays.*, kind, kind || '_pin' AS queue,
       CASE kind WHEN 'generate' THEN starts_at ELSE ends_at END AS due_at
FROM stays, unnest(ARRAY['generate', 'revoke']) kind;
ALTER TABLE ringing ADD status text;
UPDATE ringing SET status = CASE
    WHEN ahead AND id % 997 = 0 THEN 'cancelled'
    WHEN ahead AND id % 4999 = 0 THEN 'aborted'
    WHEN ahead THEN 'todo'
    WHEN id % 199 = 0 THEN 'failed'
    WHEN id % 4001 = 0 THEN 'waiting'
    WHEN id % 20011 = 0 THEN 'doing'
    ELSE 'succeeded' END;
"""
FILL = """
INSERT INTO locks (id, device_id, protocol) SELECT DISTINCT lock_id, lock_id, 'zigbee' FROM stays;
INSERT INTO listings (id, time_zone) SELECT id, 'UTC' FROM locks;
INSERT INTO listing_locks (listing_id, lock_id) SELECT id, id FROM locks;
INSERT INTO reservations (id, listing_id, status, check_in_at, check_out_at)
SELECT reservation_id, lock_id, 'confirmed', starts_at, ends_at FROM stays;
INSERT INTO access_codes (reservation_id, lock_id, state, starts_at, ends_at, remote_name,
                          pin_sealed, pin_fingerprint, revoked_at)
SELECT reservation_id, lock_id, CASE WHEN ahead THEN 'scheduled' ELSE 'revoked' END,
       starts_at, ends_at, 'pq-' || n,
       CASE WHEN ahead THEN '\\x00'::bytea END, int8send(n),
       CASE WHEN NOT ahead THEN ends_at END
FROM stays ORDER BY n;
INSERT INTO operations (access_code_id, kind, state, due_at, next_at, claimed_at, finished_at,
                        job_id)
SELECT code.id, kind,
       CASE status WHEN 'todo' THEN 'waiting' WHEN 'waiting' THEN 'waiting'
                   WHEN 'doing' THEN 'active'
                   WHEN 'failed' THEN 'failed' WHEN 'succeeded' THEN 'completed'
                   ELSE 'cancelled' END,
       due_at, due_at, CASE WHEN status = 'doing' THEN now() END,
       CASE WHEN status NOT IN ('todo', 'waiting', 'doing') THEN now() END, ringing.id
FROM ringing JOIN access_codes code USING (reservation_id) ORDER BY ringing.id;
INSERT INTO procrastinate_jobs (id, queue_name, task_name, status, scheduled_at, args)
SELECT id, queue, queue,
       CASE status WHEN 'waiting' THEN 'todo' ELSE status END::procrastinate_job_status,
       due_at, jsonb_build_object('operation_id', id)
FROM ringing ORDER BY id;
SELECT setval('procrastinate_jobs_id_seq', (SELECT max(id) FROM procrastinate_jobs));
INSERT INTO procrastinate_events (job_id, type, at)
SELECT id, 'deferred', now() - interval '30 days' FROM ringing
UNION ALL
SELECT id, status::procrastinate_job_event_type, now() FROM ringing
WHERE status NOT IN ('todo', 'waiting', 'doing');
INSERT INTO job_records (job_id, operation_id, queue, task, scheduled_at, next_at, lock_id,
                         listing_id)
SELECT ringing.id, operation.id, queue, queue, ringing.due_at, ringing.due_at, lock_id, lock_id
FROM ringing JOIN operations operation ON operation.job_id = ringing.id ORDER BY ringing.id;
INSERT INTO job_counts (queue, status, change)
SELECT queue_name, status, count(*) FROM procrastinate_jobs GROUP BY 1, 2;
"""


def fill(url: str, stays: int) -> None:
    """That many stays of one lock each, half of them over: two jobs to each, ahead or ended, and
    among the ended ones some that failed, wait or run."""
    with psycopg.connect(url) as connection:
        # Neither foreign keys nor notifications for each of a million rows; the counts follow.
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(STAYS.replace("%(stays)s", str(stays)).encode())
        connection.execute(FILL.encode())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
