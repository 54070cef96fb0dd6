-- Operations that were or are late, with the reason to care.
CREATE VIEW audit_late AS
SELECT audit_operations.*,
       CASE
           WHEN kind = 'generate' AND coalesce(audit_operations.finished_at, now()) > code.starts_at
               THEN 'the PIN was not confirmed on the door when the stay began'
           WHEN kind = 'revoke'
                AND coalesce(audit_operations.finished_at, now()) > due_at + interval '5 minutes'
               THEN 'the PIN was not confirmed off the door five minutes after it was due'
           ELSE 'a worker took it more than a minute late'
       END AS why
FROM audit_operations
JOIN access_codes code ON code.id = audit_operations.access_code_id
WHERE audit_operations.state <> 'cancelled'
  AND due_at <= now()
  AND (late_by > interval '1 minute'
       OR (kind = 'generate' AND due_at < code.starts_at
           AND coalesce(audit_operations.finished_at, now()) > code.starts_at)
       OR (kind = 'revoke'
           AND coalesce(audit_operations.finished_at, now()) > due_at + interval '5 minutes'));

COMMENT ON VIEW audit_late IS 'Operations that were or are late, and why that matters.';
