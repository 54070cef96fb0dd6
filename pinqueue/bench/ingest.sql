-- What one accepted webhook writes, typed by hand for pgbench: the same rows, in plain statements.
-- A colon before a letter or a digit would be a variable of pgbench's, hence these times and chr(58).
\set listing random(1, 500)
\set n random(1, 9000000000000000)
BEGIN;
SELECT kind, secret, enabled FROM sources WHERE id = 'bench';
INSERT INTO webhook_events (source_id, event_id, body_sha256, type, body, outcome, reservation_id, listing_id)
VALUES ('bench', 'msg-' || :n, sha256('body'), 'reservation.created',
        '{"type": "reservation.created", "timestamp": "20261101T095958Z",
          "data": {"reservation_id": "res-123", "listing_id": "bench-1", "status": "confirmed",
                   "check_in": "20261224T150000-0300", "check_out": "20261226T100000-0300",
                   "guest": {"name": "Ana", "phone": "+55 11 5550 0100"}}}',
        'accepted', 'res-' || :n, 'bench-' || :listing)
ON CONFLICT (source_id, event_id) DO NOTHING;
SELECT lock.* FROM listing_locks JOIN locks lock ON lock.id = lock_id WHERE listing_id = 'bench-' || :listing;
INSERT INTO reservations (id, source_id, listing_id, status, check_in_at, check_out_at, guest_name, guest_phone,
                          told)
VALUES ('res-' || :n, 'bench', 'bench-' || :listing, 'confirmed', now() + interval '60 days',
        now() + interval '62 days', 'Ana', '+55 11 5550 0100',
        '[{"updated_at": "20261101T095958Z", "event_at": "20261101T095958Z", "cancels": false, "event_id": "msg-1",
           "fields": {"status": "confirmed", "listing_id": "bench-1", "check_in": "20261224T150000-0300",
                      "check_out": "20261226T100000-0300", "guest_name": "Ana", "guest_phone": "+55 11 5550 0100"}}]');
INSERT INTO access_codes (reservation_id, lock_id, state, starts_at, ends_at, remote_name, pin_sealed, pin_fingerprint)
VALUES ('res-' || :n, 'bench-' || :listing, 'scheduled', now() + interval '60 days', now() + interval '62 days',
        'pq-' || :n, decode(repeat('ab', 120), 'hex'), sha256(('pin-' || :n)::bytea))
RETURNING id AS code \gset
WITH made AS (
    INSERT INTO operations (access_code_id, kind, due_at, next_at)
    SELECT :code, kind, now() + ahead, now() + ahead
    FROM (VALUES ('generate', interval '60 days'), ('revoke', interval '62 days')) planned (kind, ahead)
    RETURNING id
)
SELECT min(id) AS generate, max(id) AS revoke FROM made \gset
SELECT ids[1] AS first, ids[2] AS second FROM procrastinate_defer_jobs_v1(ARRAY[
    ROW('generate_pin', 'generate_pin', 0, NULL, NULL, jsonb_build_object('operation_id', :generate::bigint),
        now() + interval '60 days'),
    ROW('revoke_pin', 'revoke_pin', 0, NULL, NULL, jsonb_build_object('operation_id', :revoke::bigint),
        now() + interval '62 days')
]::procrastinate_job_to_defer_v1[]) AS ids \gset
UPDATE operations SET job_id = CASE kind WHEN 'generate' THEN :first::bigint ELSE :second::bigint END
WHERE id IN (:generate::bigint, :revoke::bigint);
INSERT INTO job_records (job_id, operation_id, queue, task, scheduled_at, next_at, lock_id, listing_id)
VALUES (:first, :generate, 'generate_pin', 'generate_pin', now() + interval '60 days', now() + interval '60 days',
        'bench-' || :listing, 'bench-' || :listing),
       (:second, :revoke, 'revoke_pin', 'revoke_pin', now() + interval '62 days', now() + interval '62 days',
        'bench-' || :listing, 'bench-' || :listing);
INSERT INTO audit_events (actor, event, reservation_id, access_code_id, lock_id, detail)
VALUES ('source' || chr(58) || 'bench', 'reservation' || chr(58) || 'confirmed', 'res-' || :n::text, NULL::bigint, NULL, jsonb_build_object('event_id', 'msg')),
       ('source' || chr(58) || 'bench', 'code' || chr(58) || 'scheduled', 'res-' || :n::text, :code::bigint, 'bench-' || :listing::text,
        jsonb_build_object('starts_at', now(), 'ends_at', now(), 'generate_at', now()));
COMMIT;
