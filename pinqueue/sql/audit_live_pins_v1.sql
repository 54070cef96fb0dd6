-- What each door holds, or may hold, and until when.
CREATE VIEW audit_live_pins AS
SELECT lock_id, id AS access_code_id, reservation_id, state, starts_at, ends_at,
       state = 'active' AS confirmed
FROM access_codes
WHERE state IN ('sent', 'active', 'revoking')
   OR (state IN ('generating', 'failed')
       AND (remote_id IS NOT NULL OR create_in_doubt_since IS NOT NULL));

COMMENT ON VIEW audit_live_pins IS
    'What each door holds, or may hold where confirmed is false, and until when.';
