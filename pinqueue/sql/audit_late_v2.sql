-- Operations that were or are late, or threaten to be, with the reason to care.
CREATE VIEW audit_late AS
SELECT audit_operations.*,
       operation.late_since,
       CASE
           WHEN audit_operations.kind = 'generate' AND audit_operations.due_at < code.starts_at
                AND coalesce(audit_operations.finished_at, now()) > code.starts_at
               THEN 'the PIN was not confirmed on the door when the stay began'
           WHEN audit_operations.kind = 'generate' AND operation.late_since IS NOT NULL
               THEN 'the PIN was not confirmed on the door in good time'
           WHEN audit_operations.kind = 'revoke'
                AND coalesce(audit_operations.finished_at, now())
                    > audit_operations.due_at + interval '5 minutes'
               THEN 'the PIN was not confirmed off the door five minutes after it was due'
           ELSE 'a worker took it more than a minute late'
       END AS why
FROM audit_operations
JOIN operations operation ON operation.id = audit_operations.operation_id
JOIN access_codes code ON code.id = audit_operations.access_code_id
WHERE audit_operations.state <> 'cancelled'
  AND audit_operations.due_at <= now()
  AND (late_by > interval '1 minute'
       OR operation.late_since IS NOT NULL
       OR (audit_operations.kind = 'generate' AND audit_operations.due_at < code.starts_at
           AND coalesce(audit_operations.finished_at, now()) > code.starts_at)
       OR (audit_operations.kind = 'revoke'
           AND coalesce(audit_operations.finished_at, now())
               > audit_operations.due_at + interval '5 minutes'));

COMMENT ON VIEW audit_late IS
    'Operations that were or are late, or threaten to be (late_since), and why that matters.';
