-- Every operation: what was to be done on which door, when, and what came of it.
CREATE VIEW audit_operations AS
SELECT operation.id AS operation_id,
       operation.kind,
       operation.access_code_id,
       code.reservation_id,
       code.lock_id,
       operation.state,
       code.state AS code_state,
       operation.due_at,
       operation.first_claimed_at AS started_at,
       operation.finished_at,
       CASE WHEN operation.state IN ('waiting', 'active') THEN operation.next_at END AS next_at,
       operation.epoch AS attempts,
       operation.failures,
       operation.rescues,
       CASE WHEN operation.state = 'cancelled' THEN NULL
            ELSE greatest(
                coalesce(operation.first_claimed_at, operation.finished_at, now())
                    - operation.due_at,
                interval '0')
       END AS late_by,
       operation.last_error
FROM operations operation
JOIN access_codes code ON code.id = operation.access_code_id;

COMMENT ON VIEW audit_operations IS
    'Each generate and revoke. late_by: from when it was due to when a worker first took it.';
